"""Chat templates that loop, fill the memory or reach for more than strings are refused in one line."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import transformers

from pytest_specdec.cases.prompts import read_prompts
from pytest_specdec.common.errors import RequestError
from pytest_specdec.decoding import chat_template
from pytest_specdec.decoding.sampling import encode_prompts

pytestmark = pytest.mark.slow

CHATML = (
    "{% for message in messages %}{{ '<' + message['role'] + '>' + message['content'] }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<assistant>' }}{% endif %}"
)


def encoded(tiny_target: Path, folder: Path, template: str) -> list[list[int]]:
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny_target)
    tokenizer.chat_template = template
    path = folder / "prompts.jsonl"
    rows = [
        {"category": "chat", "messages": [{"role": "user", "content": f"abc{row}"}]}
        for row in range(2)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return encode_prompts(tokenizer, read_prompts(path))


@pytest.mark.parametrize(
    "template",
    [
        CHATML,
        "{% generation %}" + CHATML + "{% endgeneration %}",
        "{% for m in messages %}{{ m.content | tojson }}{% if loop.first %}{% break %}{% endif %}{% endfor %}",
        "{{ strftime_now('%Y') }}{{ bos_token }}" + CHATML,
    ],
)
def test_plain_templates_are_rendered_by_the_tokenizer(
    tiny_target: Path, tmp_path: Path, template: str
) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny_target)
    tokenizer.chat_template = template
    chat = [{"role": "user", "content": "abc1"}]
    expected = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=True)
    assert encoded(tiny_target, tmp_path, template)[1] == expected["input_ids"]


@pytest.mark.parametrize(
    ("template", "problem"),
    [
        (
            "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
            "it does not end within 2 s",
        ),
        (
            "{% generation %}{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}"
            "{% endfor %}{% endgeneration %}",
            "it does not end within 2 s",
        ),
        ("{% for a in range(9999) %}{{ 'abcdefgh' * 9999 }}{% endfor %}", "more than 16,777,216"),
        ("{{ raise_exception('no system role') }}", "ValueError: no system role"),
        ("{{ ().__class__.__base__.__subclasses__() }}", "SecurityError"),
        ("{% macro a() %}{{ a() }}{% endmacro %}{{ a() }}", "calls itself without end"),
        ("{% include '/etc/passwd' %}", "no loader"),
        ("{{ messages[0]['content'] ", "TemplateSyntaxError"),
    ],
)
def test_hostile_templates_are_refused_in_time(
    tiny_target: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, template: str, problem: str
) -> None:
    monkeypatch.setattr(chat_template, "SECONDS", 2)
    with pytest.raises(RequestError, match=r"the chat template of .* cannot be used: ") as error:
        encoded(tiny_target, tmp_path, template)
    assert problem in str(error.value)


@pytest.mark.skipif(sys.platform != "linux", reason="Linux alone limits a process's memory")
def test_a_template_that_fills_the_memory_is_refused(tiny_target: Path, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="it fills the memory"):
        encoded(tiny_target, tmp_path, "{{ 'a' * 99999999999 }}")
