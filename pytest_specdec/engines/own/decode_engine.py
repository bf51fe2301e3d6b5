"""Decoding as an engine: real speculative generation, its rounds counted."""

from __future__ import annotations

import dataclasses
import functools
import statistics
import time
from collections.abc import Sequence

from ...acceptance.counts import Counts
from ...acceptance.lookup import NGRAM
from ...acceptance.renewal import expected_counts
from ...acceptance.rounds import counts_of_rounds, with_passes
from ...cases.case import Case
from ...cases.prompts import Prompt
from ...cases.rules import is_replayable
from ...cases.texts import Text
from ...cases.tree_rules import not_replayable_tree
from ...common.errors import MeasurementError
from ...decoding.decode import Decoded
from ...decoding.environment import environment
from ...decoding.named_processors import ready_processors
from ...decoding.replay import DrafterPlan, text_scores
from ...decoding.sampling import encode_prompts, ending_tokens
from ..adapter_api import CountingConvention, Reported, ReportedRound
from ..counting.normalise import definition_of
from ..counting.possible_rounds import CountedRun
from ..fingerprints import template_of
from ..models import DECODE_BATCH, ModelPool
from ..protocol import Engine, MeasuredTimes, Measurement, check_rounds
from ..text_endings import TargetEnds, ending_faults

_CONVENTION = CountingConvention(end="full", undelivered=True, counts_empty=True, ngrams=(1, NGRAM))
"""How our own decoder counts: k drafts in every round that has room for them, and what was accepted
after an EOS token.
"""


class DecodeEngine(Engine):
    """Measures by decoding: every case emits its own texts and counts its own rounds."""

    name = "decode"

    def __init__(self, models: ModelPool) -> None:
        self._models = models
        self._latest: dict[Case, _DecodedTexts] = {}
        """What was last decoded for each case."""
        self._uncounted: set[Case] = set()
        """Decoded for their texts alone: the next measurement counts them."""

    @property
    def models(self) -> ModelPool:
        return self._models

    def emitted(self, case: Case) -> Sequence[Text]:
        return self._decoded(case).texts

    def _decoded(self, case: Case) -> _DecodedTexts:
        if case not in self._latest:
            self._latest[case] = self._decode_texts(case)
            self._uncounted.add(case)
        return self._latest[case]

    def _decode_texts(self, case: Case) -> _DecodedTexts:
        prompts = case.texts.read_prompts()
        ids = encode_prompts(self.models.model(case.target).tokenizer, prompts)
        self.models.load_drafter(case)  # so that what is timed is decoding
        begun = time.perf_counter()
        decoded = self.models.decode(
            case, ids, progress=functools.partial(self.models.report, f"{case.id}: decode")
        )
        seconds = time.perf_counter() - begun
        texts = [
            dataclasses.replace(text, key=prompt.key, category=prompt.category)
            for text, prompt in zip(decoded.texts, prompts, strict=True)
        ]
        latest = _DecodedTexts(prompts, texts, decoded, seconds)
        target = self.models.model(case.target)
        processors = ready_processors(case.texts.processors, target, case.temperature)
        eos = frozenset(ending_tokens(target, processors))
        for reported in latest.reported:
            for fault in ending_faults(reported, case.texts.new_tokens, TargetEnds(eos, eos)):
                raise MeasurementError(fault.sentence)
        return latest

    def measure(self, case: Case) -> Measurement:
        target = self.models.model(case.target)
        if case not in self._uncounted:
            self._latest[case] = self._decode_texts(case)
        self._uncounted.discard(case)
        latest = self._latest[case]
        prompts, texts, decoded = latest.prompts, latest.texts, latest.decoded
        counts = with_passes(counts_of_rounds(texts, decoded.rounds, case.k), texts, decoded.rounds)
        check_rounds(counts, case)
        emitted = sum(len(text.ids) - text.prompt_length for text in texts)
        return Measurement(
            counts=counts,
            fingerprints=self.models.fingerprints(case),
            environment=environment(target.device, self.models.dtype),
            tokenizer=target.checkpoint.tokenizer_fingerprint,
            template=template_of(target, prompts),
            text_fingerprints={text.key: text.fingerprint for text in texts},
            texts=None,
            times=MeasuredTimes(
                draft_ms=statistics.median(decoded.draft_ms),
                verify_ms=statistics.median(decoded.verify_ms),
                batch_size=min(case.batch or DECODE_BATCH, len(prompts)),
                tokens_per_second=emitted / latest.seconds,
            ),
            looping=sum(text.loops for text in texts),
            expected=self._expected(case, texts),
        )

    def counted(self, case: Case) -> CountedRun:
        latest = self._decoded(case)
        reported = latest.reported
        definition = definition_of(reported, case.drafter_name)
        counts = counts_of_rounds(latest.texts, latest.decoded.rounds, case.k)
        categories = [text.category for text in latest.texts]
        return CountedRun(
            case=case,
            reported=reported,
            categories=categories,
            definition=definition,
            counts=counts,
        )

    def _expected(self, case: Case, texts: list[Text]) -> Counts | None:
        """What the pair should have had accepted on these texts; None for a rule that cannot be
        replayed.
        """
        if case.tree is not None:
            if not_replayable_tree(case.rule, case.tree) is not None:
                return None
            return expected_counts(self.models.tree_field(case, texts), case.k)
        if not is_replayable(case.rule):
            return None
        plan = DrafterPlan(self.models.drafting(case), case.depth, case.k, drafting=case.drafting)
        progress = functools.partial(self.models.report, f"{case.id}: replay")
        target = self.models.model(case.target)
        (scores,) = text_scores(
            target,
            [plan],
            texts,
            case.texts.sampling,
            progress,
            processors=ready_processors(case.texts.processors, target, case.temperature),
        )
        return expected_counts(scores.field(case.rule), case.k)


@dataclasses.dataclass(frozen=True)
class _DecodedTexts:
    """What decoding one case gave, for all that ask."""

    prompts: Sequence[Prompt]
    texts: list[Text]
    decoded: Decoded
    seconds: float

    @property
    def reported(self) -> list[Reported]:
        """The texts as an external engine would report them."""
        return [
            Reported(
                key=text.key,
                prompt_ids=text.ids[: text.prompt_length],
                new_ids=text.ids[text.prompt_length :],
                convention=_CONVENTION,
                rounds=tuple(ReportedRound(played.drafted, played.accepted) for played in rounds),
            )
            for text, rounds in zip(self.texts, self.decoded.rounds, strict=True)
        ]
