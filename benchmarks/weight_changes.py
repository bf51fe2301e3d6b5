"""Changes of a loaded model's weights, harmless and harmful, made in place and undone again."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from pytest_specdec.decoding.loading import LoadedModel

sys.path.insert(0, str(Path(__file__).parent.parent / "suites" / "models"))

Change = Callable[[LoadedModel, int], None]
"""Changes a model by a seed."""


def noise(share: float) -> Change:
    """Gaussian noise of a share of each matrix's standard deviation."""

    def add(model: LoadedModel, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        for weight in matrices(model):
            step = torch.randn(weight.shape, generator=generator) * weight.std() * share
            weight.add_(step)

    return add


def rounded(bits: int) -> Change:
    """Symmetric rounding to integers, one scale for each row."""

    def round_(model: LoadedModel, seed: int) -> None:
        largest = 2 ** (bits - 1) - 1
        for weight in matrices(model):
            scale = weight.abs().amax(-1, keepdim=True) / largest
            weight.copy_((weight / scale).round() * scale)

    return round_


def stored_as(dtype: torch.dtype) -> Change:
    """Weights as they come back from a file of another number format."""

    def cast(model: LoadedModel, seed: int) -> None:
        for weight in matrices(model):
            weight.copy_(weight.to(dtype).to(weight.dtype))

    return cast


def tuned(steps: int, rate: float = 1e-4) -> Change:
    """A few steps of fine-tuning on documents of the corpus generator."""

    def tune(model: LoadedModel, seed: int) -> None:
        import corpus

        documents = corpus.documents(seed + 100)
        rng = random.Random(seed)
        weights = list(model.model.parameters())
        for weight in weights:
            weight.requires_grad_(True)
        with torch.enable_grad(), torch.inference_mode(False):
            optimizer = torch.optim.SGD(weights, lr=rate * 100)
            for _ in range(steps):
                texts = [rng.choice(documents)[:400] for _ in range(8)]
                rows = [model.tokenizer(text)["input_ids"][:96] for text in texts]
                loss = sum(
                    model.model(ids, labels=ids).loss
                    for ids in (torch.tensor([row]) for row in rows)
                )
                optimizer.zero_grad()
                (loss / len(rows)).backward()
                optimizer.step()
        for weight in weights:
            weight.requires_grad_(False)
            weight.grad = None

    return tune


CHANGES: dict[str, Change] = {
    "noise 0.1 %": noise(0.001),
    "noise 0.2 %": noise(0.002),
    "noise 0.5 %": noise(0.005),
    "noise 2 %": noise(0.02),
    "noise 4.3 %": noise(0.043),
    "noise 5 %": noise(0.05),
    "bfloat16": stored_as(torch.bfloat16),
    "fp8": stored_as(torch.float8_e4m3fn),
    "int8": rounded(8),
    "int4": rounded(4),
    "10 steps": tuned(10),
}


def matrices(model: LoadedModel) -> list[torch.Tensor]:
    """The weights that are changed: matrices of the model and of its MTP heads, each once."""
    parameters = [*model.model.parameters()]
    if model.checkpoint.mtp_layers:
        parameters += list(model.heads.parameters())
    distinct = {id(weight): weight.data for weight in parameters if weight.dim() > 1}
    return list(distinct.values())


@contextmanager
def changed(model: LoadedModel, change: Change, seed: int) -> Iterator[None]:
    """The model with its weights changed, until the block ends."""
    parameters = [*model.model.parameters()]
    if model.checkpoint.mtp_layers:
        parameters += list(model.heads.parameters())
    before = [weight.data.clone() for weight in parameters]
    try:
        with torch.no_grad():
            change(model, seed)
        yield
    finally:
        for weight, old in zip(parameters, before, strict=True):
            weight.data.copy_(old)
