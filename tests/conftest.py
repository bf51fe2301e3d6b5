"""Fixtures of all tests."""

from __future__ import annotations

import ctypes
import functools
import gc
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from helpers.embedded import Pair

# Before anything imports torch: the models are tiny, and two threads beside another busy process
# thrash.
os.environ.setdefault("OMP_NUM_THREADS", "1")

pytest_plugins = ["pytester"]


def _keep_freed_memory() -> None:
    """glibc returns large blocks to the kernel as soon as they are freed, and torch asks for the
    same sizes again in the next step: pages that stay are not filled with zeros anew.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        trim_threshold, mmap_threshold, most = -1, -3, 1 << 30
        libc.mallopt(mmap_threshold, most)
        libc.mallopt(trim_threshold, most)


_keep_freed_memory()

HERE = Path(__file__).parent
SLOW = (
    "commands/test_doctor.py",
    "doctor/test_eagle3_run.py",
    "doctor/test_misread_heads.py",
    "doctor/test_mtp_run.py",
    "doctor/test_rotated_target.py",
    "output/test_decoder_output.py",
    "output/test_llama_cpp_output.py",
    "museum",
    "models",
    "plugin",
    "suites",
    "baselines/test_update.py",
    "decoding/drafters/test_added_distribution.py",
    "decoding/drafters/test_blocks.py",
    "decoding/drafters/test_residual_heads.py",
    "decoding/test_constrained_replay.py",
    "decoding/test_controlled_rows.py",
    "decoding/test_processors.py",
    "gate/test_staleness.py",
    "decoding/test_added_rule.py",
    "decoding/test_agreement.py",
    "decoding/test_confidence.py",
    "decoding/test_decode.py",
    "decoding/test_exact_agreement.py",
    "decoding/test_keyed_noise.py",
    "decoding/test_layer_states.py",
    "decoding/test_loading.py",
    "decoding/test_mtp_forward.py",
    "decoding/test_ragged.py",
    "decoding/test_sampled_distribution.py",
    "decoding/test_sampling.py",
    "decoding/drafters/test_eagle3.py",
    "decoding/drafters/test_eagle3_rounds.py",
    "decoding/drafters/test_eagle3_targets.py",
    "decoding/drafters/test_trained_heads.py",
    "decoding/test_text_origin.py",
    "decoding/test_timing.py",
    "decoding/test_verification.py",
    "decoding/test_whole_requests.py",
    "engines/adapters/test_transformers_drafts.py",
    "engines/counting/test_oracle.py",
    "engines/own",
    "engines/test_engine_suite.py",
    "engines/test_models.py",
    "lossless/drafters",
    "lossless/samplers",
    "lossless/test_candidate_generators.py",
    "lossless/test_extra.py",
    "lossless/test_public_names.py",
    "lossless/test_ragged_rows.py",
    "lossless/texts",
    "test_docs.py",
    "test_extras.py",
    "test_fuzz_inputs.py",
    "test_silence.py",
)
"""Folders and files, below this one, whose tests run pytest inside pytest, decode thousands of
rounds, train, or otherwise take seconds: `make test-fast` leaves them out.
"""


_SLOW_PATHS = {HERE / name for name in SLOW}


@functools.cache
def is_slow(path: Path) -> bool:
    return not _SLOW_PATHS.isdisjoint((path, *path.parents))


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Where no slow test is wanted, their files are not imported."""
    return True if config.option.markexpr == "not slow" and is_slow(collection_path) else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if is_slow(item.path) or item.get_closest_marker("exhaustive"):
            item.add_marker("slow")


def pytest_collection_finish() -> None:
    """Collections of garbage leave alone what importing torch and transformers made, which stays."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Name the real engines that no test of this run exercised, so that green is not read as more."""
    from helpers.real_engine import PACKAGES

    reasons = {str(report.longrepr) for report in terminalreporter.stats.get("skipped", ())}
    missing = [
        engine
        for engine, package in PACKAGES.items()
        if any(f"{package} is not installed" in reason for reason in reasons)
    ]
    if missing:
        terminalreporter.write_line(
            f"not exercised here: {', '.join(missing)}; `make engines` and `make engines-vllm` run them"
        )


@pytest.fixture(scope="session")
def _warm_python(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    from helpers.warm_python import WarmPython

    with WarmPython(tmp_path_factory.mktemp("warm")) as python:
        yield python.executable


@pytest.fixture
def warm_processes(_warm_python: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes that the test starts by `sys.executable`, such as workers of xdist, have pytest and
    torch loaded already.
    """
    monkeypatch.setattr(sys, "executable", str(_warm_python))


@pytest.fixture(scope="session")
def pair() -> Pair:
    """The embedded pair with the suite's prompts."""
    from helpers.embedded import Pair

    return Pair.load()


@pytest.fixture(scope="session")
def tiny_target(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama of two layers with two MTP layers."""
    from helpers.support import llama

    return llama(tmp_path_factory.mktemp("models") / "tiny-target", seed=1)


@pytest.fixture(scope="session")
def tiny_draft(tiny_target: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The target with noise on its weights: a drafter that further noise makes worse."""
    from helpers.support import add_noise

    return add_noise(tiny_target, tmp_path_factory.mktemp("models") / "tiny-draft", 0.3)
