"""Decoding as an engine: real speculative generation, its rounds counted."""

from __future__ import annotations

import dataclasses
import functools
import statistics
import time
from collections.abc import Sequence

from ...acceptance.counts import Counts
from ...acceptance.renewal import expected_counts
from ...acceptance.rounds import Round, counts_of_rounds, with_passes
from ...cases.case import LOSSY_RULES, Case
from ...cases.prompts import Prompt, read_prompts
from ...cases.texts import Text
from ...common.errors import RequestError
from ...decoding.decode import Decoded
from ...decoding.environment import environment
from ...decoding.replay import DrafterPlan, text_scores
from ...decoding.sampling import encode_prompts
from ..adapter_api import CountingConvention, Reported, ReportedRound
from ..counting.normalise import definition_of
from ..counting.oracle import Agreement, agreement
from ..counting.possible_rounds import JudgedRun
from ..protocol import MeasuredTimes, Measurement
from .local import DECODE_BATCH, LocalEngine, no_rounds, template_of

_MANNER = CountingConvention(end="full", undelivered=True, counts_empty=True)
"""How our own decoder counts: k drafts in every round that has room for them, and what was accepted
behind an EOS token.
"""


class DecodeEngine(LocalEngine):
    """Measures by decoding: every case emits its own texts and counts its own rounds."""

    name = "decode"

    @functools.cached_property
    def _made(self) -> dict[Case, _DecodedTexts]:
        """What was last decoded for each case."""
        return {}

    @functools.cached_property
    def _uncounted(self) -> set[Case]:
        """Decoded for their texts alone: the next measurement counts them."""
        return set()

    def emitted(self, case: Case) -> Sequence[Text]:
        if case not in self._made:
            self._made[case] = self._decode_texts(case)
            self._uncounted.add(case)
        return self._made[case].texts

    def _rounds_of(self, case: Case) -> tuple[tuple[Round, ...], ...] | None:
        return self._made[case].decoded.rounds if case.rule == "rejection" else None

    def _decode_texts(self, case: Case) -> _DecodedTexts:
        prompts = read_prompts(case.texts.prompts, case.texts.prompt_limit)
        ids = encode_prompts(self.model(case.target).tokenizer, prompts)
        self._load_drafter(case)  # so that what is timed is decoding
        begun = time.perf_counter()
        decoded = self.decode(
            case, ids, progress=functools.partial(self._report, f"{case.id}: decode")
        )
        seconds = time.perf_counter() - begun
        texts = [
            dataclasses.replace(text, key=prompt.key, category=prompt.category)
            for text, prompt in zip(decoded.texts, prompts, strict=True)
        ]
        return _DecodedTexts(prompts, texts, decoded, seconds)

    def measure(self, case: Case) -> Measurement:
        target = self.model(case.target)
        if case not in self._uncounted:
            self._made[case] = self._decode_texts(case)
        self._uncounted.discard(case)
        made = self._made[case]
        prompts, texts, decoded = made.prompts, made.texts, made.decoded
        counts = with_passes(counts_of_rounds(texts, decoded.rounds, case.k), texts, decoded.rounds)
        if not counts.total_rounds > 0:
            raise no_rounds(case)
        emitted = sum(len(text.ids) - text.prompt_length for text in texts)
        return Measurement(
            counts,
            self._fingerprints(case),
            environment(target.device, self._dtype),
            target.checkpoint.tokenizer_fingerprint,
            template_of(target, prompts),
            {text.key: text.fingerprint for text in texts},
            None,
            MeasuredTimes(
                statistics.median(decoded.draft_ms),
                statistics.median(decoded.verify_ms),
                min(DECODE_BATCH, len(prompts)),
                emitted / made.seconds,
            ),
            sum(text.loops for text in texts),
            self._expected(case, texts),
        )

    def oracle(self, case: Case, alpha: float) -> Agreement:
        """Judge the counted rounds by replay of the texts. Raises RequestError for a lossy rule."""
        if case.rule in LOSSY_RULES:
            raise RequestError(
                f"rule {case.rule!r} is lossy by design, so no models imply its rounds; leave "
                "specdec_oracle out"
            )
        _ = self.emitted(case)
        made = self._made[case]
        reported = [
            Reported(
                text.key,
                text.ids[: text.prompt_length],
                text.ids[text.prompt_length :],
                _MANNER,
                tuple(ReportedRound(one.drafted, one.accepted) for one in rounds),
            )
            for text, rounds in zip(made.texts, made.decoded.rounds, strict=True)
        ]
        definition = definition_of(reported, str(case.drafter))
        counts = counts_of_rounds(made.texts, made.decoded.rounds, case.k)
        categories = [text.category for text in made.texts]
        judged = JudgedRun(case, reported, categories, definition, counts)
        return agreement(judged, self.model(case.target), self._drafting(case), alpha)

    def _expected(self, case: Case, texts: list[Text]) -> Counts | None:
        """What the pair should have had accepted on these texts; None for a lossy rule."""
        if case.rule in LOSSY_RULES:
            return None
        plan = DrafterPlan(self._drafting(case), case.depth, case.k)
        progress = functools.partial(self._report, f"{case.id}: replay")
        (scores,) = text_scores(
            self.model(case.target), [plan], texts, case.texts.sampling, progress
        )
        return expected_counts(scores.field(case.rule), case.k)


@dataclasses.dataclass(frozen=True)
class _DecodedTexts:
    """What decoding one case gave, for all that ask."""

    prompts: Sequence[Prompt]
    texts: list[Text]
    decoded: Decoded
    seconds: float
