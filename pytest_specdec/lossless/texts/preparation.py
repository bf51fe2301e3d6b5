"""Texts, models and processors, made ready for judging the texts."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch

from ...acceptance.rounds import Round
from ...cases.case import Sampling
from ...cases.texts import Text
from ...common.errors import MeasurementError
from ...decoding.loading import LoadedModel
from ...decoding.named_processors import ProcessorSource, ready_processors
from ...decoding.sampling import ending_tokens
from .greedy_divergence import TOLERANCES
from .histories import Drafts
from .readable import readable, wrong_ends
from .teacher_forcing import check_room, checked_texts, new_places, scoring_models, vocabulary
from .text_judge import JudgedTexts, TextJudge


@dataclasses.dataclass(frozen=True, kw_only=True)
class PreparedJudge:
    """Texts that are ready to be judged."""

    given: Sequence[Text]
    texts: Sequence[Text]
    """As far as they can be read."""
    facts: JudgedTexts
    judge: TextJudge


def prepare(
    target: str | LoadedModel,
    sequences: Sequence[Text] | Sequence[Sequence[int]],
    sampling: Sampling,
    *,
    prompt_lengths: Sequence[int] | None = None,
    drafter: str | LoadedModel | None = None,
    tolerance: float | None = None,
    new_tokens: int | None = None,
    processors: ProcessorSource = None,
    rounds: Sequence[Sequence[Round]] | None = None,
    drafts: Sequence[Drafts] | None = None,
) -> PreparedJudge:
    """Load what judges texts, and look at what needs no pass of it. Parameters and errors are those
    of `conformance`.
    """
    greedy = sampling.temperature == 0
    loaded_target, draft_model = scoring_models(target, None if greedy else drafter)
    given = checked_texts(sequences, prompt_lengths)
    check_room([loaded_target, *([draft_model] if draft_model else [])], given)
    changes = ready_processors(processors, loaded_target, sampling.temperature)
    ends = frozenset(ending_tokens(loaded_target, changes))
    texts, violations = readable(given, ends, vocabulary(loaded_target))
    if new_tokens is not None:
        violations = (*violations, *wrong_ends(given, texts, ends, new_tokens))
    if not new_places(texts) and not violations:
        raise MeasurementError(
            "the texts hold no new token to judge; let the engine emit some, or lower "
            "prompt_lengths"
        )
    if tolerance is None:
        tolerance = TOLERANCES.get(loaded_target.model.dtype, TOLERANCES[torch.bfloat16])
    judge = TextJudge(
        loaded_target,
        draft_model,
        texts,
        sampling,
        ends=sorted(ends),
        tolerance=tolerance,
        processors=changes,
        rounds=rounds,
        drafts=drafts,
    )
    facts = JudgedTexts(
        lengths=tuple(len(text.ids) for text in texts),
        violations=violations,
        batches=judge.batches(),
    )
    return PreparedJudge(given=given, texts=texts, facts=facts, judge=judge)
