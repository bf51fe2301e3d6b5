"""How likely a draft model finds its own drafts, on a text and after each draft that the target
would reject.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from ..cases.case import Sampling
from ..cases.texts import Text
from ..speedup.policies import Confidences
from .distributions import check_logits, confidence, draw, likeliest, probabilities, sample
from .loading import LoadedModel
from .ragged import CachedModel, Sequences
from .replay import Progress

_ROWS = {"cpu": 64, "cuda": 512}
"""Continuations drafted at once."""


@torch.inference_mode()
def confidences(
    target: LoadedModel,
    drafter: LoadedModel,
    texts: Sequence[Text],
    *,
    k: int,
    sampling: Sampling,
    seed: int = 0,
    progress: Progress | None = None,
) -> Confidences:
    """One pass of each model over every text, and after each position a draft rejected there with
    k - 1 more drafts.

    A rejected draft is one of the drafter's distribution conditional on rejection, max(q - p, 0)
    normalised, whatever the text goes on with; at temperature 0 it is the drafter's arg-max. So the
    drafts after it are an unbiased sample.
    """
    longest = max(len(text.ids) for text in texts)
    accepted = np.zeros((len(texts), longest))
    rejected = np.zeros((len(texts), longest, k))
    generator = torch.Generator(drafter.device).manual_seed(seed)
    for row, text in enumerate(texts):
        ids = torch.tensor([text.ids], device=drafter.device)
        logits = drafter.model(ids, use_cache=False).logits[0, :-1]
        accepted[row, 1 : len(text.ids)] = confidence(logits, ids[0, 1:], sampling).cpu().numpy()
        positions = np.arange(text.first_draft, len(text.ids))
        outputs = target.model(ids.to(target.device), use_cache=False)
        verified = outputs.logits[0, :-1].to(drafter.device)
        check_logits(logits)
        check_logits(verified)
        wrong = _rejected(verified[positions - 1], logits[positions - 1], sampling, generator)
        sure = confidence(logits[positions - 1], wrong, sampling).cpu().numpy()
        further = _further(drafter, text.ids, positions, wrong, k - 1, sampling, generator)
        rejected[row, positions] = np.concatenate([sure[:, None], further], axis=1)
        if progress:
            progress(row + 1, len(texts))
    return Confidences(accepted, rejected)


def _rejected(
    target: torch.Tensor, draft: torch.Tensor, sampling: Sampling, generator: torch.Generator
) -> torch.Tensor:
    """(positions,): a draft of each position as it is when rejected; anything where none is
    ever.
    """
    if sampling.temperature == 0:
        return likeliest(draft)
    p, q = probabilities(target, sampling), probabilities(draft, sampling)
    excess = (q - p).clamp(min=0)
    return draw(torch.where(excess.sum(-1, keepdim=True) > 0, excess, q), generator)


def _further(
    drafter: LoadedModel,
    ids: Sequence[int],
    positions: np.ndarray,
    wrong: torch.Tensor,
    steps: int,
    sampling: Sampling,
    generator: torch.Generator,
) -> np.ndarray:
    """(positions, steps): the confidence of what the model drafts after each wrong token."""
    values = np.zeros((len(positions), steps))
    rows = _ROWS.get(drafter.device.type, _ROWS["cpu"])
    for begin in range(0, len(positions) if steps else 0, rows):
        part = slice(begin, begin + rows)
        contexts = [
            [*ids[:end], token]
            for end, token in zip(positions[part], wrong[part].tolist(), strict=True)
        ]
        sequences = Sequences(contexts, steps + 1, drafter.device)
        model = CachedModel(drafter, steps + 2)
        for step in range(steps):
            logits = model.feed(sequences, sequences.lengths + step, 1)[:, 0]
            check_logits(logits)
            tokens = sample(logits, sampling, generator)
            values[part, step] = confidence(logits, tokens, sampling).cpu().numpy()
            sequences.put(step, tokens)
    return values
