"""Teacher forcing: the logits at every new token of given texts, a few texts at a time."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch

from ...cases.drafter import OwnHeadsSpec, PromptLookupSpec
from ...cases.texts import Text, texts_from_ids
from ...common.errors import MeasurementError, RequestError
from ...decoding.distributions import are_sound
from ...decoding.drafters.draft_model import DraftModel
from ...decoding.drafters.registry import loaded_pair, parsed
from ...decoding.drafters.teacher_forcing import forward
from ...decoding.loading import LoadedModel, loaded
from ...decoding.text_batches import batches, by_length, padded, tokens_together
from ...decoding.text_limits import check_context

_BUDGET = {"cpu": 1 << 18, "cuda": 1 << 26}
"""Logits scored at once: 2 MiB in float64 on a CPU, of which the work takes a few copies, so that
they stay in its cache.
"""


@dataclasses.dataclass(frozen=True)
class TeacherForced:
    """New tokens that were scored together, with the logits (tokens, vocabulary) from which they
    were drawn.
    """

    at: np.ndarray
    """(tokens,): which of all new tokens each is, counted through the texts in their order."""
    tokens: torch.Tensor
    logits: torch.Tensor
    draft_logits: torch.Tensor | None
    """The drafter's, given the same tokens before."""
    others: Mapping[str, torch.Tensor] = dataclasses.field(default_factory=dict)
    """Logits of the target as wrong engines would have them, by what is wrong."""
    failed: Mapping[str, int] = dataclasses.field(default_factory=dict)
    """Errors of logits processors after histories that no text has, and how often."""


def checked_texts(
    sequences: Sequence[Text] | Sequence[Sequence[int]], prompt_lengths: Sequence[int] | None
) -> list[Text]:
    """The sequences as `Text`s, which they may be already. Raises RequestError where it is unclear
    which tokens are new.
    """
    texts = [sequence for sequence in sequences if isinstance(sequence, Text)]
    if len(texts) < len(sequences):
        if prompt_lengths is None or len(prompt_lengths) != len(sequences) or texts:
            raise RequestError(
                "sequences of token ids need prompt_lengths, one for each; pass them, or Texts "
                "alone"
            )
        texts = [
            *texts_from_ids(
                [sequence for sequence in sequences if not isinstance(sequence, Text)],
                prompt_lengths,
            )
        ]
    elif prompt_lengths:
        raise RequestError("Texts hold their prompt lengths; leave prompt_lengths out")
    for row, text in enumerate(texts):
        if not 0 < text.prompt_length <= len(text.ids):
            raise RequestError(
                f"text {row} has {len(text.ids)} tokens and a prompt of {text.prompt_length}; pass "
                "prompt and new tokens together, the prompt at least one token long"
            )
    return texts


def scoring_models(
    target: str | LoadedModel, drafter: str | LoadedModel | None
) -> tuple[LoadedModel, LoadedModel | None]:
    """Target and drafter. Raises RequestError for a pair that does not go together, or a drafter
    without its own distribution.
    """
    if drafter is None:
        return loaded(target), None
    no_model = RequestError(
        f"drafter {drafter!r} cannot score texts; pass a draft model, or leave drafter out"
    )
    source = parsed(drafter)
    if isinstance(source, OwnHeadsSpec | PromptLookupSpec):
        raise no_model
    model, drafting = loaded_pair(target, source, 0)
    if not isinstance(drafting, DraftModel):
        raise no_model
    return model, drafting.model


def check_room(models: Sequence[LoadedModel], texts: Sequence[Text]) -> None:
    """Raises RequestError for a text beyond a model's context, or a prompt with a token that the
    models do not have.
    """
    longest = max((len(text.ids) for text in texts), default=0)
    check_context(models, longest, cure="pass shorter ones")
    for model in models:
        for row, text in enumerate(texts):
            if not all(0 <= token < vocabulary(model) for token in text.ids[: text.prompt_length]):
                raise RequestError(
                    f"the prompt of text {row} has a token outside the vocabulary of "
                    f"{model.checkpoint.folder}; encode it with "
                    "that model's tokenizer"
                )


def vocabulary(model: LoadedModel) -> int:
    """Tokens that the model can read."""
    return int(model.model.get_input_embeddings().num_embeddings)


def new_places(texts: Sequence[Text]) -> list[tuple[int, int]]:
    """Text and position of every new token."""
    return [
        (row, position)
        for row, text in enumerate(texts)
        for position in range(text.prompt_length, len(text.ids))
    ]


def forced(
    target: LoadedModel, drafter: LoadedModel | None, texts: Sequence[Text]
) -> Iterator[TeacherForced]:
    """Every new token of the texts, texts of about one length together. Raises MeasurementError for
    NaN and infinite logits.
    """
    for rows in forced_batches(target, texts):
        yield from force(target, drafter, texts, rows)


def forced_batches(target: LoadedModel, texts: Sequence[Text]) -> list[list[int]]:
    """Numbers of the texts that pass together, those that replay scores together, so that a pass
    can serve both; texts without a new token are left out.
    """
    order = [row for row in by_length(texts) if len(texts[row].ids) > texts[row].prompt_length]
    return batches(order, texts, tokens_together(target.device.type, vocabulary(target)))


def force(
    target: LoadedModel, drafter: LoadedModel | None, texts: Sequence[Text], rows: Sequence[int]
) -> Iterator[TeacherForced]:
    """Every new token of one batch of the texts. Raises MeasurementError for NaN and infinite
    logits.
    """
    offsets = np.cumsum([0, *(len(text.ids) - text.prompt_length for text in texts)])
    places = np.concatenate([np.arange(*offsets[row : row + 2]) for row in rows])
    batch = [texts[row] for row in rows]
    yield from _batch(target, drafter, batch, places, max(_budget(target), 1))


def _budget(target: LoadedModel) -> int:
    return _BUDGET.get(target.device.type, _BUDGET["cpu"]) // vocabulary(target)


def _batch(
    target: LoadedModel,
    drafter: LoadedModel | None,
    texts: Sequence[Text],
    places: np.ndarray,
    budget: int,
) -> Iterator[TeacherForced]:
    """One pass of each model, its new tokens in parts of so many at most."""
    ids = padded([text.ids for text in texts], torch.device("cpu"))
    new = torch.zeros(ids[:, 1:].shape, dtype=torch.bool)
    for row, text in enumerate(texts):
        new[row, text.prompt_length - 1 : len(text.ids) - 1] = True
    tokens = ids[:, 1:][new].to(target.device)
    begin = max(min(text.prompt_length for text in texts), 1)
    logits = _logits(target, ids, new, begin)
    draft_logits = None if drafter is None else _logits(drafter, ids, new, begin).to(target.device)
    for first in range(0, len(places), budget):
        part = slice(first, first + budget)
        yield TeacherForced(
            places[part],
            tokens[part],
            logits[part],
            None if draft_logits is None else draft_logits[part],
        )


def _logits(model: LoadedModel, ids: torch.Tensor, new: torch.Tensor, begin: int) -> torch.Tensor:
    """(new tokens, vocabulary): the logits from which they were drawn, of texts whose first new
    token stands at `begin`.
    """
    outputs = forward(model, ids.to(model.device), begin, hidden=False)
    passed: torch.Tensor = outputs.logits[new[:, begin - 1 :].to(model.device)]
    if not are_sound(passed):
        raise MeasurementError(
            f"{model.checkpoint.folder} returns NaN or infinite logits; check its weights, or load "
            "it in float32"
        )
    return passed
