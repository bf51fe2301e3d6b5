"""Somebody else's decoder behind the same protocol as our own: its texts, its counts checked and
normalised.

Models are loaded only for what needs them: the oracle, conformance, and engines that run in this
process.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import platform
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from ..acceptance.lookup import NGRAM
from ..cases.case import LOOKUP, LOSSY_RULES, SERVED, Case
from ..cases.prompts import Prompt, read_prompts
from ..cases.texts import Text
from ..checkpoints.checkpoint import Checkpoint, case_checkpoint
from ..common.errors import (
    MeasurementError,
    RequestError,
    SpecdecError,
    UnsupportedError,
    naming_extras,
)
from ..records.conditions import Environment, Fingerprints
from .adapter_api import (
    Adapter,
    CountingConvention,
    EngineSetup,
    GenerationRequest,
    PooledCounters,
    PromptRequest,
    Reported,
)
from .adapters.capabilities import check_capabilities
from .adapters.registry import adapter
from .adapters.trace import write_trace
from .counting.checks import check_pooled, check_reported
from .counting.normalise import definition_of, normalised, starts_of, text_of
from .encoding import decoder, encoded
from .protocol import Engine, MeasuredTimes, Measurement
from .text_endings import TargetEnds, check_ending, target_ends

if TYPE_CHECKING:
    from ..lossless.texts.conformance import Conformance
    from ..speedup.cost_profile import CostProfile
    from .counting.oracle import Agreement
    from .own.local import LocalEngine


@dataclasses.dataclass(frozen=True)
class _Run:
    """What one run of a case gave."""

    prompts: Sequence[Prompt]
    reported: Sequence[Reported]
    pooled: PooledCounters | None

    @functools.cached_property
    def texts(self) -> list[Text]:
        return [
            text_of(one, prompt.category)
            for one, prompt in zip(self.reported, self.prompts, strict=True)
        ]

    @property
    def categories(self) -> list[str]:
        return [prompt.category for prompt in self.prompts]

    @property
    def altered(self) -> str | None:
        """The mode under which the engine is no decoder of its models."""
        return next((one.altered for one in self.reported if one.altered), None)


class ForeignEngine(Engine):
    """One adapter for a session. `kept` is the folder for what was measured before a fault."""

    def __init__(
        self,
        name: str,
        *,
        url: str | None = None,
        device: str = "auto",
        dtype: str = "float32",
        kept: Path = Path(".specdec"),
        report: Callable[[str, int, int], None] = lambda what, done, total: None,
    ) -> None:
        self._name = name
        self._url, self._device, self._dtype, self._kept, self._report = (
            url,
            device,
            dtype,
            kept,
            report,
        )
        self._made: dict[Case, _Run] = {}
        self._uncounted: dict[Case, _Run] = {}

    @property
    def name(self) -> str:
        return self._name

    @functools.cached_property
    def adapter(self) -> Adapter:
        """Raises RequestError where the engine is not here."""
        return adapter(
            self.name, EngineSetup(self._url, self._device, self._dtype, self.model, self._report)
        )

    @functools.cached_property
    def local(self) -> LocalEngine:
        """The case's models in this process. Raises RequestError without torch and transformers."""
        with naming_extras():
            from .own.replay_engine import ReplayEngine
        return ReplayEngine((), device=self._device, dtype=self._dtype, report=self._report)

    def model(self, name: str) -> Any:
        """A checkpoint, loaded once a session. Raises RequestError where only a server has the
        weights.
        """
        if name == SERVED:
            raise RequestError(
                "this needs the models' weights here; pass --specdec-target= and --specdec-draft="
            )
        return self.local.model(name)

    def measure(self, case: Case) -> Measurement:
        run = self._made[case] = (
            self._uncounted.pop(case) if case in self._uncounted else self._run(case)
        )
        definition = definition_of(run.reported, case.drafter, run.pooled)
        counts = normalised(definition, run.reported, run.categories, case.k, run.pooled)
        if not counts.total_rounds > 0:
            raise MeasurementError(
                f"no text is long enough for a round of k={case.k}; raise --specdec-new-tokens"
            )
        target = self._checkpoint(case.target)
        if target is not None:
            target.hash_now(self._report)
        target_name = SERVED if target is None else target.model_fingerprint
        told = [bool(one.new_ids) for one in run.reported]
        greedy_of = target_name if case.temperature == 0 else None
        fingerprints = {
            text.key: _fingerprint(text, known, greedy_of)
            for text, known in zip(run.texts, told, strict=True)
        }
        return Measurement(
            counts,
            Fingerprints(target_name, self._drafter_fingerprint(case, run.reported[0].convention)),
            self._environment(case),
            SERVED if target is None else target.tokenizer_fingerprint,
            self._template(case, run.prompts),
            fingerprints
            if run.pooled is None
            else dict.fromkeys(counts.prompts, _joined(fingerprints)),
            None,
            _times(run.reported),
            sum(text.loops for text, known in zip(run.texts, told, strict=True) if known),
            definition=definition.name,
            altered=run.altered,
        )

    def emitted(self, case: Case) -> Sequence[Text]:
        run = self._latest(case)
        if any(not one.new_ids for one in run.reported):
            raise RequestError(
                f"{self.name} gives no token ids; let it return them, or leave out what needs its "
                "texts"
            )
        return run.texts

    def conformance(self, case: Case, alpha: float) -> Conformance:
        """Judge the emitted texts by the target's own distributions. Raises RequestError for a
        lossy rule or mode.
        """
        if case.rule in LOSSY_RULES:
            raise RequestError(
                f"rule {case.rule!r} is lossy by design, so its texts cannot conform; leave "
                "specdec_conformance out"
            )
        self._refuse_altered(case, "specdec_conformance")
        target, sampling = self.model(case.target), case.texts.sampling
        from ..lossless.texts.conformance import conformance

        reported = self._latest(case).reported
        known = (
            case.rule == "rejection"
            and definition_of(reported, case.drafter, self._latest(case).pooled).end == "inside"
        )
        return conformance(
            target,
            self.emitted(case),
            temperature=sampling.temperature,
            top_k=sampling.top_k,
            top_p=sampling.top_p,
            drafter=None
            if case.draft_model is None or case.depth
            else self.model(case.draft_model),
            alpha=alpha,
            rounds=[starts_of(one) for one in reported] if known else None,
        )

    def oracle(self, case: Case, alpha: float) -> Agreement:
        """Whether the engine counts what its models imply. Raises RequestError for a lossy mode, or
        without token ids.
        """
        self._refuse_altered(case, "specdec_oracle")
        run, target = self._latest(case), self.model(case.target)
        if case.drafter == LOOKUP and (ngrams := run.reported[0].convention.ngrams) != (1, NGRAM):
            told = (
                "does not say which n-grams it looks up"
                if ngrams is None
                else f"looks up n-grams of {_span(ngrams)} tokens"
            )
            raise RequestError(
                f"{self.name} {told}, and only those of {_span((1, NGRAM))} tokens can be "
                "replayed; leave specdec_oracle out"
            )
        drafter = case.drafter if case.draft_model is None else self.model(case.draft_model)
        from ..decoding.replay import check_drafter
        from .counting.oracle import agreement
        from .counting.possible_rounds import JudgedRun

        check_drafter(target, drafter, case.depth)
        definition = definition_of(run.reported, case.drafter, run.pooled)
        counts = normalised(definition, run.reported, run.categories, case.k, run.pooled)
        return agreement(
            JudgedRun(case, run.reported, run.categories, definition, counts, run.pooled),
            target,
            drafter,
            alpha,
        )

    def unsupported(self, case: Case) -> str | None:
        """Known for certain only when the case is run; it is run once."""
        try:
            self._latest(case)
        except UnsupportedError as error:
            return str(error)
        return None

    def costs(self, cases: Sequence[Case]) -> CostProfile:
        """Times of our own rounds of the same models: an engine does not tell its own."""
        return self.local.costs(cases)

    def words(self, case: Case, tokens: Sequence[int]) -> list[str]:
        return self.local.words(case, tokens)

    def _refuse_altered(self, case: Case, fixture: str) -> None:
        if altered := self._latest(case).altered:
            raise RequestError(
                f"{self.name} runs {altered}, so neither its texts nor its counts are its models'; "
                "turn that off, or leave "
                f"{fixture} out"
            )

    def _latest(self, case: Case) -> _Run:
        if case not in self._made:
            self._made[case] = self._uncounted[case] = self._run(case)
        return self._made[case]

    def _run(self, case: Case) -> _Run:
        """Ask the engine for all texts, and check each as it comes; what came before a fault is
        kept.
        """
        self._check(case)
        prompts = read_prompts(case.texts.prompts, case.texts.prompt_limit)
        request, target = self._request(case, prompts), self._checkpoint(case.target)
        ends, decode = self._ends(case, target), decoder(target)
        reported: list[Reported] = []
        pooled: PooledCounters | None = None
        try:
            for one in self.adapter.run(request):
                if isinstance(one, PooledCounters):
                    check_pooled(one, reported, request)
                    pooled = one
                else:
                    check_reported(one, request)
                    check_ending(one, request, ends, decode)
                    reported.append(one)
        except SpecdecError as error:
            raise self._with_the_rest(error, case, request, reported) from error
        if [one.key for one in reported] != [prompt.key for prompt in prompts]:
            raise MeasurementError(
                f"{self.name} answered {len(reported)} of {len(prompts)} prompts; look into its log"
            )
        return _Run(prompts, reported, pooled)

    def _with_the_rest(
        self,
        error: SpecdecError,
        case: Case,
        request: GenerationRequest,
        reported: Sequence[Reported],
    ) -> SpecdecError:
        """The error, with word of where the texts before it are kept."""
        if not reported or self.name == "trace":
            return error
        path = self._kept / case.suite / f"{case.name}-s{case.texts.seed}.jsonl"
        write_trace(path, request, f"{self.name} {self.adapter.version()}", reported)
        told = (
            f"{error} ({len(reported)} of {len(request.prompts)} texts were measured before and "
            f"are kept in {path})"
        )
        return type(error)(told)

    def _check(self, case: Case) -> None:
        """Refuse what the engine cannot do at all. Raises RequestError."""
        target = self._checkpoint(case.target) if case.uses_own_heads else None
        check_capabilities(self.name, self.adapter.capabilities, case, target)

    def _request(self, case: Case, prompts: Sequence[Prompt]) -> GenerationRequest:
        ids: Sequence[Sequence[int] | None] = [None] * len(prompts)
        able = self.adapter.capabilities
        if able.wants_ids and (able.loads or self._checkpoint(case.target) is not None):
            ids = encoded(self._checkpoint(case.target), lambda: self.model(case.target), prompts)
        return GenerationRequest(
            [
                PromptRequest(prompt, None if own is None else tuple(own))
                for prompt, own in zip(prompts, ids, strict=True)
            ],
            case.k,
            case.depth,
            case.target,
            case.drafter,
            case.texts.sampling,
            case.texts.new_tokens,
            case.texts.seed,
            case.rule,
        )

    def _ends(self, case: Case, target: Checkpoint | None) -> TargetEnds | None:
        """What ends the target's texts; None where its files are not at hand."""
        if target is None:
            return None
        found = target_ends(target)
        if not self.adapter.capabilities.loads:
            return found
        from ..decoding.sampling import eos_ids

        eos = frozenset(eos_ids(self.model(case.target)))  # transformers has defaults of its own
        return dataclasses.replace(found, eos=eos, known=found.known | eos)

    def _checkpoint(self, name: str) -> Checkpoint | None:
        """A model's files where they are at hand."""
        checkpoint = case_checkpoint(name)
        if checkpoint is None and self.adapter.capabilities.loads:
            loaded: Checkpoint = self.model(name).checkpoint
            return loaded
        return checkpoint

    def _drafter_fingerprint(self, case: Case, convention: CountingConvention) -> str:
        if case.drafter == LOOKUP:
            return _lookup_fingerprint(convention.ngrams)
        checkpoint = self._checkpoint(case.target if case.uses_own_heads else case.drafter)
        if checkpoint is None:
            return SERVED
        if case.uses_own_heads:
            return checkpoint.heads_fingerprint
        checkpoint.hash_now(self._report)
        return "-".join(
            [checkpoint.model_fingerprint, *([checkpoint.heads_fingerprint] if case.depth else [])]
        )

    def _environment(self, case: Case) -> Environment:
        """Of this process where torch computes; of another engine its version is all that is
        known.
        """
        engine = self.adapter.version()
        if self.name != "transformers":
            device = (
                f"{self._device} {platform.machine()}"
                if self.adapter.capabilities.loads
                else SERVED
            )
            return Environment("", "", device, self._dtype, 0, engine)
        from ..decoding.environment import environment

        return msgspec.structs.replace(
            environment(self.model(case.target).device, self._dtype), engine=engine
        )

    def _template(self, case: Case, prompts: Sequence[Prompt]) -> str | None:
        """Hash of the chat template where any prompt goes through it."""
        if not any(prompt.messages for prompt in prompts):
            return None
        checkpoint = self._checkpoint(case.target)
        if checkpoint is None:
            return SERVED
        template = checkpoint.folder / "chat_template.jinja"
        source = template if template.is_file() else checkpoint.folder / "tokenizer_config.json"
        return hashlib.sha256(source.read_bytes() if source.is_file() else b"").hexdigest()[:16]


def _span(ngrams: tuple[int, int]) -> str:
    return f"{ngrams[0]} to {ngrams[1]}"


def _lookup_fingerprint(ngrams: tuple[int, int] | None) -> str:
    """The n-grams that were looked up: `prompt-lookup-2` for those of at most 2 tokens,
    `prompt-lookup-2-4` for 2 to 4.
    """
    if ngrams is None:
        return f"{LOOKUP}-{SERVED}"
    least, most = ngrams
    return f"{LOOKUP}-{most}" if least == 1 else f"{LOOKUP}-{least}-{most}"


def _times(reported: Sequence[Reported]) -> MeasuredTimes | None:
    """Medians of the rounds and the speed over all texts; None where nothing was timed."""
    timed = [(one.timings, one.tokens) for one in reported if one.timings is not None]
    seconds = sum(timings.seconds for timings, _ in timed)
    if not seconds > 0:
        return None
    draft = [ms for timings, _ in timed for ms in timings.draft_ms or ()]
    verify = [ms for timings, _ in timed for ms in timings.verify_ms or ()]
    return MeasuredTimes(
        statistics.median(draft) if draft else None,
        statistics.median(verify) if verify else None,
        1,
        sum(tokens for _, tokens in timed) / seconds,
    )


def _fingerprint(text: Text, known: bool, greedy_of: str | None) -> str:
    """Tokens that nobody told are the same only where the target, decoding greedily, has no choice;
    else it is empty.
    """
    if known:
        return text.fingerprint
    return "" if greedy_of is None else f"{len(text.ids)} greedy of {greedy_of}"


def _joined(fingerprints: dict[str, str]) -> str:
    """One for all of them; empty where any text is not known."""
    if not all(fingerprints.values()):
        return ""
    return hashlib.sha256(
        " ".join(fingerprints[key] for key in sorted(fingerprints)).encode()
    ).hexdigest()[:12]
