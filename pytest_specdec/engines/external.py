"""Adapts another project's engine to the protocol of this project's engines: its texts, and its
counts checked and normalised.

Models are loaded only for what needs them: the oracle, conformance, and engines that run in this
process.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import platform
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from ..cases.case import SERVED, Case
from ..cases.drafter import RegisteredSpec
from ..cases.prompts import Prompt
from ..cases.texts import Text
from ..cases.tree import DynamicTree
from ..checkpoints.checkpoint import Checkpoint, case_checkpoint
from ..checkpoints.text_ends import target_fingerprint
from ..common.errors import (
    MeasurementError,
    RequestError,
    SpecdecError,
    UnsupportedError,
)
from ..records.conditions import Environment, Fingerprints
from .adapter_api import (
    Adapter,
    EngineSetup,
    GenerationRequest,
    PooledCounters,
    PromptRequest,
    Reported,
)
from .adapters.capabilities import check_capabilities
from .adapters.registry import make_adapter
from .adapters.trace_writer import write_trace
from .counting.checks import check_pooled, check_reported
from .counting.normalise import definition_of, normalised, text_of
from .encoding import decoder, encoded
from .fingerprints import drafter_fingerprint, template_in
from .models import ModelPool
from .protocol import Engine, MeasuredTimes, Measurement, check_rounds
from .text_endings import TargetEnds, check_ending, target_ends

if TYPE_CHECKING:
    from .counting.possible_rounds import CountedRun


@dataclasses.dataclass(frozen=True)
class _Run:
    """The results of one run of a case."""

    prompts: Sequence[Prompt]
    reported: Sequence[Reported]
    pooled: PooledCounters | None

    @functools.cached_property
    def texts(self) -> list[Text]:
        return [
            text_of(reported, prompt.category)
            for reported, prompt in zip(self.reported, self.prompts, strict=True)
        ]

    @property
    def categories(self) -> list[str]:
        return [prompt.category for prompt in self.prompts]

    @property
    def altered(self) -> str | None:
        """The mode in which the engine does not decode with its own models."""
        return next((text.altered for text in self.reported if text.altered), None)

    @property
    def masked(self) -> str | None:
        """Whether masks were recorded: counts under masks are compared with no others."""
        return "masked" if any(text.masks is not None for text in self.reported) else None


class ExternalEngine(Engine):
    """One adapter for a session. `kept` is the folder for texts measured before a fault;
    None keeps none.
    """

    def __init__(
        self,
        name: str,
        models: ModelPool,
        *,
        url: str | None = None,
        kept: Path | None = Path(".specdec"),
    ) -> None:
        self._name, self._models, self._url, self._kept = name, models, url, kept
        self._runs: dict[Case, _Run] = {}
        self._uncounted: dict[Case, _Run] = {}

    @property
    def name(self) -> str:
        return self._name

    @property
    def models(self) -> ModelPool:
        return self._models

    @functools.cached_property
    def adapter(self) -> Adapter:
        """Raises RequestError where the engine is not here."""
        models = self.models
        setup = EngineSetup(
            url=self._url,
            device=models.device,
            dtype=models.dtype,
            model=models.model,
            report=models.report,
        )
        return make_adapter(self.name, setup)

    def measure(self, case: Case) -> Measurement:
        run = self._runs[case] = (
            self._uncounted.pop(case) if case in self._uncounted else self._run(case)
        )
        definition = definition_of(run.reported, case.drafter_name, run.pooled)
        counts = normalised(definition, run.reported, run.categories, case.k, run.pooled)
        check_rounds(counts, case)
        target = self._checkpoint(case.target)
        if target is not None:
            target.hash_now(self.models.report)
        target_name = SERVED if target is None else target_fingerprint(target)
        weights = self._drafting_weights(case)
        convention = run.reported[0].convention
        drafter = drafter_fingerprint(case, weights, convention.ngrams, self.models.report)
        has_ids = [bool(text.new_ids) for text in run.reported]
        greedy_of = target_name if case.temperature == 0 else None
        fingerprints = {
            text.key: _fingerprint(text, known, greedy_of)
            for text, known in zip(run.texts, has_ids, strict=True)
        }
        return Measurement(
            counts=counts,
            fingerprints=Fingerprints(target_name, drafter),
            environment=self._environment(case),
            tokenizer=SERVED if target is None else target.tokenizer_fingerprint,
            template=template_in(target, run.prompts),
            text_fingerprints=fingerprints
            if run.pooled is None
            else dict.fromkeys(counts.prompts, _joined(fingerprints)),
            texts=None,
            times=_times(run.reported) if (case.batch or 1) == 1 else None,
            looping=sum(
                text.loops for text, known in zip(run.texts, has_ids, strict=True) if known
            ),
            definition=definition.name,
            altered=run.altered or run.masked,
        )

    def emitted(self, case: Case) -> Sequence[Text]:
        run = self._latest(case)
        if any(not text.new_ids for text in run.reported):
            raise RequestError(
                f"{self.name} returns no token ids; let it return them, or leave out what needs "
                "its texts"
            )
        return run.texts

    def counted(self, case: Case) -> CountedRun:
        from .counting.possible_rounds import CountedRun

        run = self._latest(case)
        definition = definition_of(run.reported, case.drafter_name, run.pooled)
        counts = normalised(definition, run.reported, run.categories, case.k, run.pooled)
        return CountedRun(
            case=case,
            reported=run.reported,
            categories=run.categories,
            definition=definition,
            counts=counts,
            pooled=run.pooled,
        )

    def unsupported(self, case: Case) -> str | None:
        """Only a run shows it for certain; each case is run once."""
        try:
            self._latest(case)
        except UnsupportedError as error:
            return str(error)
        return None

    def _latest(self, case: Case) -> _Run:
        if case not in self._runs:
            self._runs[case] = self._uncounted[case] = self._run(case)
        return self._runs[case]

    def _run(self, case: Case) -> _Run:
        """Have the engine emit all texts and check each as it arrives; those before a fault are
        kept.
        """
        self._check(case)
        prompts = case.texts.read_prompts()
        request, target = self._request(case, prompts), self._checkpoint(case.target)
        ends, decode = self._ends(case, target), decoder(target)
        reported: list[Reported] = []
        pooled: PooledCounters | None = None
        try:
            for result in self.adapter.run(request):
                if isinstance(result, PooledCounters):
                    check_pooled(result, reported, request)
                    pooled = result
                else:
                    check_reported(result, request)
                    check_ending(result, request, ends, decode)
                    reported.append(result)
        except SpecdecError as error:
            raise self._with_the_rest(error, case, request, reported) from error
        if [result.key for result in reported] != [prompt.key for prompt in prompts]:
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
        """The error, with the file in which the texts before it are kept."""
        if not reported or self._kept is None or self.name == "trace":
            return error
        path = self._kept / case.suite / f"{case.name}-s{case.texts.seed}.jsonl"
        write_trace(path, request, f"{self.name} {self.adapter.version()}", reported)
        message = (
            f"{error} ({len(reported)} of {len(request.prompts)} texts were measured before and "
            f"are kept in {path})"
        )
        return type(error)(message)

    def _check(self, case: Case) -> None:
        """Refuse what the engine cannot do at all. Raises RequestError."""
        target = self._checkpoint(case.target) if case.uses_own_heads else None
        check_capabilities(self.name, self.adapter.capabilities, case, target)

    def _request(self, case: Case, prompts: Sequence[Prompt]) -> GenerationRequest:
        ids: Sequence[Sequence[int] | None] = [None] * len(prompts)
        able = self.adapter.capabilities
        if able.wants_ids and (able.loads or self._checkpoint(case.target) is not None):
            ids = encoded(
                self._checkpoint(case.target), lambda: self.models.model(case.target), prompts
            )
        return GenerationRequest(
            prompts=[
                PromptRequest(prompt, None if row is None else tuple(row))
                for prompt, row in zip(prompts, ids, strict=True)
            ],
            k=case.k,
            depth=case.depth,
            target=case.target,
            drafter=str(case.drafter),
            sampling=case.texts.sampling,
            new_tokens=case.texts.new_tokens,
            seed=case.texts.seed,
            rule=case.rule,
            tree=case.tree if isinstance(case.tree, DynamicTree) else None,
            batch=case.batch or 1,
        )

    def _ends(self, case: Case, target: Checkpoint | None) -> TargetEnds | None:
        """What ends the target's texts; None without its files."""
        if target is None:
            return None
        declared = target_ends(target)
        if not self.adapter.capabilities.loads:
            return declared
        from ..decoding.sampling import eos_ids

        eos = frozenset(
            eos_ids(self.models.model(case.target))
        )  # transformers has defaults of its own
        return dataclasses.replace(declared, eos=eos, known=declared.known | eos)

    def _checkpoint(self, name: str) -> Checkpoint | None:
        """A model's files; None where they are not on this machine."""
        checkpoint = case_checkpoint(name)
        if checkpoint is None and self.adapter.capabilities.loads:
            loaded: Checkpoint = self.models.model(name).checkpoint
            return loaded
        return checkpoint

    def _drafting_weights(self, case: Case) -> Checkpoint | None:
        """The files of what drafts; None where they are not on this machine."""
        if isinstance(case.drafter, RegisteredSpec):
            folder = case.drafter.folder
            return None if folder is None else Checkpoint(folder)
        return self._checkpoint(case.draft_model or case.target)

    def _environment(self, case: Case) -> Environment:
        """This process's where torch computes; of another engine only the version is known."""
        engine = self.adapter.version()
        if self.name != "transformers":
            device = (
                f"{self.models.device} {platform.machine()}"
                if self.adapter.capabilities.loads
                else SERVED
            )
            return Environment(
                torch="",
                transformers="",
                device=device,
                dtype=self.models.dtype,
                threads=0,
                engine=engine,
            )
        from ..decoding.environment import environment

        return msgspec.structs.replace(
            environment(self.models.model(case.target).device, self.models.dtype), engine=engine
        )


def _times(reported: Sequence[Reported]) -> MeasuredTimes | None:
    """Medians of the rounds and the speed over all texts; None where nothing was timed."""
    timed = [(text.timings, text.tokens) for text in reported if text.timings is not None]
    seconds = sum(timings.seconds for timings, _ in timed)
    if not seconds > 0:
        return None
    draft = [ms for timings, _ in timed for ms in timings.draft_ms or ()]
    verify = [ms for timings, _ in timed for ms in timings.verify_ms or ()]
    return MeasuredTimes(
        draft_ms=statistics.median(draft) if draft else None,
        verify_ms=statistics.median(verify) if verify else None,
        batch_size=1,
        tokens_per_second=sum(tokens for _, tokens in timed) / seconds,
    )


def _fingerprint(text: Text, known: bool, greedy_of: str | None) -> str:
    """Unreported tokens are the same only where the target decodes greedily and has no choice; else
    it is empty.
    """
    if known:
        return text.fingerprint
    return "" if greedy_of is None else f"{len(text.ids)} greedy of {greedy_of}"


def _joined(fingerprints: dict[str, str]) -> str:
    """One fingerprint of all texts; empty where one of them is not known."""
    if not all(fingerprints.values()):
        return ""
    return hashlib.sha256(
        " ".join(fingerprints[key] for key in sorted(fingerprints)).encode()
    ).hexdigest()[:12]
