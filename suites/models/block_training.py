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
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from training_parts import cosine_share, shown, write_whole

from pytest_specdec.cases.drafter import DFLASH
from pytest_specdec.checkpoints.block_checks import block_shapes, checked_block
from pytest_specdec.checkpoints.block_config import read_block_config
from pytest_specdec.decoding.drafters.block_forcing import teacher_forced_blocks
from pytest_specdec.decoding.drafters.block_head import BlockHead
from pytest_specdec.decoding.layer_states import captured_states
from pytest_specdec.decoding.loading import LoadedModel

SPREAD = 0.02
"""Standard deviation of new matrices, as transformers initialises them."""
WEIGHTS, FIRST, SECOND = "weights.", "first.", "second."
"""Beginnings of names in a training's checkpoint: the weights and AdamW's two moments."""


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


class BlockTraining:
    """A drafter in training: `folder` holds its config.json and the weights to begin with.

    `rows` are texts as token ids (rows, length); texts and anchors of a step are drawn by the
    recipe's seed and the number of the step alone. It trains in the target's number format: load
    that in float32.
    """

    def __init__(
        self, target: LoadedModel, folder: Path, rows: torch.Tensor, recipe: BlockRecipe
    ) -> None:
        files = checked_block(target.checkpoint, folder, DFLASH)
        self.target, self.folder, self.rows, self.recipe = target, folder, rows, recipe
        self.head = BlockHead(files, target).requires_grad_(True)
        self._reads, self._k = files.states, files.config.most_drafts
        norms = [tensor for tensor in self.head.parameters() if tensor.ndim == 1]
        matrices = [tensor for tensor in self.head.parameters() if tensor.ndim > 1]
        self._optimizer = torch.optim.AdamW(
            [
                {"params": matrices, "weight_decay": 0.01, "share": 1.0},
                {"params": norms, "weight_decay": 0.0, "share": recipe.norm_rate},
            ],
            lr=recipe.rate,
            betas=(0.9, 0.95),
        )
        self._step = 0

    def run(
        self,
        checkpoint: Path,
        held_out: torch.Tensor,
        *,
        every: int = 50,
        show: Callable[[str], None] = print,
    ) -> None:
        """Train to the recipe's last step and write the weights into the drafter's folder.

        Every `every` steps the training is saved at `checkpoint` (safetensors), from which the next
        call goes on, and the overlap with the target on `held_out` (rows, length) is shown.
        """
        self._resume(checkpoint)
        started = time.monotonic()
        while self._step < self.recipe.steps:
            loss = self._learn()
            if self._step % every == 0 or self._step == self.recipe.steps:
                self._keep(checkpoint)
                show(
                    f"{self.folder.name} step {self._step}/{self.recipe.steps} loss {loss:.3f} "
                    f"overlap {shown(self.overlap(held_out))} {time.monotonic() - started:.0f} s"
                )
        self.save()

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

    def _learn(self) -> float:
        """One step of AdamW, with a short rise of the rate and a cosine to zero."""
        recipe, length = self.recipe, self.rows.shape[1]
        generator = torch.Generator().manual_seed(recipe.seed * 1_000_003 + self._step)
        chosen = torch.randint(len(self.rows), (recipe.batch,), generator=generator)
        possible = torch.randperm(length - 1 - self._k - 1, generator=generator) + 1
        anchors = possible[: recipe.anchors].sort().values
        shares = [recipe.decay**step for step in range(self._k)]
        parts = [
            share * -(p * logits.log_softmax(-1)).sum(-1).mean()
            for share, (p, logits) in zip(
                shares, self._drafts(self.rows[chosen], anchors), strict=True
            )
        ]
        loss = torch.stack(parts).sum() / sum(shares)
        scale = cosine_share(self._step / recipe.steps)
        for group in self._optimizer.param_groups:
            group["lr"] = recipe.rate * group["share"] * scale
        self._optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.head.parameters(), 1.0)
        self._optimizer.step()
        self._step += 1
        return loss.item()

    def _keep(self, path: Path) -> None:
        tensors = {}
        for name, tensor in self.head.named_parameters():
            state = self._optimizer.state[tensor]
            tensors[WEIGHTS + name] = tensor.detach().cpu().contiguous()
            tensors[FIRST + name] = state["exp_avg"].cpu().contiguous()
            tensors[SECOND + name] = state["exp_avg_sq"].cpu().contiguous()
        about = {"step": str(self._step), "recipe": self._recipe_text()}
        write_whole(tensors, path, about)

    def _resume(self, path: Path) -> None:
        """Go on from a checkpoint of the same recipe; one of another recipe is left alone."""
        if not path.is_file():
            return
        with safe_open(path, "pt") as file:
            about = file.metadata()
        if about.get("recipe") != self._recipe_text():
            return
        tensors, self._step = load_file(path, str(self.target.device)), int(about["step"])
        for name, tensor in self.head.named_parameters():
            tensor.data.copy_(tensors[WEIGHTS + name])
            self._optimizer.state[tensor] = {
                "step": torch.tensor(float(self._step)),
                "exp_avg": tensors[FIRST + name],
                "exp_avg_sq": tensors[SECOND + name],
            }

    def _recipe_text(self) -> str:
        config = (self.folder / "config.json").read_text()
        return json.dumps([dataclasses.asdict(self.recipe), config], sort_keys=True)
