"""Train the embedded Medusa heads, `text-medusa`, which draft for `text-target`.

    python suites/models/build_medusa.py          # about 15 minutes on one core

Each of four heads learns the target's distribution of one token from the target's last hidden state
(Cai et al., arXiv 2401.10774), on texts that the target wrote itself. Output layers begin as the
target's own, residual layers as zero, so a new head drafts what the target would emit next. It
trains on one thread, so the same seed, Python and torch give the same weights on any number of
cores. A training that was stopped goes on where it was last saved.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import torch
from build import HERE, SEED
from build_eagle3 import LENGTH, TEXTS, acceptance, corpus, prompts, scaled
from eagle3_training import target_rows
from resumable_training import ResumableTraining, decaying_loss
from safetensors.torch import save_file
from training_parts import shown

from pytest_specdec.checkpoints.medusa_checks import read_medusa
from pytest_specdec.decoding.drafters.residual_heads import ResidualHeads
from pytest_specdec.decoding.loading import LoadedModel, load_model

NAME, TARGET = "text-medusa", "text-target"
ROWS = {1.0: 1200, 0.0: 400}
"""Training rows by the temperature of the target."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class MedusaRecipe:
    """How heads are trained."""

    heads: int = 4
    steps: int = 1000
    decay: float = 0.8
    """Each head's loss counts by this share of the one before."""
    batch: int = 8
    rate: float = 2e-3
    seed: int = SEED


def write_new_heads(folder: Path, target: LoadedModel, recipe: MedusaRecipe) -> None:
    """Untrained heads: zero in the residual layers, the target's own output layers."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "architectures": ["MedusaModel"],
        "medusa_num_heads": recipe.heads,
        "medusa_num_layers": 1,
        "hidden_size": target.model.config.hidden_size,
        "vocab_size": target.model.config.vocab_size,
    }
    (folder / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    output = target.model.get_output_embeddings().weight.detach()
    width = output.shape[1]
    tensors = {}
    for head in range(recipe.heads):
        tensors[f"{head}.0.linear.weight"] = torch.zeros(width, width)
        tensors[f"{head}.0.linear.bias"] = torch.zeros(width)
        tensors[f"{head}.1.weight"] = output.clone()
    save_file(tensors, folder / "medusa_lm_head.safetensors")


class MedusaTraining(ResumableTraining):
    """Heads in training: `folder` holds their config.json and the weights to begin with; `rows` are
    texts of the target (rows, length).
    """

    def __init__(
        self, target: LoadedModel, folder: Path, rows: torch.Tensor, recipe: MedusaRecipe
    ) -> None:
        self._files = read_medusa(target.checkpoint, folder)
        self._target = target
        self._heads = ResidualHeads(self._files, target).requires_grad_(True)
        every = {"params": list(self._heads.parameters()), "weight_decay": 0.01, "share": 1.0}
        super().__init__(self._heads, rows, recipe, groups=[every], name=NAME)

    def loss(self, rows: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        return decaying_loss(
            self._drafts(rows), self.recipe.heads, self.recipe.decay, complete=True
        )

    def progress(self, held_out: torch.Tensor) -> str:
        return f"overlaps {shown(self._overlaps(held_out))}"

    def _drafts(self, rows: torch.Tensor) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Of each head: the target's probabilities of the token that it drafts (rows, anchors,
        vocabulary), and the head's logits.
        """
        with torch.no_grad():
            passed = self._target.model(rows, output_hidden_states=True)
            p = passed.logits.float().softmax(-1)
        state = passed.hidden_states[-1].clone()
        for head in range(self.recipe.heads):
            logits = self._heads.logits(head, state[:, : -head - 1]).float()
            yield p[:, head + 1 :], logits

    @torch.no_grad()
    def _overlaps(self, rows: torch.Tensor) -> list[float]:
        """The chance that each head's draft is accepted, whatever came before it."""
        return [
            torch.minimum(p, logits.softmax(-1)).sum(-1).mean().item()
            for p, logits in self._drafts(rows)
        ]

    def _recipe_text(self) -> str:
        return json.dumps(dataclasses.asdict(self.recipe), sort_keys=True)

    def save(self) -> None:
        """Write the weights in bfloat16, in the names of their packaging."""
        (path,) = self._files.checkpoint.weight_files
        tensors = {
            theirs: self._heads.weights[ours.replace(".", "_")].detach().bfloat16().contiguous()
            for ours, theirs in self._files.names.items()
        }
        save_file(tensors, path, metadata={"format": "pt"})


def build(output: Path, kept: Path, scale: float) -> None:
    """Sample texts, train the heads and write their folder."""
    target = load_model(str(HERE / TARGET), "cpu")
    stream, held_out = corpus(target.tokenizer)
    recipe = MedusaRecipe(steps=scaled(MedusaRecipe.steps, scale))
    rows = torch.cat(
        [
            target_rows(
                target,
                prompts(stream, scaled(count, scale), SEED + index),
                length=LENGTH,
                temperature=temperature,
                seed=SEED,
                kept=kept / f"rows-{temperature:g}-{scale:g}.safetensors",
            )
            for index, (temperature, count) in enumerate(ROWS.items())
        ]
    )
    folder = output / NAME
    shutil.rmtree(folder, ignore_errors=True)
    write_new_heads(folder, target, recipe)
    training = MedusaTraining(target, folder, rows, recipe)
    training.run(
        kept / f"{NAME}-{scale:g}.safetensors",
        held_out[: 32 * LENGTH].view(-1, LENGTH),
        show=functools.partial(print, flush=True),
    )
    card = {
        "recipe": dataclasses.asdict(recipe),
        "target": TARGET,
        "held_out_conditional_acceptance": acceptance(
            target, folder, prompts(held_out, scaled(TEXTS, scale), SEED), k=recipe.heads
        ),
    }
    (folder / "training.json").write_text(json.dumps(card, indent=2, sort_keys=True) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--output", type=Path, default=HERE, help="folder of the checkpoint folders (default: here)"
    )
    parser.add_argument(
        "--kept", type=Path, default=HERE / ".medusa", help="folder of unfinished trainings"
    )
    parser.add_argument(
        "--scale", type=float, default=1.0, help="fraction of the training, for a trial"
    )
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    build(arguments.output, arguments.kept, arguments.scale)


if __name__ == "__main__":
    main()
