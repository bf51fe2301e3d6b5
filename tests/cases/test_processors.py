"""Settings of logits processors: read the same from text, JSON and dicts, and named for files."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_specdec.cases.processors import ProcessorSpec, parse_processors
from pytest_specdec.common.errors import RequestError


@pytest.mark.parametrize(
    "given",
    [
        "repetition_penalty=1.1,no_repeat_ngram=3,on_drafts=false",
        '{"no_repeat_ngram": 3, "repetition_penalty": 1.1, "on_drafts": false}',
        {"repetition_penalty": 1.1, "no_repeat_ngram": 3, "on_drafts": False},
    ],
)
def test_text_json_and_dicts_are_the_same(given: object) -> None:
    spec = parse_processors(given)  # type: ignore[arg-type]
    assert spec == ProcessorSpec(repetition_penalty=1.1, no_repeat_ngram=3, on_drafts=False)
    assert spec is not None
    assert spec.name == "rep1.1-ngram3-targetonly"
    assert parse_processors(str(spec)) == spec


@pytest.mark.parametrize("given", ["", {}, {"repetition_penalty": 1}, "on_drafts=false"])
def test_what_changes_nothing_is_none(given: object) -> None:
    assert parse_processors(given) is None  # type: ignore[arg-type]


def test_names_tell_texts_and_tables_apart() -> None:
    names = {
        spec.name
        for settings in (
            {"regex": "a+"},
            {"regex": "b+"},
            {"lark": "a+"},
            {"json_schema": {"type": "object"}},
            {"json_schema": '{ "type":"object" }'},
            {"logit_bias": {1: 2.0}},
            {"logit_bias": {1: 2.5}},
            {"logit_bias": {"1": 2.5}},
        )
        if (spec := parse_processors(settings)) is not None
    }
    assert len(names) == 6
    assert all(name.replace("-", "").isalnum() for name in names)


def test_a_factory_is_another_case_once_its_file_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "masks_of_mine.py").write_text("def make(tokenizer): ...")
    before = parse_processors("factory=masks_of_mine:make")
    (tmp_path / "masks_of_mine.py").write_text("def make(tokenizer): return []")
    after = parse_processors("factory=masks_of_mine:make")
    assert before is not None
    assert after is not None
    assert before.name != after.name


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ("temperature=1", "no setting 'temperature'; choose among repetition_penalty"),
        ("repetition_penalty=0", "no number from 0.01 to 100"),
        ("repetition_penalty=high", "no number from 0.01 to 100"),
        ("min_p=2", "no number from 0 to 1"),
        ("no_repeat_ngram=2.5", "no whole number"),
        ("on_drafts=1", "neither true nor false"),
        ("regex", "give 'regex' no value"),
        ("{regex", "are no JSON"),
        ({"regex": ""}, "is no text"),
        ({"json_schema": "[]"}, "no JSON object"),
        ({"logit_bias": {"a": 1.0}}, "no table of token ids"),
        ({"logit_bias": {1: float("nan")}}, "no table of token ids"),
        ({"regex": "a", "lark": "b"}, "one grammar"),
        ({"factory": "no function"}, "names no function"),
        ({"factory": "no_such_module_here:make"}, "cannot be found"),
    ],
)
def test_bad_settings_are_refused(given: object, problem: str) -> None:
    with pytest.raises(RequestError, match=problem):
        parse_processors(given)  # type: ignore[arg-type]
