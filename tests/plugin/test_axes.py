"""Several values of an axis: a case for each, a baseline each, and one table of what moves."""

from __future__ import annotations

import json
import shutil
from fnmatch import fnmatchcase
from pathlib import Path

import pytest
from helpers.support import add_noise
from transformers import AutoTokenizer

from pytest_specdec.cases.prompts import read_prompts
from pytest_specdec.cases.template_flags import parse_template_flags, with_flags
from pytest_specdec.engines.shards import MergedParts, read_parts

TEMPLATE = "{% for m in messages %}{{ m.content }}{% endfor %}{% if loud %}{{ 'zz' }}{% endif %}"
TEST = """
import pytest

@pytest.mark.specdec(target={target!r}, drafter={draft!r}, k=[2, 4], new_tokens=24,
                     template=[{{}}, {{"loud": True}}], drafting=["as-target", "temperature=0.7"])
def test_draft(specdec_run, specdec_baseline):
    assert specdec_run == specdec_baseline
"""


@pytest.fixture
def project(project, tmp_path: Path):
    """A target with a chat template, and prompts that are messages."""
    project.target = shutil.copytree(project.target, tmp_path / "chat-target")
    (project.target / "chat_template.jinja").write_text(TEMPLATE)
    rows = [
        {"category": "chat", "messages": [{"role": "user", "content": f"{word} and so on"}]}
        for word in ("alpha", "bravo", "charlie", "delta", "echo", "foxtrot", "golf", "hotel")
    ]
    project.write_test(TEST)
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (project.pytester.path / "suites/letters/prompts.jsonl").write_text(lines)
    return project


def axes_in(project, *arguments: str) -> list[tuple[str, str, str, int]]:
    result = project.run("--specdec-report=out.json", *arguments, ok=True)
    result.stdout.fnmatch_lines(["along which axes acceptance moves"])
    cases = json.loads((project.pytester.path / "out.json").read_text())["cases"]
    return sorted(
        (axis["axis"], axis["start"], axis["end"], axis["k"])
        for case in cases
        for axis in case["axes"]
        if axis["paired"]
    )


def test_two_axes_have_a_case_for_each_pair_of_values(project) -> None:
    project.create()
    folder = project.pytester.path / "baselines" / "letters"
    stems = {"", "-draftt0.7"}
    assert {path.stem for path in folder.glob("*.json")} == {
        f"tiny-draft-k{k}-depth0-t1{flags}{drafting}"
        for k in (2, 4)
        for flags in ("", "-loud-true")
        for drafting in stems
    }
    assert len(list((folder / "texts").iterdir())) == 2
    expected = sorted(
        [("drafting", "as-target", "temperature=0.7", 4), ("template", "default", "loud=true", 4)]
        * 2
    )
    assert axes_in(project, "-n0") == expected
    assert axes_in(project, "-n0", "--specdec-template=loud=true") == expected[:1]
    assert axes_in(project, "-n0", "--specdec-drafting=temperature=0.7") == expected[2:3]


def test_workers_and_shards_compare_what_one_process_does(project, request) -> None:
    project.create()
    alone = axes_in(project, "-n0")
    request.getfixturevalue("warm_processes")  # for workers, not for the trial of the template
    document = (project.pytester.path / "out.json").read_text()
    assert axes_in(project, "-n2") == alone
    rows = [json.loads(text)["cases"] for text in (document, _report(project))]
    assert [case["axes"] for case in rows[0]] == [case["axes"] for case in rows[1]]
    for number in (1, 2):
        project.run(f"--specdec-shard={number}/2", "--specdec-report=out.json", ok=True)
    shards = project.pytester.path / ".specdec" / "shards"
    read = read_parts([shards / f"{number}-of-2.part" for number in (1, 2)])
    merged = project.pytester.runpytest(*read[0].header.arguments, plugins=[MergedParts(read)])
    assert merged.ret == 0, merged.stdout.str()
    assert [case["axes"] for case in json.loads(_report(project))["cases"]] == [
        case["axes"] for case in rows[0]
    ]


def _report(project) -> str:
    text: str = (project.pytester.path / "out.json").read_text()
    return text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--specdec-template=silent=true"], "*reads no variable silent, *; it reads loud"),
        (["--specdec-template=chat_template=x"], "*'chat_template' cannot be a template's flag*"),
        (["--specdec-template=loud"], "*names no flags of a template; use NAME=VALUE*"),
        (["--specdec-drafting=argmax;sometimes"], "*drafts cannot be drawn by 'sometimes'*"),
        (["--specdec-engine=transformers"], "*does not render messages with --specdec-template*"),
    ],
)
def test_values_that_cannot_be_are_refused(project, arguments: list[str], message: str) -> None:
    result = project.run(*arguments, ok=False)
    assert any(
        line for line in (*result.outlines, *result.errlines) if fnmatchcase(line, message)
    ), result.stdout.str() + result.stderr.str()


def test_an_unread_flag_is_one_message_before_any_test(project) -> None:
    result = project.run("--specdec-template=silent=true", ok=False)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    said = result.stdout.str() + result.stderr.str()
    assert said.count("reads no variable silent") == 1


def test_a_list_that_the_command_line_narrows_keeps_its_baselines(project, tmp_path: Path) -> None:
    other = add_noise(project.target, tmp_path / "noisy-target", 0.01)
    project.write_test(TEST.replace("target={target!r}", f"target=[{{target!r}}, {str(other)!r}]"))
    project.create()
    names = {path.stem for path in (project.pytester.path / "baselines/letters").glob("*.json")}
    assert len(names) == 16
    for target in (project.target, other):
        project.run(f"--specdec-target={target}", ok=True)


def test_flags_on_prompts_without_messages_are_refused(project) -> None:
    project.write_prompts([("prose", "alpha"), ("prose", "bravo")])
    result = project.run(ok=False)
    said = result.stdout.str() + result.stderr.str()
    assert "holds no messages, so no template's flag changes anything" in said


def test_several_targets_have_names_and_texts_of_their_own(project, tmp_path: Path) -> None:
    other = add_noise(project.target, tmp_path / "noisy-target", 0.01)
    (other / "chat_template.jinja").write_text(TEMPLATE)
    targets = f"--specdec-target={project.target};{other}"
    options = ["--specdec-template=none", "--specdec-drafting=as-target", targets]
    project.run("--specdec-update=new", *options, ok=True)
    folder = project.pytester.path / "baselines" / "letters"
    names = {"chat-target", "noisy-target"}
    assert {path.stem for path in folder.glob("*.json")} == {
        f"tiny-draft-k{k}-depth0-t1-target-{name}" for k in (2, 4) for name in names
    }
    assert axes_in(project, *options) == [("target", "chat-target", "noisy-target", 4)]
    turned = f"--specdec-target={other};{project.target}"
    assert axes_in(project, *options[:2], turned) == [("target", "noisy-target", "chat-target", 4)]
    twin = shutil.copytree(other, tmp_path / "twin" / "noisy-target")
    result = project.run(f"--specdec-target={other};{twin}", ok=False)
    assert "have one name, and would share a baseline" in result.stdout.str() + result.stderr.str()


def test_reasoning_on_and_off_is_an_axis(project) -> None:
    template = Path(__file__).parents[2] / "benchmarks" / "thinking_template.jinja"
    short = template.read_text()  # of a context of 128 letters
    for words in ("<|im_start|>", "<|im_end|>", " between <think> and </think>, then answer."):
        short = short.replace(words, "")
    (project.target / "chat_template.jinja").write_text(short)
    thinking = '[{{"enable_thinking": False}}, {{"enable_thinking": True}}]'
    test = TEST.replace('[{{}}, {{"loud": True}}]', thinking)
    project.write_test(test.replace('["as-target", "temperature=0.7"]', '"as-target"'))
    project.create()
    flags = [f"enable_thinking={word}" for word in ("false", "true")]
    assert axes_in(project, "-n0") == [("template", *flags, 4)]
    tokenizer = AutoTokenizer.from_pretrained(project.target)
    prompts = read_prompts(project.pytester.path / "suites/letters/prompts.jsonl", 1)
    off, on = (
        tokenizer.apply_chat_template(
            prompt.chat(), tokenize=False, add_generation_prompt=True, **dict(prompt.variables)
        )
        for flag in flags
        for prompt in with_flags(prompts, parse_template_flags(flag), "")
    )
    assert off.endswith("assistant\n<think>\n\n</think>\n\n")
    assert on.endswith("assistant\n<think>\n")
    assert "Think step by step" in on
    assert "Think step by step" not in off
