"""Prompt files: what is read, and what is refused with file and line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pytest_specdec.cases.prompts import read_prompts
from pytest_specdec.common.errors import RequestError

PROSE = {"category": "prose", "prompt": "Once upon a time"}
CODE = {"category": "code", "prompt": "def add(a, b):"}
CHAT = {
    "category": "chat",
    "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}],
}


def write(folder: Path, *lines: object) -> Path:
    path = folder / "prompts.jsonl"
    path.write_text(
        "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines),
        encoding="utf-8",
    )
    return path


def test_prompts_are_read_in_order_with_their_categories(tmp_path: Path) -> None:
    prompts = read_prompts(write(tmp_path, PROSE, CODE))
    assert [(prompt.category, prompt.text) for prompt in prompts] == [
        ("prose", PROSE["prompt"]),
        ("code", CODE["prompt"]),
    ]


def test_chat_messages_come_back_as_they_were_written(tmp_path: Path) -> None:
    (prompt,) = read_prompts(write(tmp_path, CHAT))
    assert prompt.text is None
    assert prompt.chat() == CHAT["messages"]


def test_text_beyond_ascii_is_read(tmp_path: Path) -> None:
    line = json.dumps({"category": "audio", "prompt": "投机解码 ñ"}, ensure_ascii=False)
    assert read_prompts(write(tmp_path, line))[0].text == "投机解码 ñ"


def test_blank_lines_are_skipped_and_still_counted(tmp_path: Path) -> None:
    assert len(read_prompts(write(tmp_path, "", PROSE, "  ", CODE))) == 2
    with pytest.raises(RequestError, match=r"prompts\.jsonl:3"):
        read_prompts(write(tmp_path, PROSE, "", "no json"))


def test_limit_takes_the_first_prompts(tmp_path: Path) -> None:
    assert [prompt.category for prompt in read_prompts(write(tmp_path, PROSE, CODE, CHAT), 2)] == [
        "prose",
        "code",
    ]


def test_key_is_of_the_content_alone(tmp_path: Path) -> None:
    first = read_prompts(write(tmp_path, PROSE, CODE))
    renamed = read_prompts(write(tmp_path, CODE, {**PROSE, "category": "fiction"}))
    assert {prompt.key for prompt in first} == {prompt.key for prompt in renamed}
    assert first[0].key != first[1].key


def test_key_of_a_chat_does_not_depend_on_the_order_of_fields(tmp_path: Path) -> None:
    (chat_prompt,) = read_prompts(write(tmp_path, CHAT))
    turned = [dict(reversed(message.items())) for message in CHAT["messages"]]
    (two,) = read_prompts(write(tmp_path, {"category": "chat", "messages": turned}))
    (swapped,) = read_prompts(
        write(tmp_path, {"category": "chat", "messages": CHAT["messages"][::-1]})
    )
    assert chat_prompt == two
    assert chat_prompt.key != swapped.key


@pytest.mark.parametrize(
    "line",
    [
        "not json",
        "[1, 2]",
        '{"prompt": "no category"}',
        '{"category": 3, "prompt": "x"}',
        '{"category": "a"}',
        '{"category": "a", "prompt": ""}',
        '{"category": "a", "prompt": 5}',
        '{"category": "a", "messages": []}',
        '{"category": "a", "messages": ["hello"]}',
        '{"category": "a", "messages": [{}]}',
        '{"category": "a", "messages": [{"role": "user", "content": null}]}',
        '{"category": "a", "prompt": "both", "messages": [{"role": "user", "content": "x"}]}',
    ],
)
def test_a_line_of_another_shape_is_refused_by_number(tmp_path: Path, line: str) -> None:
    with pytest.raises(RequestError, match=r"prompts\.jsonl:2\b.*; write"):
        read_prompts(write(tmp_path, PROSE, line))


def test_a_prompt_may_not_stand_twice_even_in_two_categories(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"prompts\.jsonl:3 repeats"):
        read_prompts(write(tmp_path, PROSE, CODE, {**PROSE, "category": "fiction"}))


@pytest.mark.parametrize("content", ["", "\n \n"])
def test_an_empty_file_is_refused(tmp_path: Path, content: str) -> None:
    with pytest.raises(RequestError, match="holds no prompt; write"):
        read_prompts(write(tmp_path, content))


@pytest.mark.parametrize("name", ["absent.jsonl", "."])
def test_a_file_that_cannot_be_read_is_refused_with_its_reason(tmp_path: Path, name: str) -> None:
    with pytest.raises(RequestError, match=r"cannot be read \(.+\); name one in the marker"):
        read_prompts(tmp_path / name)


def test_more_prompts_than_there_are_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        RequestError, match=r"3 prompts were asked for and .* holds 2; lower --specdec-prompts"
    ):
        read_prompts(write(tmp_path, PROSE, CODE), 3)


def test_other_line_separators_belong_to_the_prompt(tmp_path: Path) -> None:
    path = tmp_path / "prompts.jsonl"
    path.write_text('{"category": "a", "prompt": "x\u2028y"}\n', encoding="utf-8")
    assert [prompt.text for prompt in read_prompts(path)] == ["x\u2028y"]


def test_another_encoding_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "prompts.jsonl"
    path.write_bytes('{"category": "a", "prompt": "\u00e9"}\n'.encode("latin-1"))
    with pytest.raises(RequestError, match="not UTF-8"):
        read_prompts(path)


SPEC_BENCH = {
    "question_id": 81,
    "category": "writing",
    "turns": ["Compose a travel blog post about Hawaii.", "Rewrite it, each sentence with A."],
    "reference": ["..."],
}


def test_questions_of_benchmarks_begin_with_their_first_turn(tmp_path: Path) -> None:
    (prompt,) = read_prompts(write(tmp_path, SPEC_BENCH))
    assert prompt.category == "writing"
    assert prompt.chat() == [{"role": "user", "content": SPEC_BENCH["turns"][0]}]
    same = {"category": "writing", "messages": prompt.chat()}
    assert read_prompts(write(tmp_path, same))[0].key == prompt.key


@pytest.mark.parametrize(
    ("turns", "message"),
    [
        ([], "turns is not a list of texts"),
        ([""], "turns is not a list of texts"),
        ("Hello", "turns is not a list of texts"),
        ([{"role": "user"}], "turns is not a list of texts"),
        (
            ["FULL BENCHMARK DATA SHOULD BE FETCHED FROM THE SOURCE USING SPECDEC_BENCH"],
            "is not in the published file; make the whole file with prepare_data",
        ),
    ],
)
def test_turns_without_a_text_are_refused(tmp_path: Path, turns: object, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        read_prompts(write(tmp_path, {**SPEC_BENCH, "turns": turns}))


def test_a_question_without_a_category_is_refused(tmp_path: Path) -> None:
    line = {name: value for name, value in SPEC_BENCH.items() if name != "category"}
    with pytest.raises(RequestError, match=r"prompts\.jsonl:1: no category"):
        read_prompts(write(tmp_path, line))
