"""pytest hooks and fixtures, nothing else. Nothing heavy is imported before a test asks for a
measurement.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

from .common.errors import SpecdecError, naming_extras
from .config.options import MARKER_ARGUMENTS, OPTIONS

if TYPE_CHECKING:
    from transformers.modeling_layers import MtpModel

    from .cases.case import Case
    from .cases.texts import Text
    from .decoding.decode import Decoded
    from .decoding.loading import LoadedModel
    from .decoding.timing import SteadyRounds
    from .engines.counting.oracle import Agreement
    from .judging.comparison import Baseline, Run
    from .lossless.texts.conformance import Conformance
    from .output.results import OutputReport
    from .session.counts_gates import SpecdecGate
    from .session.session import Session
    from .speedup.cost_profile import CostProfile

SESSION: pytest.StashKey[Session] = pytest.StashKey()
MARKERS = (
    f"specdec({', '.join(MARKER_ARGUMENTS)}): run the test over every k and depth of a pair of "
    "models; drafter='mtp' is the target's own MTP heads, drafter='prompt-lookup' copies from the "
    "text",
    "kN: carried by every generated case, N draft tokens per round; select with -m k8",
    "depthN: carried by every generated case, N MTP layers per drafter pass; select with -m 'k8 "
    "and depth3'",
)


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("specdec", "speculative decoding (pytest-specdec)")
    for option in OPTIONS:
        value = {"type": option.parser, "metavar": option.metavar} if option.takes_value else {}
        group.addoption(
            option.flag,
            action=option.action,
            default=None,
            help=option.help_text.replace("%", "%%"),
            **value,
        )
        if option.ini:
            parser.addini(
                option.ini_name, f"{option.help_text}; {option.flag} overrides it", default=""
            )


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    from .session import hookspecs

    pluginmanager.add_hookspecs(hookspecs)


def pytest_configure(config: pytest.Config) -> None:
    for line in MARKERS:
        config.addinivalue_line("markers", line)
    is_worker = hasattr(config, "workerinput")
    if is_worker:
        # Threads of torch that wait in a loop take the cores from those of the other workers.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # xdist's controller collects nothing, and must be there to receive what workers measure.
    distributes = getattr(config.option, "dist", "no") != "no" or is_worker
    if distributes or _is_used(config):
        session_of(config)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "specdec_case" in metafunc.fixturenames:
        session_of(metafunc.config).collection.parametrize(metafunc)


def pytest_itemcollected(item: pytest.Item) -> None:
    # The session must be there before it shares its false-alarm rate among the gates.
    if "specdec_gate" in getattr(item, "fixturenames", ()):
        session_of(item.config)


def session_of(config: pytest.Config) -> Session:
    """The session's state, made and registered on first use, so that a project that does not use
    the plugin pays nothing.
    """
    if SESSION not in config.stash:
        from .config.settings import Settings
        from .session.session import Session

        try:
            config.stash[SESSION] = Session(config, Settings.from_pytest_config(config))
        except SpecdecError as error:
            raise pytest.UsageError(str(error)) from None
        config.stash[SESSION].register(config.pluginmanager)
    return config.stash[SESSION]


def _is_used(config: pytest.Config) -> bool:
    """Whether the command line or the ini file gives any of our options."""
    return any(
        config.getoption(o.flag) is not None or (o.ini and config.getini(o.ini_name))
        for o in OPTIONS
    )


@pytest.fixture
def specdec_case(request: pytest.FixtureRequest) -> Case:
    """The case of this test: pair, k, depth, rule, temperature, prompts."""
    case: Case = request.param
    return case


@pytest.fixture
def specdec_target(request: pytest.FixtureRequest, specdec_case: Case) -> LoadedModel:
    """The target model, loaded once a session."""
    with _as_test_error():
        return session_of(request.config).components.models.model(specdec_case.target)


@pytest.fixture
def specdec_drafter(request: pytest.FixtureRequest, specdec_case: Case) -> LoadedModel | MtpModel:
    """The draft model, or the target's own MTP heads, loaded once a session."""
    with _as_test_error():
        return session_of(request.config).components.models.drafter(specdec_case)


@pytest.fixture
def specdec_run(request: pytest.FixtureRequest, specdec_case: Case) -> Run:
    """What this session measures for the case: once, shared by all its tests."""
    with _as_test_error():
        return session_of(request.config).components.runner.run(specdec_case)


@pytest.fixture
def specdec_baseline(request: pytest.FixtureRequest, specdec_case: Case) -> Baseline:
    """The stored record to compare with: `assert specdec_run == specdec_baseline`. One of
    several candidates has none: it is measured and the test skipped.
    """
    session = session_of(request.config)
    if specdec_case.candidate:
        with _as_test_error():
            session.components.runner.run(specdec_case)
        pytest.skip("measured: candidates are compared with each other, not with a baseline")
    session.expect_comparison(request.node.nodeid)
    with _as_test_error():
        return session.components.runner.baseline(specdec_case)


@pytest.fixture
def specdec_decode(request: pytest.FixtureRequest, specdec_case: Case) -> Callable[..., Decoded]:
    """Speculative generation with the case's pair: `specdec_decode(prompts, new_tokens=64)`; see
    `pytest_specdec.decode`.
    """
    with _as_test_error():
        return functools.partial(session_of(request.config).components.models.decode, specdec_case)


@pytest.fixture
def specdec_rounds(
    request: pytest.FixtureRequest, specdec_case: Case
) -> Callable[..., SteadyRounds]:
    """Rounds of the case's decoder to be timed, with pytest-benchmark for instance:
    `specdec_rounds(batch_size=8)`.
    """
    with _as_test_error():
        return functools.partial(session_of(request.config).components.models.rounds, specdec_case)


@pytest.fixture
def specdec_conformance(request: pytest.FixtureRequest, specdec_case: Case) -> Conformance:
    """Whether the texts that the engine emits for the case follow its target: `.conforms`,
    `.message`.
    """
    with _as_test_error():
        return session_of(request.config).components.runner.conformance(specdec_case)


@pytest.fixture
def specdec_oracle(request: pytest.FixtureRequest, specdec_case: Case) -> Agreement:
    """Whether the engine counts what its models imply on the texts that it emitted, no baseline
    needed: `.agrees`, `.message`.
    """
    with _as_test_error():
        return session_of(request.config).components.runner.oracle(specdec_case)


@pytest.fixture
def specdec_output(request: pytest.FixtureRequest, specdec_case: Case) -> OutputReport:
    """Every check of what the engine returns for the case: how texts end, whose they are, batches,
    streams, tool calls, counters: `.right`, `.message`, `.results`.
    """
    with _as_test_error():
        return session_of(request.config).components.output(specdec_case)


@pytest.fixture
def specdec_supported(request: pytest.FixtureRequest, specdec_case: Case) -> None:
    """Skips the test, with the engine's reason, where the engine cannot run the case:
    `usefixtures("specdec_supported")`.
    """
    with _as_test_error():
        reason = session_of(request.config).components.runner.unsupported(specdec_case)
    if reason is not None:
        pytest.skip(reason)


@pytest.fixture
def specdec_verifier(request: pytest.FixtureRequest) -> Callable[..., object]:
    """The sampler under test for `assert_lossless`: --specdec-verifier's, or our own rejection
    rule. Override it with yours.
    """
    with _as_test_error():
        return session_of(request.config).components.verifier()


@pytest.fixture
def specdec_texts(request: pytest.FixtureRequest, specdec_case: Case) -> tuple[Text, ...]:
    """The texts that the engine emits for the case: `.ids` holds the prompt's tokens, as many as
    `.prompt_length`, and the new ones.
    """
    with _as_test_error():
        return session_of(request.config).components.runner.texts(specdec_case)


@pytest.fixture
def specdec_costs(request: pytest.FixtureRequest, specdec_case: Case) -> CostProfile | None:
    """The case's cost profile; None where none is named."""
    with _as_test_error():
        return session_of(request.config).components.runner.costs(specdec_case)


@pytest.fixture
def specdec_gate(request: pytest.FixtureRequest) -> Callable[..., SpecdecGate]:
    """The gate on counts that the test has at hand: `specdec_gate("name").check(rounds=...)`, with
    `margin=`, `k=` and `metric=` after the name.
    """
    session = session_of(request.config)
    with _as_test_error():
        session.expect_counts(request.node)

    def gate(
        name: str,
        *,
        margin: float | None = None,
        k: int | None = None,
        metric: str = "acceptance_length",
    ) -> SpecdecGate:
        __tracebackhide__ = True
        with _as_test_error():
            return session.counts_gates.gate(request.node, name, margin=margin, k=k, metric=metric)

    return gate


@contextlib.contextmanager
def _as_test_error() -> Iterator[None]:
    """Turn our own errors, and failed imports of what an extra brings, into a test error of one
    message without a traceback.
    """
    try:
        with naming_extras():
            yield
    except SpecdecError as error:
        raise pytest.fail.Exception(str(error), pytrace=False) from None
