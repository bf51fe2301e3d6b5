"""The target's one pass over the texts: its states between layers and its log-probabilities, kept
for all readings.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Collection, Sequence

import numpy as np
import torch

from ..acceptance.scores import Scores
from ..cases.case import Sampling
from ..cases.texts import Text
from ..common.errors import MeasurementError
from ..decoding.distributions import log_distributions, log_scores
from ..decoding.drafters.protocol import TextBatch
from ..decoding.drafters.teacher_forcing import as_array, forward
from ..decoding.layer_states import captured_states
from ..decoding.loading import LoadedModel
from ..decoding.replay import Progress, next_batch, padded
from ..decoding.text_limits import check_context, check_tokens

_TOKENS = {"cpu": 1 << 11, "cuda": 1 << 14}
"""Tokens of a batch."""
FEW = 8
"""Texts, or somewhat more, that a screen of readings takes."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TargetStates:
    """What readings are measured on; `target_states` makes it."""

    batches: Sequence[tuple[Sequence[int], TextBatch]]
    """The texts of each batch by their rows in `scores`, and the batch with its `layer_states`; its
    `target` holds probabilities in half precision, not their logarithms.
    """
    scores: Scores
    """With the target's log-probabilities and a drafter of one head that has none."""
    texts: tuple[Text, ...]
    layers: int
    """The target's decoder layers, N. State N + 1 is state N after the target's last norm."""

    @functools.cached_property
    def few(self) -> Sequence[TextBatch]:
        """The batches with `FEW` of the texts, of all lengths."""
        step = max(len(self.texts) // FEW, 1)
        found, before = [], 0
        for rows, batch in self.batches:
            chosen = [row for row in range(len(rows)) if (before + row) % step == 0]
            before += len(rows)
            if chosen:
                found.append(_some(batch, chosen))
        return found


def _some(batch: TextBatch, rows: list[int]) -> TextBatch:
    assert batch.target is not None
    return dataclasses.replace(
        batch,
        texts=[batch.texts[row] for row in rows],
        ids=batch.ids[rows],
        layer_states={number: state[rows] for number, state in batch.layer_states.items()},
        target=batch.target[rows],
    )


@torch.inference_mode()
def target_states(
    target: LoadedModel,
    texts: Sequence[Text],
    sampling: Sampling,
    *,
    layers: int,
    numbers: Collection[int],
    k: int,
    progress: Progress | None = None,
) -> TargetStates:
    """Run the target over texts that it emitted under `sampling`.

    `numbers` are the states that are kept, as `layer_states` numbers them, and `layers` + 1 for the
    last one after the target's last norm. Raises RequestError for texts that it cannot read,
    MeasurementError for NaN or texts without a round of k drafts.
    """
    longest = max((len(text.ids) for text in texts), default=0)
    check_context([target], longest, cure="shorten the prompts or lower --new-tokens")
    check_tokens([target], [text.ids for text in texts])
    if not any(len(text.ids) - text.first_draft >= k for text in texts):
        raise MeasurementError(
            f"no text is long enough for a round of k={k}; ask for more --new-tokens or a smaller "
            "--k"
        )
    log_p = np.zeros((len(texts), longest), dtype=np.float32)
    order = sorted(range(len(texts)), key=lambda row: len(texts[row].ids))
    batches: list[tuple[Sequence[int], TextBatch]] = []
    done = 0
    while done < len(order):
        rows = next_batch(order[done:], texts, _TOKENS.get(target.device.type, _TOKENS["cpu"]))
        batch, own = _passed(target, [texts[row] for row in rows], sampling, layers, numbers, k)
        log_p[rows, batch.begin : batch.ids.shape[1]] = own
        batches.append((rows, batch))
        done += len(rows)
        if progress:
            progress(done, len(order))
    scores = Scores(
        prompts=tuple(text.key for text in texts),
        categories=tuple(text.category for text in texts),
        target=log_p,
        draft=np.full((len(texts), 1, longest), -np.inf, dtype=np.float32),
        starts=np.array([text.first_draft for text in texts]),
        lengths=np.array([len(text.ids) for text in texts]),
    )
    return TargetStates(batches=batches, scores=scores, texts=tuple(texts), layers=layers)


def _passed(
    target: LoadedModel,
    texts: Sequence[Text],
    sampling: Sampling,
    layers: int,
    numbers: Collection[int],
    k: int,
) -> tuple[TextBatch, np.ndarray]:
    """A batch with its states on the CPU, and the log-probabilities of its tokens from `begin`."""
    ids = padded([text.ids for text in texts], target.device)
    begin = max(min(text.prompt_length for text in texts), 1)
    between = sorted(number for number in numbers if number <= layers)
    with captured_states(target, between) as states:
        outputs = forward(target, ids, begin, hidden=layers + 1 in numbers)
    if layers + 1 in numbers:
        states[layers + 1] = outputs.hidden_states[-1]
    own = as_array(log_scores(outputs.logits, ids[:, begin:], sampling))
    probabilities = log_distributions(outputs.logits, sampling).exp_()
    batch = TextBatch(
        texts=texts,
        ids=ids,
        begin=begin,
        steps=k,
        sampling=sampling,
        hidden_states=None,
        layer_states={number: state.cpu() for number, state in states.items()},
        target=probabilities.half().cpu(),
    )
    return batch, own
