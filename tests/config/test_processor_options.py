"""Logits processors of cases: they name the case, its texts and its record, and engines that do not
apply them refuse.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from helpers.records import case

from pytest_specdec.cases.case import JudgedRange
from pytest_specdec.cases.processors import ProcessorSpec
from pytest_specdec.common.errors import RequestError, UnsupportedError
from pytest_specdec.config.case_grid import cases
from pytest_specdec.config.options import PROCESSORS
from pytest_specdec.config.settings import Marker, OptionValues, Settings
from pytest_specdec.engines.adapter_api import Capabilities
from pytest_specdec.engines.adapters.capabilities import check_capabilities

PENALTY = ProcessorSpec(repetition_penalty=1.1)
PAIR: dict[str, Any] = {"target": "models/target", "drafter": "models/text-draft"}


def grid(root: Path, **line: Any) -> Any:
    settings = Settings(OptionValues(**line), OptionValues(), root, root)
    return cases(settings, Marker(**PAIR), root / "suites" / "text")


def test_they_are_part_of_every_name(tmp_path: Path) -> None:
    (plain,), (penalised,) = grid(tmp_path), grid(tmp_path, processors=PENALTY)
    assert penalised.name == f"{plain.name}-rep1.1"
    assert penalised.texts.name == plain.texts.name.replace("t1-", "t1-rep1.1-")
    assert penalised.texts != plain.texts


def test_the_command_line_can_switch_them_off(tmp_path: Path) -> None:
    marker = PAIR | {"processors": PENALTY}
    off = Settings(
        OptionValues(processors=PROCESSORS.parser("none")), OptionValues(), tmp_path, tmp_path
    )
    (plain,) = cases(off, Marker(**marker), tmp_path / "suites" / "text")
    assert plain.texts.processors is None


@pytest.mark.parametrize("engine", ["logprobs", "vllm", "transformers", "llama-cpp", "trace"])
def test_engines_that_do_not_apply_them_refuse(tmp_path: Path, engine: str) -> None:
    with pytest.raises(RequestError, match="does not apply logits processors"):
        grid(tmp_path, processors=PENALTY, engine=engine)
    assert grid(tmp_path, engine="decode", processors=PENALTY)


def test_judged_tokens_do_not_go_with_them(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="--specdec-judged takes tokens as given"):
        grid(tmp_path, processors=PENALTY, judged=JudgedRange(1, 4))


def test_an_adapter_is_not_run_for_them() -> None:
    plain = case()
    penalised = dataclasses.replace(
        plain, texts=dataclasses.replace(plain.texts, processors=PENALTY)
    )
    able = Capabilities(
        drafters=("model",),
        rules=("rejection", "greedy"),
        draft_depth=True,
        samples=True,
        filters=True,
    )
    check_capabilities("somebody", able, plain, None)
    with pytest.raises(UnsupportedError, match="somebody is not asked for logits processors"):
        check_capabilities("somebody", able, penalised, None)


@pytest.mark.parametrize(
    "given", ["repetition_penalty=1.1", '{"repetition_penalty": 1.1}', {"repetition_penalty": 1.1}]
)
def test_markers_take_text_and_dicts(given: object) -> None:
    marker = Marker.from_pytest_mark((), {"processors": given}, "here")
    assert marker[PROCESSORS] == PENALTY


@pytest.mark.parametrize("given", [3, ["repetition_penalty"], {"min_p": 7}])
def test_bad_markers_are_refused(given: object) -> None:
    with pytest.raises(RequestError, match="here: processors="):
        Marker.from_pytest_mark((), {"processors": given}, "here")
