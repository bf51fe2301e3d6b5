"""Train a DFlash drafter for any causal language model whose decoder layers can be hooked.

As DFlash is trained (z-lab, SpecForge): blocks begin at positions drawn at random from a text that
the target wrote, each reads the target's states before it, and each of its masks learns the
target's distribution of the token at its place. A block is always as long as the one that the
drafter will draft with.

    write_new_block(folder, config, target, seed=0)
    BlockTraining(target, folder, rows, BlockRecipe(steps=800)).run(checkpoint, held_out)
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from resumable_training import ResumableTraining, decaying_loss, matrices_and_norms
from safetensors.torch import save_file
from training_parts import shown

from pytest_specdec.cases.drafter import DFLASH
from pytest_specdec.checkpoints.block_checks import block_shapes, checked_block
from pytest_specdec.checkpoints.block_config import read_block_config
from pytest_specdec.decoding.drafters.block_forcing import teacher_forced_blocks
from pytest_specdec.decoding.drafters.block_head import BlockHead
from pytest_specdec.decoding.layer_states import captured_states
from pytest_specdec.decoding.loading import LoadedModel

SPREAD = 0.02
"""Standard deviation of new matrices, as transformers initialises them."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class BlockRecipe:
    """How a drafter is trained."""

    steps: int
    anchors: int = 40
    """Blocks that are trained of every text in a batch."""
    decay: float = 0.8
    """Each draft counts by this share of the one before."""
    batch: int = 16
    rate: float = 3e-3
    norm_rate: float = 3.0
    """The norms' share of the rate."""
    seed: int = 0


def write_new_block(
    folder: Path, config: Mapping[str, Any], target: LoadedModel, seed: int
) -> None:
    """An untrained DFlash drafter: config.json, and weights that the configuration implies. The
    norm before the target's output layer begins as the target's own.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "config.json"
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    shapes, _ = block_shapes(read_block_config(path, config, DFLASH), config["vocab_size"])
    generator = torch.Generator().manual_seed(seed)
    tensors = {
        name: torch.ones(shape)
        if len(shape) == 1
        else torch.randn(shape, generator=generator) * SPREAD
        for name, shape in shapes.items()
    }
    norm = getattr(target.model.get_decoder(), "norm", None)
    if norm is not None:
        tensors["norm.weight"] = norm.weight.detach().float().cpu().clone()
    save_file(tensors, folder / "model.safetensors")


class BlockTraining(ResumableTraining):
    """A drafter in training: `folder` holds its config.json and the weights to begin with.

    `rows` are texts as token ids (rows, length); texts and anchors of a step are drawn by the
    recipe's seed and the number of the step alone. It trains in the target's number format: load
    that in float32.
    """

    def __init__(
        self, target: LoadedModel, folder: Path, rows: torch.Tensor, recipe: BlockRecipe
    ) -> None:
        files = checked_block(target.checkpoint, folder, DFLASH)
        self.target, self.folder = target, folder
        self.head = BlockHead(files, target).requires_grad_(True)
        self._reads, self._k = files.states, files.config.most_drafts
        super().__init__(
            self.head,
            rows,
            recipe,
            groups=matrices_and_norms(self.head, recipe.norm_rate),
            name=folder.name,
            device=target.device,
        )

    def save(self, dtype: torch.dtype = torch.bfloat16) -> None:
        """Write the weights in that number format."""
        tensors = {
            name: tensor.detach().to("cpu", dtype).contiguous()
            for name, tensor in self.head.state_dict().items()
        }
        save_file(tensors, self.folder / "model.safetensors", metadata={"format": "pt"})

    @torch.no_grad()
    def overlap(self, rows: torch.Tensor) -> list[float]:
        """By draft: the mean over the rows' anchors of the sum of min(p, q), the chance that a
        draft is accepted where those before it are the text's own.
        """
        totals = torch.zeros(self._k)
        parts = rows.split(self.recipe.batch)
        for part in parts:
            anchors = torch.arange(8, rows.shape[1] - 1 - self._k, 4)
            for step, (p, logits) in enumerate(self._drafts(part, anchors)):
                totals[step] += torch.minimum(p, logits.softmax(-1)).sum(-1).mean().cpu()
        means: list[float] = (totals / len(parts)).tolist()
        return means

    def _drafts(
        self, rows: torch.Tensor, anchors: torch.Tensor
    ) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Of each draft: the target's probabilities and the drafter's logits, (rows, anchors,
        vocabulary).
        """
        ids, anchors = rows.to(self.target.device), anchors.to(self.target.device)
        with torch.no_grad(), captured_states(self.target, self._reads) as states:
            p = self.target.model(ids).logits.float().softmax(-1)
        joined = torch.cat([states[number] for number in self._reads], -1).clone()
        blocks = teacher_forced_blocks(self.head, ids, joined, self._k, anchors)
        found = []
        for step in range(self._k):
            state = blocks[:, :, self.head.config.first_row + step]
            logits, _ = self.head.draft_logits(step, state, ids[:, anchors + step], None)
            found.append((p[:, anchors + step], logits.float()))
        return found

    def loss(self, rows: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        length = self.rows.shape[1]
        possible = torch.randperm(length - 1 - self._k - 1, generator=generator) + 1
        anchors = possible[: self.recipe.anchors].sort().values
        return decaying_loss(self._drafts(rows, anchors), self._k, self.recipe.decay, complete=True)

    def progress(self, held_out: torch.Tensor) -> str:
        return f"overlap {shown(self.overlap(held_out))}"

    def _recipe_text(self) -> str:
        config = (self.folder / "config.json").read_text()
        return json.dumps([dataclasses.asdict(self.recipe), config], sort_keys=True)
