"""What heads learn from: the target's states and probabilities at every position of sampled texts.

    write_features(target, (2, 15, 27), Path("work/texts"), Path("work/features"))
    texts = FeatureTexts([Path("work/features")])

The target runs over each text once, whatever number of heads is trained on it for however long.
"""

from __future__ import annotations

import dataclasses
import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file
from sampled_texts import read_part
from training_parts import write_whole

from pytest_specdec.decoding.layer_states import captured_states
from pytest_specdec.decoding.loading import LoadedModel

_TOKENS = 4096
"""Tokens that the target runs over at once."""


@torch.inference_mode()
def write_features(
    target: LoadedModel,
    layers: Sequence[int],
    texts: Path,
    folder: Path,
    show: Callable[[str], None] = print,
) -> None:
    """Features of all parts of `texts` that are not in `folder` yet, part by part.

    `layers` are numbered as transformers' `hidden_states`; the features hold their states, joined.
    """
    begun, done = time.monotonic(), 0
    parts = sorted(texts.glob("part-*.safetensors"))
    random.Random(0).shuffle(parts)  # so that any number of parts has texts of all lengths
    for number, path in enumerate(parts, 1):
        into = folder / path.name
        if into.is_file():
            continue
        rows, prompts = read_part(path)
        features = _features(target, layers, rows)
        features["prompts"] = torch.tensor(prompts, dtype=torch.int32)
        write_whole(features, into)
        done += len(features["ids"])
        rate = done / (time.monotonic() - begun)
        show(f"features of part {number} of {len(parts)}, {rate:.0f} tokens a second")


def _features(
    target: LoadedModel, layers: Sequence[int], rows: Sequence[Sequence[int]]
) -> dict[str, torch.Tensor]:
    """Tensors whose rows are the tokens of all texts, one text after the other."""
    joined: list[torch.Tensor] = [torch.empty(0)] * len(rows)
    hidden, mass, best = [*joined], [*joined], [*joined]
    order = sorted(range(len(rows)), key=lambda row: len(rows[row]))
    at = 0
    while at < len(order):
        longest = len(rows[order[min(at + 15, len(order) - 1)]])
        chosen = order[at : at + max(_TOKENS // longest, 1)]
        at += len(chosen)
        ids = torch.zeros(len(chosen), len(rows[chosen[-1]]), dtype=torch.long)
        for row, number in enumerate(chosen):
            ids[row, : len(rows[number])] = torch.tensor(rows[number])
        with captured_states(target, layers) as states:
            last = target.model.get_decoder()(ids.to(target.device), use_cache=False)
        last = last.last_hidden_state
        wide = torch.cat([states[number] for number in layers], -1)
        logits = target.model.get_output_embeddings()(last)
        sums, top = logits.float().logsumexp(-1), logits.argmax(-1)
        for row, number in enumerate(chosen):
            length = len(rows[number])
            joined[number] = wide[row, :length].bfloat16().cpu()
            hidden[number] = last[row, :length].bfloat16().cpu()
            mass[number] = sums[row, :length].cpu()
            best[number] = top[row, :length].int().cpu()
    return {
        "ids": torch.tensor([token for row in rows for token in row], dtype=torch.int32),
        "lengths": torch.tensor([len(row) for row in rows], dtype=torch.int32),
        "joined": torch.cat(joined),
        "hidden": torch.cat(hidden),
        "mass": torch.cat(mass),
        "best": torch.cat(best),
    }


@dataclasses.dataclass(frozen=True, kw_only=True)
class FeatureBatch:
    """Features of some texts, (rows, length, ...) each, with zeros after a text's end."""

    ids: torch.Tensor
    lengths: torch.Tensor
    """(rows,)"""
    prompts: torch.Tensor
    """(rows,): how many of the tokens are the prompt."""
    joined: torch.Tensor
    """The states of the layers that a head reads, joined: (rows, length, states x width)."""
    hidden: torch.Tensor
    """The last hidden states, which the output layer reads: (rows, length, width)."""
    mass: torch.Tensor
    """Logarithms of the sums of the exponentials of the target's logits."""
    best: torch.Tensor
    """The target's likeliest tokens."""


class FeatureTexts:
    """The texts of several folders with their features, read where they lie on disk."""

    def __init__(self, folders: Sequence[Path]) -> None:
        paths = [path for folder in folders for path in sorted(folder.glob("part-*.safetensors"))]
        if not paths:
            raise SystemExit(f"no features in {', '.join(map(str, folders))}")
        self._parts = [load_file(path) for path in paths]
        self.lengths: list[int] = []
        self._prompts: list[int] = []
        self._where: list[tuple[int, int]] = []
        for number, part in enumerate(self._parts):
            begin = 0
            self._prompts += part["prompts"].tolist()
            for length in part["lengths"].tolist():
                self.lengths.append(length)
                self._where.append((number, begin))
                begin += length

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def tokens(self) -> int:
        """Tokens of all texts."""
        return sum(self.lengths)

    def batch(self, texts: Sequence[int]) -> FeatureBatch:
        """Some of the texts."""
        padded = {
            name: torch.nn.utils.rnn.pad_sequence(
                [self._rows(index, name) for index in texts], batch_first=True
            )
            for name in ("ids", "joined", "hidden", "mass", "best")
        }
        return FeatureBatch(
            ids=padded["ids"].long(),
            lengths=torch.tensor([self.lengths[index] for index in texts]),
            prompts=torch.tensor([self._prompts[index] for index in texts]),
            joined=padded["joined"],
            hidden=padded["hidden"],
            mass=padded["mass"],
            best=padded["best"].long(),
        )

    def _rows(self, index: int, name: str) -> torch.Tensor:
        part, begin = self._where[index]
        return self._parts[part][name][begin : begin + self.lengths[index]]
