"""Flags of chat templates: what is read, how they are named, and what messages become."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from helpers.records import TEXTS

from pytest_specdec.cases.prompts import Prompt
from pytest_specdec.cases.template_flags import (
    parse_template_flags,
    template_flags,
    with_flags,
)
from pytest_specdec.common.errors import RequestError

CHAT = Prompt("key", "chat", messages=((("content", "Hi"), ("role", "user")),))
PLAIN = Prompt("other", "prose", text="Once")


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("enable_thinking=false", {"enable_thinking": False}),
        ("enable_thinking=False,other=True", {"enable_thinking": False, "other": True}),
        ("reasoning_effort=low, depth=3", {"reasoning_effort": "low", "depth": 3}),
        ("system_prompt=", {"system_prompt": ""}),
        ("system_prompt=12", {"system_prompt": "12"}),
    ],
)
def test_text_and_dict_are_the_same_flags(text: str, values: dict[str, Any]) -> None:
    assert parse_template_flags(text) == template_flags(values)


def test_true_and_one_are_two_flags() -> None:
    flags = [template_flags({"x": value}) for value in (True, 1, 1.0, "1")]
    assert len(set(flags)) == len(flags)
    assert dataclasses.replace(TEXTS, flags=flags[0]) != dataclasses.replace(TEXTS, flags=flags[1])


def test_none_is_no_flag() -> None:
    assert parse_template_flags("none") == template_flags({})
    assert str(template_flags({})) == "none"


@pytest.mark.parametrize(
    "given",
    [
        {"messages": "x"},
        {"chat_template": "{{ 7 }}"},
        {"a b": 1},
        {"x": None},
        {"x": [1]},
        {"x": float("inf")},
        {"system_prompt": 3},
    ],
)
def test_what_cannot_be_a_flag_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(RequestError, match="cannot be a template's flag; use NAME=VALUE"):
        template_flags(given)


@pytest.mark.parametrize("word", ["False", "false", "TRUE"])
def test_a_word_for_true_or_false_is_refused(word: str) -> None:
    with pytest.raises(RequestError, match="which templates take for true; write enable_thinking="):
        template_flags({"enable_thinking": word})


@pytest.mark.parametrize("text", ["", "thinking", "a=1,a=2", "=3"])
def test_other_forms_are_refused(text: str) -> None:
    with pytest.raises(RequestError):
        parse_template_flags(text)


def test_names_are_fit_for_files_and_differ_where_the_flags_do() -> None:
    given = ["x=true", "x=false", "x=", "x=a/b", "x=../c", "y=true", "x=1", "x=1.5", "x=É"]
    names = [parse_template_flags(text).name for text in given]
    assert len(set(names)) == len(given)
    assert not any(letter in name for name in names for letter in "/ =É")
    flags = parse_template_flags("enable_thinking=false")
    key = dataclasses.replace(TEXTS, flags=flags)
    assert key.name == f"{TEXTS.settings}-enable_thinking-false-n64-s0"


def test_a_system_prompt_comes_first_and_the_key_stays() -> None:
    flags = template_flags({"system_prompt": "Be brief.", "thinking": True})
    (prompt,) = with_flags([CHAT], flags, "prompts.jsonl")
    assert prompt.key == CHAT.key
    assert prompt.chat() == [{"role": "system", "content": "Be brief."}, *CHAT.chat()]
    assert dict(prompt.variables) == {"thinking": True}


def test_flags_that_change_nothing_or_contradict_the_file_are_refused() -> None:
    flags = template_flags({"system_prompt": ""})
    with pytest.raises(RequestError, match="holds no messages"):
        with_flags([PLAIN], flags, "prompts.jsonl")
    with pytest.raises(RequestError, match=r"1 of 2 prompts in .* hold no messages"):
        with_flags([CHAT, PLAIN], flags, "prompts.jsonl")
    (own,) = with_flags([CHAT], flags, "prompts.jsonl")
    with pytest.raises(RequestError, match="has a system message of its own"):
        with_flags([own], flags, "prompts.jsonl")
