"""The composition root: from settings and cases to the engine, the runner and the store."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from ..common.errors import SpecdecError
from ..common.progress import ProgressBar
from ..config import dividing, options
from ..config.settings import Settings
from .import_by_name import imported
from .merging import merged_parts
from .own_device import own_device
from .state import SessionCases
from .update_command import update_command
from .workers import command_line

if TYPE_CHECKING:
    from ..baselines.store import BaselineStore
    from ..cases.case import Case
    from ..cases.counts_case import CountsCase
    from ..engines.executor import Executor
    from ..engines.models import ModelPool
    from ..engines.protocol import Engine
    from ..judging.counts_gate import CountsGate, GateRequest, GivenEngine
    from ..judging.policy import Policy
    from ..judging.runner import CaseRunner
    from ..output.results import OutputReport


class Components:
    """The session's objects, each made on first use, so that nothing is imported before a test
    needs it.
    """

    def __init__(self, config: pytest.Config, settings: Settings, cases: SessionCases) -> None:
        self._config, self._settings, self._cases = config, settings, cases
        self._engine: Engine | None = None
        self._engine_error: SpecdecError | None = None
        self._runner: CaseRunner | None = None
        self._counts_runners: list[CaseRunner] = []

    @functools.cached_property
    def store(self) -> BaselineStore:
        """The stored baselines. A session that creates what is missing takes no shared baseline in
        the place of the device's own. Raises RequestError where the device is not known.
        """
        from ..baselines.store import BaselineStore

        return BaselineStore(
            self._settings.baselines,
            device=own_device(self._settings),
            falls_back=not self._policy.creates,
        )

    @property
    def engine(self) -> Engine:
        """The session's engine; the first use imports what it needs. Raises RequestError where that
        is missing.

        An engine that could not be made is not tried again: the other tests fail with the same
        error.
        """
        if self._engine_error is not None:
            raise self._engine_error.with_traceback(None)
        if self._engine is None:
            try:
                self._engine = self._make_engine()
            except SpecdecError as error:
                self._engine_error = error
                raise
        return self._engine

    @functools.cached_property
    def models(self) -> ModelPool:
        """The session's models in this process, each loaded on first use."""
        return self._make_models(report=ProgressBar(self._config))

    @property
    def _make_models(self) -> Callable[..., ModelPool]:
        """Makes models like the session's; can be sent to other processes."""
        from ..engines.factory import make_models

        return functools.partial(
            make_models,
            self._settings.value(options.ENGINE),
            device=self._settings.value(options.DEVICE),
            dtype=self._settings.value(options.DTYPE),
            offload=self._settings.value(dividing.OFFLOAD),
            # Texts pass through models for replay, and again for conformance and the contexts of
            # new baselines.
            asks_again=self._cases.judges_texts or self._settings.value(options.UPDATE) is not None,
        )

    @property
    def runner(self) -> CaseRunner:
        """The runner of the session's cases."""
        if self._runner is None:
            self._runner = self._make_runner()
        return self._runner

    @property
    def runner_in_use(self) -> CaseRunner | None:
        """The runner, where a test has needed it."""
        return self._runner

    @property
    def runners_in_use(self) -> list[CaseRunner]:
        """The runner, where a test has needed it, and those of counts that tests handed over."""
        return [*filter(None, [self._runner]), *self._counts_runners]

    def counts_gate(self, request: GateRequest) -> CountsGate:
        """The gate on counts that a test hands over."""
        from ..judging.counts_gate import CountsGate

        return CountsGate(
            request,
            runner=self._make_counts_runner,
            level=self._policy.alpha / (self._gates_of_cases + len(self._cases.counts_tests)),
            rewrites=self._policy.rewrites,
        )

    def verifier(self) -> Callable[..., object]:
        """The sampler that --specdec-verifier names, or our own rejection rule."""
        from ..lossless.samplers.verifiers import of_rule

        name = self._settings.value(options.VERIFIER)
        if name is None:
            return of_rule("rejection")
        return imported(
            name,
            self._config.rootpath,
            options.VERIFIER.name,
            "target_probs, draft_probs and draft_tokens",
        )

    def output(self, case: Case) -> OutputReport:
        """The checks of what the engine returns for a case, and of its server where it has one."""
        from ..output.checks import examined
        from ..output.subject import CONCURRENCY, OutputSubject

        server, url = None, self._settings.url
        if url is not None and url.startswith(("http://", "https://")):
            from ..output.text_server import TextServer

            server = TextServer.at(url)
        subject = OutputSubject(
            name=f"{self._settings.value(options.ENGINE)}: {case.id}",
            prompts=case.texts.read_prompts(),
            new_tokens=case.texts.new_tokens,
            engine=self.engine,
            cases=(case,),
            server=server,
            concurrency=(1, case.batch)
            if case.batch
            else tuple(sorted(set(self._cases.batches[case]))) or CONCURRENCY,
            alpha=self.runner.test_level,
            report=self.models.report,
        )
        return examined(subject)

    def _make_engine(self) -> Engine:
        from ..engines.factory import make_engine

        settings = self._settings
        return make_engine(
            settings.value(options.ENGINE),
            [seeded for seeds in self.measured_cases.values() for seeded in seeds],
            self.models,
            url=settings.url,
            draft_url=settings.value(options.DRAFT_URL),
            stored_texts=self.store.texts,
            kept=self._config.rootpath / ".specdec" if self._policy.keeps_texts else None,
            executor=self.executor,
        )

    @functools.cached_property
    def executor(self) -> Executor | None:
        """Where the engine's work is done; None for this process. Raises RequestError where both
        a shard and all parts are asked for.
        """
        shard = self._settings.value(dividing.SHARD)
        merged = merged_parts(self._config)
        if merged is not None:
            from ..engines.shards import PartExecutor

            return PartExecutor(merged)
        if shard is not None:
            from ..engines.shards import ShardExecutor

            return ShardExecutor(shard, self.models)
        address = self._settings.value(dividing.RAY)
        if address is None:
            return None
        from ..engines.ray_actors import RayExecutor

        return RayExecutor(
            self.models,
            self._make_models,
            address,
            gpus=self._settings.value(dividing.RAY_GPUS),
            cpus=self._settings.value(dividing.RAY_CPUS),
        )

    def _make_runner(self) -> CaseRunner:
        from ..judging.runner import CaseRunner

        return CaseRunner(
            self.measured_cases,
            engine=self.engine,
            store=self.store,
            policy=self._policy,
            update_command=self._update_command,
            replaced_models=self._cases.replaced_models,
            other_gates=len(self._cases.counts_tests),
        )

    def _make_counts_runner(self, case: CountsCase, engine: GivenEngine) -> CaseRunner:
        from ..judging.runner import CaseRunner

        runner = CaseRunner(
            {case: (case,)},
            engine=engine,
            store=self.store,
            # --specdec-prompts does not narrow what a test hands over.
            policy=dataclasses.replace(self._policy, subset=False),
            update_command=self._update_command,
            replaced_models={},
            other_gates=self._gates_of_cases + len(self._cases.counts_tests) - 1,
        )
        self._counts_runners.append(runner)
        return runner

    @functools.cached_property
    def _gates_of_cases(self) -> int:
        """Judgements on the selected cases that share the session's false-alarm rate."""
        from ..judging.costs import SessionCosts
        from ..judging.decisions import gates_of
        from ..judging.stored_records import StoredRecords

        judged = [case for case in self._cases.selected if not case.candidate]
        return gates_of(judged, SessionCosts(judged, None, StoredRecords(self.store)))

    @functools.cached_property
    def measured_cases(self) -> dict[Case, tuple[Case, ...]]:
        """Which runs are measured for each selected case: decided once, for engine and runner."""
        from ..baselines import repeats

        policy, store = self._policy, self.store
        return {
            case: repeats.measured_cases(
                case,
                store,
                repeats=self._settings.value(options.REPEATS),
                rewrites=policy.rewrites,
                accumulate=policy.accumulate,
            )
            for case in self._cases.selected
        }

    @property
    def _policy(self) -> Policy:
        from ..judging.policy import Policy

        settings = self._settings
        return Policy(
            alpha=settings.value(options.ALPHA),
            inconclusive=settings.value(options.INCONCLUSIVE),
            update=settings.value(options.UPDATE),
            subset=settings.command_line[options.PROMPTS] is not None,
            accumulate=settings.value(options.ACCUMULATE),
            keeps_texts=settings.value(options.KEEP) == "texts",
            shows_tokens=settings.writes_html,
            costs_margin=settings.value(options.COSTS_MARGIN),
        )

    def _update_command(self, which: str) -> str:
        """This session's own command line, with --specdec-update."""
        words = command_line(self._config)
        return update_command(words, self._config.getoption("file_or_dir"), which)
