"""The default cases of `suites/engines`, and defects of a decoder judged by them."""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
import inspect
from collections.abc import Callable, Sequence

import pytest
from museum.exhibits import EXHIBITS
from museum.sampling_defects import SAMPLING_DEFECTS

from helpers.support import ROOT
from pytest_specdec.cases.case import Case
from pytest_specdec.cases.texts import Text
from pytest_specdec.config.case_grid import cases
from pytest_specdec.config.options import ALPHA
from pytest_specdec.config.settings import Marker, OptionValues, Settings
from pytest_specdec.engines.counting.oracle import Agreement
from pytest_specdec.engines.model_checks import conformance, oracle
from pytest_specdec.engines.models import ModelPool
from pytest_specdec.engines.own.decode_engine import DecodeEngine
from pytest_specdec.lossless.texts.conformance import Conformance

SUITE = ROOT / "suites" / "engines"
Defect = Callable[[pytest.MonkeyPatch], None]


def default_cases(engine: str = "decode", *, heads: bool = False) -> dict[str, Case]:
    """Every case of the suite by its class: `TestTopK`, `eos/TestGreedy`. Those of EAGLE-3 heads,
    in which the museum's defects do not show, are apart: with `heads` these, `eagle3/TestGreedy`.
    """
    settings = Settings(OptionValues(engine=engine), OptionValues(), ROOT, ROOT)
    by_label: dict[str, Case] = {}
    for path in sorted(SUITE.rglob("test_*.py")):
        spec = importlib.util.spec_from_file_location(f"suite_{path.stem}", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        if path.parent.name == "smollm2" or heads != (path.parent.name == "eagle3"):
            continue
        folder = "" if path.parent == SUITE else f"{path.parent.name}/"
        for name, value in vars(module).items():
            if inspect.isclass(value) and name.startswith("Test"):
                marks = [mark for mark in value.pytestmark if mark.name == "specdec"]
                marker = Marker.from_pytest_mark((), marks[-1].kwargs, name)
                (by_label[folder + name],) = cases(settings, marker, path.parent)
    return by_label


def level(named: dict[str, Case]) -> float:
    """What one judgement has of the error rate, as in a session of all cases."""
    sampled = sum(case.temperature > 0 for case in named.values())
    return ALPHA.default / max(len(named), 2 * sampled)


@dataclasses.dataclass(frozen=True)
class Judgements:
    """What a case says of one run."""

    oracle: Agreement
    conformance: Conformance
    texts: Sequence[Text]

    @property
    def finders(self) -> list[str]:
        return ["oracle"] * (not self.oracle.agrees) + ["conformance"] * (
            not self.conformance.conforms
        )


def decoder_defects() -> dict[str, Defect]:
    """The museum's defects of decoders, and those of sampling, by name. Edited checkpoints are
    other drafters, no defects.
    """
    museum = {exhibit.name: exhibit.defect for exhibit in EXHIBITS if exhibit.defect is not None}
    return museum | {
        sampling_defect.name: sampling_defect.defect for sampling_defect in SAMPLING_DEFECTS
    }


@functools.cache
def _engine() -> DecodeEngine:
    return DecodeEngine(ModelPool("cpu"))


def judged(case: Case, alpha: float, defect: Defect | None = None, seed: int = 0) -> Judgements:
    """Decode a case with a defect, and judge what came out without it. A right decoder is judged
    once for all tests.
    """
    case = dataclasses.replace(case, texts=dataclasses.replace(case.texts, seed=seed))
    return _judged_right(case, alpha) if defect is None else _judged(case, alpha, defect)


def _judged(case: Case, alpha: float, defect: Defect | None) -> Judgements:
    engine = _engine()
    engine._latest.pop(case, None)
    with pytest.MonkeyPatch.context() as patch:
        if defect is not None:
            defect(patch)
        _ = engine.emitted(case)
    return Judgements(
        oracle(engine, case, alpha), conformance(engine, case, alpha), engine.emitted(case)
    )


@functools.cache
def _judged_right(case: Case, alpha: float) -> Judgements:
    return _judged(case, alpha, None)
