"""Train a head on the features of a target's own texts, in as many sittings as it takes.

Every position of a text is an anchor that drafts several steps, each on the head's own state of the
step before (training-time test: Li et al., arXiv 2503.01840). A step learns the target's
distribution of the token that follows: its loss is the cross-entropy over the tokens that the head
can draft, and a position counts by the share of probability that they have. Tokens of the prompt
are read, but not learnt.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

import torch
from head_features import FeatureBatch, FeatureTexts
from safetensors import safe_open
from safetensors.torch import load_file
from training_parts import accepted_odds, shown, write_whole

RISE, FALL = 0.02, 0.3
"""Shares of the steps at whose begin the rate rises and at whose end it falls to zero."""
HELD_OUT = 24
"""Every so many-th text is held out."""
JUDGED = 48
"""Held-out texts that acceptance is measured on, about."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingRecipe:
    """How a head is trained."""

    steps: int
    draft_steps: int = 4
    """Draft steps that are trained of every anchor."""
    first_alone: float = 0.0
    """Share of the steps, from the begin, that train the first draft step alone: three times as
    many tokens a second, and the later ones learn fast from what it has learnt."""
    decay: float = 0.8
    """Each draft step counts by this share of the one before."""
    tokens: int = 2560
    """Tokens of a batch, about."""
    rate: float = 2e-3
    """Of matrices, which Muon trains at the scale of AdamW (arXiv 2502.16982)."""
    other_rate: float = 5e-4
    """Of norms, embeddings and output layers, which AdamW trains."""
    seed: int = 0


class HeadInTraining(Protocol):
    """A kind of head, as a training sees it."""

    def parameters(self) -> dict[str, torch.nn.Parameter]:
        """What is trained, by name."""

    def drafts(
        self, batch: FeatureBatch, steps: int, columns: torch.Tensor
    ) -> Iterator[torch.Tensor]:
        """Of each draft step i the logits (rows, anchors, columns): column t is that of anchor t,
        which predicts token t + 2 + i.
        """

    def columns(self, generator: torch.Generator | None) -> tuple[torch.Tensor, torch.Tensor]:
        """The tokens whose logits are compared, (columns,), and what is added to their logits
        where they stand for others, too; a sample of them with a generator, all without.
        """

    def output_rows(self, columns: torch.Tensor) -> torch.Tensor:
        """The target's output layer at those tokens, (columns, width)."""

    def save(self) -> None:
        """Write the weights into the head's files."""


class HeadTraining:
    """A head, the texts that it learns from, and where its training is kept."""

    def __init__(
        self,
        head: HeadInTraining,
        texts: FeatureTexts,
        recipe: TrainingRecipe,
        checkpoint: Path,
        show: Callable[[str], None] = print,
    ) -> None:
        self.head, self.texts, self.recipe = head, texts, recipe
        self._checkpoint, self._show = checkpoint, show
        self._named = head.parameters()
        matrices = [
            tensor
            for name, tensor in self._named.items()
            if tensor.ndim == 2 and "lm_head" not in name
        ]
        others = [
            tensor for name, tensor in self._named.items() if tensor.ndim != 2 or "lm_head" in name
        ]
        self._optimizers: list[tuple[torch.optim.Optimizer, float]] = [
            (
                torch.optim.Muon(
                    matrices,
                    lr=recipe.rate,
                    weight_decay=0.01,
                    adjust_lr_fn="match_rms_adamw",
                ),
                recipe.rate,
            ),
            (
                torch.optim.AdamW(
                    others, lr=recipe.other_rate, betas=(0.9, 0.95), weight_decay=0.0
                ),
                recipe.other_rate,
            ),
        ]
        self._step, self._seconds = 0, 0.0
        order = sorted(range(len(texts)), key=texts.lengths.__getitem__)
        held = set(order[::HELD_OUT])
        self.held_out = order[:: max(HELD_OUT, HELD_OUT * (len(held) // JUDGED))]
        self._batches = batches_of(
            [index for index in order if index not in held], texts.lengths, recipe.tokens
        )

    def run(self, every: int = 50) -> None:
        """Train to the recipe's last step and write the weights into the head's files.

        Every `every` steps the training is kept, from which the next call goes on, and acceptance
        on held-out texts is shown.
        """
        self._resume()
        begun = time.monotonic() - self._seconds
        losses: list[float] = []
        while self._step < self.recipe.steps:
            losses.append(self._learn())
            self._seconds = time.monotonic() - begun
            if self._step == int((1 - FALL) * self.recipe.steps):
                self._keep(self._checkpoint.with_stem(f"{self._checkpoint.stem}-before-the-fall"))
            if self._step % every == 0 or self._step == self.recipe.steps:
                self._keep(self._checkpoint)
                sampled, greedy = self.acceptance()
                self._show(
                    f"step {self._step} of {self.recipe.steps}, {self._seconds:.0f} s, loss "
                    f"{sum(losses) / len(losses):.3f}, accepted {shown(sampled)}, of likeliest "
                    f"tokens {shown(greedy)}"
                )
                losses.clear()
        self.head.save()

    @property
    def report(self) -> dict[str, object]:
        """What was trained, for training.json."""
        sampled, greedy = self.acceptance()
        return {
            "recipe": dataclasses.asdict(self.recipe),
            "texts": len(self.texts),
            "tokens": self.texts.tokens,
            "hours": round(self._seconds / 3600, 2),
            "held_out_acceptance": [round(share, 3) for share in sampled],
            "held_out_acceptance_of_likeliest_tokens": [round(share, 3) for share in greedy],
        }

    @torch.no_grad()
    def acceptance(self, rows: int = 16) -> tuple[list[float], list[float]]:
        """Conditional acceptance of each draft step over all round starts of the held-out texts,
        sampling, and where drafts and target both take their likeliest tokens.

        The texts are as they were sampled: at temperature 0 acceptance on greedy texts is higher.
        """
        steps = self.recipe.draft_steps
        accepted, drafted = torch.zeros(2, 2, steps).unbind()
        columns, shift = self.head.columns(None)
        for begin in range(0, len(self.held_out), rows):
            batch = self.texts.batch(self.held_out[begin : begin + rows])
            alive = torch.ones(2, *batch.ids.shape)
            drafts = self._logits(batch, columns, steps)
            for step, logits in enumerate(drafts):
                p, best, counts = self._wanted(batch, step, logits.shape[1], columns)
                q = (logits.float() + shift).softmax(-1)
                overlap = torch.minimum(p, q).sum(-1)
                equal = (columns[q.argmax(-1)] == best).float()
                alive = alive[:, :, : logits.shape[1]] * counts
                accepted[:, step] += (alive * torch.stack([overlap, equal])).sum((1, 2)).cpu()
                drafted[:, step] += alive.sum((1, 2)).cpu()
                own = accepted_odds(p, q, columns, batch.ids[:, step + 2 :])
                alive = alive[:, :, : own.shape[1]] * torch.stack([own, equal[:, : own.shape[1]]])
        sampled, greedy = (accepted / drafted.clamp(min=1e-9)).tolist()
        return sampled, greedy

    def _logits(
        self, batch: FeatureBatch, columns: torch.Tensor, steps: int
    ) -> Iterator[torch.Tensor]:
        with torch.autocast(columns.device.type, torch.bfloat16):
            yield from self.head.drafts(batch, steps, columns)

    def _wanted(
        self, batch: FeatureBatch, step: int, anchors: int, columns: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """What a draft step should predict: the target's probabilities (rows, anchors, columns),
        its likeliest tokens (rows, anchors), and 1 for the anchors that count.
        """
        at = slice(step + 1, step + 1 + anchors)
        states = batch.hidden[:, at].contiguous()  # a strided one is multiplied text by text
        scores = states @ self.head.output_rows(columns).T
        p = (scores.float() - batch.mass[:, at, None]).exp()
        token = torch.arange(anchors, device=p.device) + step + 2
        counts = (token >= batch.prompts[:, None]) & (token < batch.lengths[:, None])
        return p, batch.best[:, at], counts.float()

    def _learn(self) -> float:
        """One step of the optimizers."""
        recipe = self.recipe
        generator = torch.Generator().manual_seed(recipe.seed * 1_000_003 + self._step)
        chosen = int(torch.randint(len(self._batches), (1,), generator=generator))
        batch = self.texts.batch(self._batches[chosen])
        columns, shift = self.head.columns(generator)
        alone = self._step < recipe.first_alone * recipe.steps
        parts, shares = [], []
        for step, logits in enumerate(
            self._logits(batch, columns, 1 if alone else recipe.draft_steps)
        ):
            with torch.no_grad():
                p, _, counts = self._wanted(batch, step, logits.shape[1], columns)
            likely = (logits.float() + shift).log_softmax(-1)
            loss = -(p * shift.exp() * likely).sum(-1)  # drawn tokens stand for others
            parts.append((loss * counts).sum() / counts.sum().clamp(min=1))
            shares.append(recipe.decay**step)
        weighted = [share * part for share, part in zip(shares, parts, strict=True)]
        loss = torch.stack(weighted).sum() / sum(shares)
        self._rates()
        for optimizer, _ in self._optimizers:
            optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(list(self._named.values()), 1.0)
        for optimizer, _ in self._optimizers:
            optimizer.step()
        self._step += 1
        return loss.item()

    def _rates(self) -> None:
        """A short rise, then constant, and a fall to zero at the end. What is kept before the fall
        can be trained on for longer.
        """
        done = self._step / self.recipe.steps
        scale = min(1.0, (done + 1 / self.recipe.steps) / RISE, (1 - done) / FALL)
        for optimizer, rate in self._optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate * scale

    def _keep(self, path: Path) -> None:
        tensors = {}
        for name, tensor in self._named.items():
            tensors[f"weights {name}"] = tensor.detach().contiguous().cpu()
            for optimizer, _ in self._optimizers:
                for key, value in optimizer.state.get(tensor, {}).items():
                    tensors[f"{key} {name}"] = torch.as_tensor(value).contiguous().cpu()
        about = {"step": str(self._step), "seconds": str(self._seconds), "recipe": self._same()}
        write_whole(tensors, path, about)

    def _resume(self) -> None:
        """Go on from a checkpoint of the same recipe, whatever its number of steps."""
        if not self._checkpoint.is_file():
            return
        with safe_open(self._checkpoint, "pt") as file:
            about = file.metadata()
        if about["recipe"] != self._same():
            raise SystemExit(
                f"{self._checkpoint} was kept with another recipe; delete it to begin again"
            )
        self._step, self._seconds = int(about["step"]), float(about["seconds"])
        for stored, value in load_file(self._checkpoint).items():
            key, name = stored.split(" ", 1)
            tensor = self._named[name]
            if key == "weights":
                tensor.data.copy_(value)
                continue
            for optimizer, _ in self._optimizers:
                held = itertools.chain.from_iterable(
                    group["params"] for group in optimizer.param_groups
                )
                if any(tensor is parameter for parameter in held):
                    optimizer.state[tensor][key] = value.to(tensor.device) if value.ndim else value
        self._show(f"going on after step {self._step}")

    def _same(self) -> str:
        recipe = {**dataclasses.asdict(self.recipe), "steps": None}
        return json.dumps(recipe, sort_keys=True)


def batches_of(order: Sequence[int], lengths: Sequence[int], tokens: int) -> list[list[int]]:
    """Texts of similar length together, about so many tokens each."""
    batches: list[list[int]] = [[]]
    for index in order:
        if batches[-1] and (len(batches[-1]) + 1) * lengths[index] > tokens:
            batches.append([])
        batches[-1].append(index)
    return batches
