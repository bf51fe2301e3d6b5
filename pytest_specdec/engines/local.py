"""Models in this process: replay (one pass of each model over given texts) and decode (real speculative generation)."""

from __future__ import annotations

import abc
import dataclasses
import functools
import hashlib
import statistics
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import msgspec

from ..acceptance.case import LOOKUP, LOSSY_RULES, Case, Sampling, TextKey
from ..acceptance.counts import Counts
from ..acceptance.lookup import NGRAM
from ..acceptance.prompts import Prompt, read_prompts
from ..acceptance.renewal import expected_counts
from ..acceptance.rounds import counts_of_rounds
from ..acceptance.samples import Samples
from ..acceptance.scores import Scores
from ..acceptance.stream import judged_scores
from ..acceptance.texts import Text, texts_of_prompts
from ..baselines.schema import SCHEMA, Fingerprints, TextSet
from ..decoding.environment import environment
from ..decoding.generate import Decoded, decode
from ..decoding.loading import LoadedModel, load_model
from ..decoding.replay import DrafterPlan, check_drafter, text_scores
from ..decoding.sampling import encode_prompts, sample_new_tokens
from ..decoding.timing import Setting, SteadyRounds, emitted_starts, measure_costs, steady_rounds
from ..errors import MeasurementError, RequestError, SpecdecError
from ..lossless.conformance import Conformance, conformance
from ..speedup.costs import CostProfile
from .normalise import definition_of
from .oracle import Agreement, Judged, agreement
from .protocol import Engine, Measurement, Times
from .reported import Manner, Reported, ReportedRound

if TYPE_CHECKING:
    from transformers.modeling_layers import MtpModel

Report = Callable[[str, int, int], None]
"""Progress: (what, texts done, texts in all)."""

DECODE_BATCH = 16
"""Rows decoded at once."""

_MANNER = Manner(end="full", undelivered=True, counts_empty=True)
"""How our own decoder counts: k drafts to the end, and what was accepted past it."""

_CONTEXT = 128
"""Cached tokens before rounds are timed, where the model has room for them."""

_ScoresKey = tuple[str, int | None]
"""Drafter, and the depth where each depth needs scores of its own."""


class LocalEngine(Engine):
    """Models of a session, each loaded once. `plan` is every case of it."""

    def __init__(
        self,
        plan: Sequence[Case],
        *,
        device: str = "auto",
        dtype: str = "float32",
        stored_texts: Callable[[TextKey], TextSet | None] = lambda key: None,
        report: Report = lambda what, done, total: None,
    ) -> None:
        self._plan = tuple(plan)
        self._device, self._dtype = device, dtype
        self._stored_texts, self._report = stored_texts, report
        self.model = functools.cache(self._load)
        self._judged = functools.cache(_conformance_of)

    def drafter(self, case: Case) -> LoadedModel | MtpModel:
        """The loaded draft model, or the target's own MTP heads. Raises RequestError for prompt lookup, which has neither."""
        if case.uses_own_heads:
            return self.model(case.target).heads
        if case.draft_model is None:
            raise RequestError("prompt lookup has no model; leave specdec_drafter out of this test")
        return self.model(case.draft_model)

    def decode(self, case: Case, prompts: Sequence[Sequence[int]] | Sequence[str], **options: object) -> Decoded:
        """Decode speculatively as the case says; `options` are those of `decode` and win."""
        wanted: dict[str, object] = {
            "k": case.k,
            "depth": case.depth,
            "rule": case.rule,
            "temperature": case.temperature,
            "top_k": case.texts.top_k,
            "top_p": case.texts.top_p,
            "new_tokens": case.texts.new_tokens,
            "batch_size": DECODE_BATCH,
            "seed": case.texts.seed,
        }
        return decode(self.model(case.target), self._drafting(case), prompts, **(wanted | options))  # type: ignore[arg-type]

    @abc.abstractmethod
    def emitted(self, case: Case) -> Sequence[Text]:
        """The texts that this engine emits for a case."""

    def conformance(self, case: Case, alpha: float) -> Conformance:
        """Judge the emitted texts by the target's own laws, see `lossless.conformance`. Raises RequestError for a lossy rule."""
        if case.rule in LOSSY_RULES:
            raise RequestError(
                f"rule {case.rule!r} is lossy by design, so its texts cannot conform; leave specdec_conformance out"
            )
        drafter = None if case.draft_model is None or case.depth else self.model(case.draft_model)
        return self._judged(self.model(case.target), tuple(self.emitted(case)), case.texts.sampling, drafter, alpha)

    def oracle(self, case: Case, alpha: float) -> Agreement:
        raise RequestError(f"engine {self.name!r} counts no rounds of its own to be judged; leave specdec_oracle out")

    def costs(self, cases: Sequence[Case]) -> CostProfile:
        """Times of the rounds of cases that share their models and temperature, at batch size 1."""
        one = cases[0]
        context = min(_CONTEXT, (self.model(one.target).checkpoint.context or 2 * _CONTEXT) // 2)
        drafter = None if one.draft_model is None else self.model(one.draft_model)
        self._report(f"{one.suite}: timing rounds", 0, 1)
        profile = measure_costs(
            self.model(one.target),
            drafter,
            ks={size for case in cases for size in (case.verified, case.drafted)},
            depths={case.depth for case in cases},
            setting=Setting(context=context, temperature=one.temperature, dtype=self._dtype),
            own_heads=one.uses_own_heads,
            lookup=one.drafter == LOOKUP,
        )
        self._report(f"{one.suite}: timing rounds", 1, 1)
        return profile

    def rounds(self, case: Case, *, batch_size: int = 1, context: int = _CONTEXT, plain: bool = False) -> SteadyRounds:
        """Endless rounds of the case's decoder, to be timed; with `plain` steps of the target alone."""
        target = self.model(case.target)
        setting = Setting(batch_size, context, case.temperature, self._dtype)
        starts = emitted_starts(target, setting)
        if plain:
            return steady_rounds(target, None, 0, 0, setting, starts)
        check_drafter(target, self._drafting(case), case.depth)
        return steady_rounds(target, self._drafting(case), case.k, case.depth, setting, starts)

    def words(self, case: Case, tokens: Sequence[int]) -> list[str]:
        """Tokens as the target's tokenizer decodes them."""
        tokenizer = self.model(case.target).tokenizer
        return [tokenizer.decode([token]) for token in tokens]

    def _load(self, name: str) -> LoadedModel:
        return load_model(name, self._device, self._dtype)

    def _drafting(self, case: Case) -> LoadedModel | str:
        return case.drafter if case.draft_model is None else self.model(case.draft_model)

    def _load_drafter(self, case: Case) -> None:
        """Load now what drafting would load on first use."""
        model = self._drafting(case)
        if case.depth:
            _ = (model if isinstance(model, LoadedModel) else self.model(case.target)).heads

    def _drafter_fingerprint(self, case: Case) -> str:
        if case.uses_own_heads:
            return self.model(case.target).checkpoint.heads_fingerprint
        if case.draft_model is None:
            return f"{LOOKUP}-{NGRAM}"
        checkpoint = self.model(case.draft_model).checkpoint
        return "-".join([checkpoint.model_fingerprint, *([checkpoint.heads_fingerprint] if case.depth else [])])

    def _fingerprints(self, case: Case) -> Fingerprints:
        return Fingerprints(self.model(case.target).checkpoint.model_fingerprint, self._drafter_fingerprint(case))


class ReplayEngine(LocalEngine):
    """Measures by replay: scores reach as far as any case of the plan needs, from one pass for each set of texts."""

    name = "replay"

    @functools.cached_property
    def _group(self) -> Callable[[TextKey], _TextGroup]:
        return functools.cache(self._measure_group)

    def measure(self, case: Case) -> Measurement:
        target = self.model(case.target)
        group = self._group(case.texts)
        scores = group.scores[_scores_key(case)]
        if isinstance(scores, SpecdecError):
            raise scores
        own = scores if case.draft_model is None else scores.first_heads(1 + case.depth)
        if case.judged is not None:
            own = judged_scores(own, group.texts, case.judged, own_heads=case.uses_own_heads)
        field = own.field(case.rule)
        counts = expected_counts(field, case.k)
        if not counts.total_rounds > 0:
            raise _no_rounds(case)
        return Measurement(
            counts,
            self._fingerprints(case),
            environment(target.device, self._dtype),
            group.stored.tokenizer,
            group.stored.template,
            group.fingerprints,
            group.stored,
            looping=group.looping,
            samples=Samples.of(field, case.k),
            field=functools.partial(own.field, case.rule),
        )

    def emitted(self, case: Case) -> Sequence[Text]:
        return self._group(case.texts).texts

    def _measure_group(self, key: TextKey) -> _TextGroup:
        target = self.model(key.target)
        texts, stored = self._texts(key, target)
        cases = [case for case in self._plan if case.texts == key]
        scores: dict[_ScoresKey, Scores | SpecdecError] = {}
        plans: dict[_ScoresKey, DrafterPlan] = {}
        for name in dict.fromkeys(map(_scores_key, cases)):
            try:
                plans[name] = self._drafter_plan([case for case in cases if _scores_key(case) == name])
            except SpecdecError as error:
                scores[name] = error
        measured = text_scores(
            target, list(plans.values()), texts, key.sampling, functools.partial(self._report, f"{key.suite}: replay")
        )
        return _TextGroup(texts, stored, scores | dict(zip(plans, measured, strict=True)))

    def _drafter_plan(self, cases: list[Case]) -> DrafterPlan:
        """One drafter's plan for its cases; loads what it needs, so that a bad drafter fails alone."""
        depth, steps = max(case.depth for case in cases), max(case.verified for case in cases)
        target, model = self.model(cases[0].target), self._drafting(cases[0])
        check_drafter(target, model, depth)
        self._load_drafter(max(cases, key=lambda case: case.depth))
        return DrafterPlan(model, depth, steps)

    def _texts(self, key: TextKey, target: LoadedModel) -> tuple[tuple[Text, ...], TextSet]:
        """The stored texts where they fit the target; the missing ones are sampled."""
        prompts = read_prompts(key.prompts, key.prompt_limit)
        ids = encode_prompts(target.tokenizer, prompts)
        wanted = TextSet(
            SCHEMA,
            target.checkpoint.model_fingerprint,
            target.checkpoint.tokenizer_fingerprint,
            _template(target, prompts),
            key.new_tokens,
            key.temperature,
            key.seed,
            {},
            key.top_k,
            key.top_p,
        )
        stored = self._stored_texts(key)
        known = dict(stored.texts) if stored is not None and stored.fits(wanted) else {}
        missing = [row for row, prompt in enumerate(prompts) if prompt.key not in known]
        if missing:
            sampled = sample_new_tokens(
                target,
                [ids[row] for row in missing],
                new_tokens=key.new_tokens,
                sampling=key.sampling,
                seed=key.seed,
                progress=functools.partial(self._report, f"{key.suite}: sampling texts"),
            )
            known |= {prompts[row].key: new for row, new in zip(missing, sampled, strict=True)}
        texts = texts_of_prompts(prompts, ids, [known[prompt.key] for prompt in prompts])
        used = {prompt.key: known[prompt.key] for prompt in prompts}
        return texts, msgspec.structs.replace(wanted, texts=used)


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

    def _decode_texts(self, case: Case) -> _DecodedTexts:
        prompts = read_prompts(case.texts.prompts, case.texts.prompt_limit)
        ids = encode_prompts(self.model(case.target).tokenizer, prompts)
        self._load_drafter(case)  # so that what is timed is decoding
        begun = time.perf_counter()
        decoded = self.decode(case, ids, progress=functools.partial(self._report, f"{case.id}: decode"))
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
        counts = counts_of_rounds(texts, decoded.rounds, case.k)
        if not counts.total_rounds > 0:
            raise _no_rounds(case)
        emitted = sum(len(text.ids) - text.prompt_length for text in texts)
        return Measurement(
            counts,
            self._fingerprints(case),
            environment(target.device, self._dtype),
            target.checkpoint.tokenizer_fingerprint,
            _template(target, prompts),
            {text.key: text.fingerprint for text in texts},
            None,
            Times(
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
            raise RequestError(f"rule {case.rule!r} is lossy by design, so no models imply its rounds; leave specdec_oracle out")
        _ = self.emitted(case)
        made = self._made[case]
        reported = [
            Reported(
                text.key, text.ids[: text.prompt_length], text.ids[text.prompt_length :], _MANNER,
                tuple(ReportedRound(one.drafted, one.accepted) for one in rounds),
            )
            for text, rounds in zip(made.texts, made.decoded.rounds, strict=True)
        ]  # fmt: skip
        definition = definition_of(reported, case.drafter)
        counts = counts_of_rounds(made.texts, made.decoded.rounds, case.k)
        categories = [text.category for text in made.texts]
        judged = Judged(case, reported, categories, definition, counts)
        return agreement(judged, self.model(case.target), self._drafting(case), alpha)

    def _expected(self, case: Case, texts: list[Text]) -> Counts | None:
        """What the pair should have had accepted on these texts; None for a lossy rule."""
        if case.rule in LOSSY_RULES:
            return None
        plan = DrafterPlan(self._drafting(case), case.depth, case.k)
        (scores,) = text_scores(self.model(case.target), [plan], texts, case.texts.sampling)
        return expected_counts(scores.field(case.rule), case.k)


ENGINES: dict[str, type[ReplayEngine] | type[DecodeEngine]] = {"replay": ReplayEngine, "decode": DecodeEngine}
"""By their names on the command line."""


@dataclasses.dataclass(frozen=True)
class _DecodedTexts:
    """What decoding one case gave, for all that ask."""

    prompts: Sequence[Prompt]
    texts: list[Text]
    decoded: Decoded
    seconds: float


@dataclasses.dataclass(frozen=True)
class _TextGroup:
    """All that the cases of one text key share."""

    texts: tuple[Text, ...]
    stored: TextSet
    scores: dict[_ScoresKey, Scores | SpecdecError]

    @functools.cached_property
    def fingerprints(self) -> dict[str, str]:
        return {text.key: text.fingerprint for text in self.texts}

    @functools.cached_property
    def looping(self) -> int:
        return sum(text.loops for text in self.texts)


def _conformance_of(
    target: LoadedModel, texts: tuple[Text, ...], sampling: Sampling, drafter: LoadedModel | None, alpha: float
) -> Conformance:
    return conformance(
        target,
        texts,
        temperature=sampling.temperature,
        top_k=sampling.top_k,
        top_p=sampling.top_p,
        drafter=drafter,
        alpha=alpha,
    )


def _no_rounds(case: Case) -> MeasurementError:
    return MeasurementError(f"no text is long enough for a round of k={case.k}; raise --specdec-new-tokens")


def _scores_key(case: Case) -> _ScoresKey:
    return (case.drafter, case.depth if case.draft_model is None else None)


def _template(target: LoadedModel, prompts: Sequence[Prompt]) -> str | None:
    """Hash of the chat template where any prompt goes through it."""
    if not any(prompt.messages for prompt in prompts):
        return None
    return hashlib.sha256(str(target.tokenizer.chat_template).encode()).hexdigest()[:16]
