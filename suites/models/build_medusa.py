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
import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from build import HERE, SEED
from build_eagle3 import LENGTH, TEXTS, acceptance, corpus, prompts, scaled
from eagle3_training import target_rows
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from training_parts import cosine_share, shown, write_whole

from pytest_specdec.checkpoints.medusa_checks import read_medusa
from pytest_specdec.decoding.drafters.residual_heads import ResidualHeads
from pytest_specdec.decoding.loading import LoadedModel, load_model

NAME, TARGET = "text-medusa", "text-target"
ROWS = {1.0: 1200, 0.0: 400}
"""Training rows by the temperature of the target."""
WEIGHTS, FIRST, SECOND = "weights.", "first.", "second."
"""Beginnings of names in a training's checkpoint: the weights and AdamW's two moments."""


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


class MedusaTraining:
    """Heads in training: `folder` holds their config.json and the weights to begin with; `rows` are
    texts of the target (rows, length).
    """

    def __init__(
        self, target: LoadedModel, folder: Path, rows: torch.Tensor, recipe: MedusaRecipe
    ) -> None:
        self._files = read_medusa(target.checkpoint, folder)
        self._target, self._rows, self._recipe = target, rows, recipe
        self._heads = ResidualHeads(self._files, target).requires_grad_(True)
        parameters = list(self._heads.parameters())
        self._optimizer = torch.optim.AdamW(
            parameters, lr=recipe.rate, betas=(0.9, 0.95), weight_decay=0.01
        )
        self._step = 0

    def run(self, checkpoint: Path, held_out: torch.Tensor, *, every: int = 100) -> None:
        """Train to the recipe's last step and write the weights into the folder; every so many
        steps the training is saved at `checkpoint` and the agreement on held-out rows is shown.
        """
        self._resume(checkpoint)
        started = time.monotonic()
        while self._step < self._recipe.steps:
            loss = self._learn()
            if self._step % every == 0 or self._step == self._recipe.steps:
                self._keep(checkpoint)
                print(
                    f"{NAME} step {self._step}/{self._recipe.steps} loss {loss:.3f} overlaps "
                    f"{shown(self._overlaps(held_out))} {time.monotonic() - started:.0f} s",
                    flush=True,
                )
        self._save()

    def _drafts(self, rows: torch.Tensor) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Of each head: the target's probabilities of the token that it drafts (rows, anchors,
        vocabulary), and the head's logits.
        """
        with torch.no_grad():
            passed = self._target.model(rows, output_hidden_states=True)
            p = passed.logits.float().softmax(-1)
        state = passed.hidden_states[-1].clone()
        for head in range(self._recipe.heads):
            logits = self._heads.logits(head, state[:, : -head - 1]).float()
            yield p[:, head + 1 :], logits

    @torch.no_grad()
    def _overlaps(self, rows: torch.Tensor) -> list[float]:
        """The chance that each head's draft is accepted, whatever came before it."""
        return [
            torch.minimum(p, logits.softmax(-1)).sum(-1).mean().item()
            for p, logits in self._drafts(rows)
        ]

    def _learn(self) -> float:
        """One step of AdamW, with a short rise of the rate and a cosine to zero."""
        recipe = self._recipe
        generator = torch.Generator().manual_seed(recipe.seed * 1_000_003 + self._step)
        chosen = torch.randint(len(self._rows), (recipe.batch,), generator=generator)
        shares = [recipe.decay**head for head in range(recipe.heads)]
        parts = [
            share * -(p * logits.log_softmax(-1)).sum(-1).mean()
            for share, (p, logits) in zip(shares, self._drafts(self._rows[chosen]), strict=True)
        ]
        loss = torch.stack(parts).sum() / sum(shares)
        for group in self._optimizer.param_groups:
            group["lr"] = recipe.rate * cosine_share(self._step / recipe.steps)
        self._optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self._heads.parameters(), 1.0)
        self._optimizer.step()
        self._step += 1
        return loss.item()

    def _keep(self, path: Path) -> None:
        tensors = {}
        for name, tensor in self._heads.named_parameters():
            state = self._optimizer.state[tensor]
            tensors[WEIGHTS + name] = tensor.detach().contiguous()
            tensors[FIRST + name] = state["exp_avg"].contiguous()
            tensors[SECOND + name] = state["exp_avg_sq"].contiguous()
        write_whole(tensors, path, {"step": str(self._step), "recipe": self._recipe_text()})

    def _resume(self, path: Path) -> None:
        """Go on from a checkpoint of the same recipe; one of another recipe is left alone."""
        if not path.is_file():
            return
        with safe_open(path, "pt") as file:
            about = file.metadata()
        if about.get("recipe") != self._recipe_text():
            return
        tensors, self._step = load_file(path), int(about["step"])
        for name, tensor in self._heads.named_parameters():
            tensor.data.copy_(tensors[WEIGHTS + name])
            self._optimizer.state[tensor] = {
                "step": torch.tensor(float(self._step)),
                "exp_avg": tensors[FIRST + name],
                "exp_avg_sq": tensors[SECOND + name],
            }

    def _recipe_text(self) -> str:
        return json.dumps(dataclasses.asdict(self._recipe), sort_keys=True)

    def _save(self) -> None:
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
    training.run(kept / f"{NAME}-{scale:g}.safetensors", held_out[: 32 * LENGTH].view(-1, LENGTH))
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
