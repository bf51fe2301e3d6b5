"""A training by AdamW that goes on where it was stopped, bit for bit."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from training_parts import cosine_share, write_whole

WEIGHTS, FIRST, SECOND = "weights.", "first.", "second."
"""Beginnings of names in a training's checkpoint: the weights and AdamW's two moments."""


class Recipe(Protocol):
    """What every recipe has."""

    @property
    def steps(self) -> int: ...
    @property
    def decay(self) -> float: ...
    @property
    def batch(self) -> int: ...
    @property
    def rate(self) -> float: ...
    @property
    def seed(self) -> int: ...


class ResumableTraining:
    """Weights in training on `rows`, texts as token ids (rows, length). What a step draws depends
    on the recipe's seed and the number of the step alone.

    `groups` are AdamW's; each has a `share` of the recipe's rate. `name` begins the lines that are
    shown.
    """

    def __init__(
        self,
        weights: torch.nn.Module,
        rows: torch.Tensor,
        recipe: Recipe,
        *,
        groups: Sequence[Mapping[str, Any]],
        name: str,
        device: torch.device | str = "cpu",
    ) -> None:
        self._weights, self.rows, self.recipe = weights, rows, recipe
        self._name, self._device = name, device
        self._optimizer = torch.optim.AdamW(
            [dict(group) for group in groups], lr=recipe.rate, betas=(0.9, 0.95)
        )
        self._step = 0

    def loss(self, rows: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """The loss of a batch of rows; further draws are the generator's."""
        raise NotImplementedError

    def progress(self, held_out: torch.Tensor) -> str:
        """What a line shows of the held-out rows."""
        raise NotImplementedError

    def save(self) -> None:
        """Write the weights as they are."""
        raise NotImplementedError

    def run(
        self,
        checkpoint: Path,
        held_out: torch.Tensor,
        *,
        every: int = 100,
        show: Callable[[str], None] = print,
    ) -> None:
        """Train to the recipe's last step and save the weights.

        Every `every` steps the training is kept at `checkpoint` (safetensors), from which the next
        call goes on, and its progress on `held_out` (rows, length) is shown.
        """
        self._resume(checkpoint)
        started, steps = time.monotonic(), self.recipe.steps
        while self._step < steps:
            loss = self._learn()
            if self._step % every == 0 or self._step == steps:
                self._keep(checkpoint)
                show(
                    f"{self._name} step {self._step}/{steps} loss {loss:.3f} "
                    f"{self.progress(held_out)} {time.monotonic() - started:.0f} s"
                )
        self.save()

    def _learn(self) -> float:
        """One step of AdamW, with a short rise of the rate and a cosine to zero."""
        recipe = self.recipe
        generator = torch.Generator().manual_seed(recipe.seed * 1_000_003 + self._step)
        chosen = torch.randint(len(self.rows), (recipe.batch,), generator=generator)
        loss = self.loss(self.rows[chosen], generator)
        scale = cosine_share(self._step / recipe.steps)
        for group in self._optimizer.param_groups:
            group["lr"] = recipe.rate * group["share"] * scale
        self._optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self._weights.parameters(), 1.0)
        self._optimizer.step()
        self._step += 1
        return loss.item()

    def _keep(self, path: Path) -> None:
        tensors = {}
        for name, tensor in self._weights.named_parameters():
            state = self._optimizer.state[tensor]
            tensors[WEIGHTS + name] = tensor.detach().cpu().contiguous()
            tensors[FIRST + name] = state["exp_avg"].cpu().contiguous()
            tensors[SECOND + name] = state["exp_avg_sq"].cpu().contiguous()
        write_whole(tensors, path, {"step": str(self._step), "recipe": self._recipe_text()})

    def _resume(self, path: Path) -> None:
        """Go on from a checkpoint of the same recipe; one of another recipe is left alone."""
        if not path.is_file():
            return
        with safe_open(path, "pt") as file:
            about = file.metadata()
        if about.get("recipe") != self._recipe_text():
            return
        tensors, self._step = load_file(path, str(self._device)), int(about["step"])
        for name, tensor in self._weights.named_parameters():
            tensor.data.copy_(tensors[WEIGHTS + name])
            self._optimizer.state[tensor] = {
                "step": torch.tensor(float(self._step)),
                "exp_avg": tensors[FIRST + name],
                "exp_avg_sq": tensors[SECOND + name],
            }

    def _recipe_text(self) -> str:
        """What a checkpoint must have been trained by."""
        raise NotImplementedError


def matrices_and_norms(weights: torch.nn.Module, norm_rate: float) -> list[dict[str, Any]]:
    """Groups of AdamW: norms learn at that share of the rate, and do not decay."""
    parameters = list(weights.parameters())
    return [
        {
            "params": [tensor for tensor in parameters if tensor.ndim > 1],
            "weight_decay": 0.01,
            "share": 1.0,
        },
        {
            "params": [tensor for tensor in parameters if tensor.ndim == 1],
            "weight_decay": 0.0,
            "share": norm_rate,
        },
    ]


def decaying_loss(
    drafts: Iterable[tuple[torch.Tensor, torch.Tensor]], count: int, decay: float, *, complete: bool
) -> torch.Tensor:
    """The mean cross-entropy of `count` drafts, from the target's probabilities and the logits of
    each; each draft counts by `decay` of the one before. Unless `complete`, the last ones may be
    missing.
    """
    shares = [decay**draft for draft in range(count)]
    parts = [
        share * -(p * logits.log_softmax(-1)).sum(-1).mean()
        for share, (p, logits) in zip(shares, drafts, strict=complete)
    ]
    return torch.stack(parts).sum() / sum(shares)
