"""Each mistake: one clear message, pytest's usage exit status, nothing measured, nothing
written.
"""

from __future__ import annotations

import json
import operator
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from helpers.stored_files import rewrite
from helpers.support import edit_config, llama

from pytest_specdec.baselines.writing import digest_of

OPTIONS = [
    ("--specdec-k=0", "'0' is not a whole number of at least 1; write for example 4,8"),
    ("--specdec-k=-3", "'-3' is not a whole number of at least 1"),
    ("--specdec-k=eight", "'eight' is not a whole number of at least 1"),
    ("--specdec-k=4,", "'' is not a whole number of at least 1"),
    ("--specdec-depth=-1", "'-1' is not a whole number of at least 0"),
    (
        "--specdec-depth=3",
        "depth 3 needs 3 MTP layers and *tiny-draft* has 2; use --specdec-depth=2 or less",
    ),
    ("--specdec-temperature=hot", "'hot' is not a temperature"),
    ("--specdec-engine=abacus", "'abacus' is not one of"),
    ("--specdec-alpha=0", "'0' is out of range"),
    (
        "--specdec-prompts=1000",
        "1000 prompts were asked for and *prompts.jsonl holds 12; lower --specdec-prompts",
    ),
    (
        "--specdec-new-tokens=500",
        "*longer than the context of *(128); shorten it or lower --specdec-new-tokens",
    ),
    ("--specdec-target=/no/such/model", "no checkpoint folder at /no/such/model; check the path"),
    ("--specdec-draft=no/such/model", "no checkpoint folder at *no/such/model; check the path"),
    ("--specdec-costs=missing.json", "cost profile *missing.json cannot be read"),
    ("--specdec-k=513", "'513' is more than 512; write for example 4,8"),
    ("--specdec-k=" + "9" * 5000, "99...' is not a whole number of at least 1"),
    ("--specdec-depth=65", "'65' is more than 64"),
    (
        "--specdec-temperature=1e-300",
        "'1e-300' is not a temperature; write 0 for greedy decoding or a number from 0.01 to 100",
    ),
    ("--specdec-url=http://[::1", "is not a server's URL; write for example"),
    ("--specdec-url=http://me:word@host:80x0", "'http://***@host:***' is not a server's URL"),
    ("--specdec-draft-url=ftp://host", "'ftp://host' is not a server's URL"),
    (
        "--specdec-target=" + "a" * 300,
        "is not the name of a file; write a path without control characters",
    ),
    (
        "--specdec-report=report.docx",
        "'report.docx' ends in no known report format; end it in .json",
    ),
]


def refused(project, message: str, *arguments: str) -> None:
    """One message, exit status 4, no test run."""
    result = project.run(*arguments)
    assert result.ret == pytest.ExitCode.USAGE_ERROR, result.stdout.str()
    result.stderr.fnmatch_lines([f"*{message}*"])
    assert "ERROR: " not in result.stdout.str()
    assert "Traceback" not in result.stderr.str() + result.stdout.str()
    assert "passed" not in result.stdout.str()


@pytest.mark.parametrize(("option", "message"), OPTIONS, ids=[option for option, _ in OPTIONS])
def test_a_bad_option_is_a_usage_error(project, option: str, message: str) -> None:
    refused(project, message, option)
    assert project.baselines == {}


def test_a_bad_ini_value_is_a_usage_error(project) -> None:
    project.pytester.makeini("[pytest]\nspecdec_margin = wide\n")
    refused(project, "ini option specdec_margin: 'wide' is out of range")


def another_vocabulary(folder: Path) -> Path:
    return llama(folder, seed=3, vocabulary=48)


def pickled(folder: Path) -> Path:
    llama(folder, seed=3)
    (folder / "model.safetensors").unlink()
    torch.save({}, folder / "pytorch_model.bin")
    return folder


def without_mtp(folder: Path) -> Path:
    return llama(folder, seed=3, mtp_layers=0)


def announced_only(folder: Path) -> Path:
    return edit_config(llama(folder, seed=3, mtp_layers=0), num_mtp_layers=2)


def truncated_weights(folder: Path) -> Path:
    llama(folder, seed=3)
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:64])
    return folder


def eagle(folder: Path) -> Path:
    return edit_config(llama(folder, seed=3), draft_vocab_size=16)


def speculators(folder: Path) -> Path:
    return edit_config(llama(folder, seed=3), speculators_model_type="eagle3", vocab_size=None)


def without_attention_heads(folder: Path) -> Path:
    return edit_config(llama(folder, seed=3), num_attention_heads=0)


def of_a_million_layers(folder: Path) -> Path:
    return edit_config(llama(folder, seed=3), num_hidden_layers=1_000_000)


def nested_configuration(folder: Path) -> Path:
    (llama(folder, seed=3) / "config.json").write_text("[" * 100_000)
    return folder


def many_digits(folder: Path) -> Path:
    (llama(folder, seed=3) / "config.json").write_text('{"vocab_size": ' + "9" * 5000 + "}")
    return folder


def broken_tokenizer(folder: Path) -> Path:
    (llama(folder, seed=3) / "tokenizer.json").write_text("[" * 100_000)
    return folder


CHECKPOINTS: list[tuple[Callable[[Path], Path], str]] = [
    (another_vocabulary, "has a vocabulary of 48 tokens and the target * of 32; choose a drafter"),
    (pickled, "holds pickled weights only, which are never loaded; convert them"),
    (without_mtp, "depth 2 needs 2 MTP layers and * has 0; use --specdec-depth=0 or less"),
    (announced_only, "announces 2 MTP layers and its safetensors hold none"),
    (
        truncated_weights,
        "is not a readable safetensors file (its header is longer than the file); save or download "
        "it again",
    ),
    (
        eagle,
        "has no matrix fc.weight; save the whole head",
    ),
    (
        speculators,
        "has no transformer_layer_config; save the head again",
    ),
    (without_attention_heads, "config.json says num_attention_heads: 0, which no model has"),
    (of_a_million_layers, "config.json says num_hidden_layers: 1000000*; save the"),
    (
        nested_configuration,
        "config.json:1 is not JSON (nested more than 64 levels deep); save the checkpoint again",
    ),
    (many_digits, "config.json:1 is not JSON (a number of 5000 digits); save the checkpoint again"),
    (
        broken_tokenizer,
        "tokenizer.json:1 is not JSON (nested more than 64 levels deep); save the tokenizer again",
    ),
]


@pytest.mark.parametrize(
    ("make", "message"), CHECKPOINTS, ids=[make.__name__ for make, _ in CHECKPOINTS]
)
def test_a_bad_checkpoint_is_a_usage_error(
    project, tmp_path: Path, make: Callable[[Path], Path], message: str
) -> None:
    refused(project, message, f"--specdec-draft={make(tmp_path / 'bad')}")


@pytest.mark.parametrize("depth", [0, 2])
def test_the_target_as_its_own_drafter_is_a_usage_error(
    project, tmp_path: Path, depth: int
) -> None:
    copy = shutil.copytree(project.target, tmp_path / "copy")
    for draft in (project.target, copy):
        refused(
            project,
            f"the drafter {draft} is the target itself",
            f"--specdec-draft={draft}",
            f"--specdec-depth={depth}",
        )
    hub = ("--specdec-target=someone/model", "--specdec-draft=someone/model", "--specdec-depth=0")
    refused(project, "target and drafter are both someone/model", *hub)


def test_own_heads_and_prompt_lookup_are_drafters(project) -> None:
    project.run(
        "--specdec-draft=mtp", "--specdec-k=4", "--specdec-depth=1", "--collect-only", ok=True
    )
    project.run(
        "--specdec-draft=prompt-lookup",
        "--specdec-k=4",
        "--specdec-depth=0",
        "--collect-only",
        ok=True,
    )


def test_a_token_that_the_target_does_not_have_is_a_usage_error(project) -> None:
    project.create()
    path = next((project.pytester.path / "baselines" / "letters" / "texts").glob("*.json"))
    rewrite(path, lambda body: operator.setitem(next(iter(body["texts"].values())), 3, 10**6))
    refused(project, "has the token 1000000 and * knows 32 tokens; restore it from version control")


PROFILES = [
    (
        '{"schema": 1, "verify": {"4": 1e999}, "draft": {}}',
        "costs.json:1 is not JSON (the number 1e999 is too large)",
    ),
    (
        '{"schema": 1, "verify": {"4": ' + "9" * 400 + '}, "draft": {}}',
        "costs.json:1 is not JSON (a number of 400 digits)",
    ),
    (
        '{"schema": 1, "verify": {"4": ' + "9" * 299 + '}, "draft": {}}',
        "has a bad or missing field (Expected `float` <= ",
    ),
    (
        '{"schema": 1, "verify": {"4": 1}, "draft": {}, "error": -1}',
        "(Expected `float` >= 0.0 - at `$.error`); measure one",
    ),
    (
        '{"schema": 1, "verify": {"4": 1, "04": 2}, "draft": {}}',
        "('04' is not a k or depth in plain digits)",
    ),
    (
        '{"schema": 1, "verify": {"4": 1}, "verify": {"4": 2}, "draft": {}}',
        'the key "verify" occurs twice in one object',
    ),
]


@pytest.mark.parametrize(("text", "message"), PROFILES)
def test_a_bad_profile_is_a_usage_error(project, text: str, message: str) -> None:
    (project.pytester.path / "costs.json").write_text(text)
    refused(project, message.replace("[", "[[]"), "--specdec-costs=costs.json")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "[" * 100_000,
            "run.jsonl:2: not JSON (nested more than 64 levels deep); see docs/trace.md",
        ),
        (
            '{"key": "a", "emitted": 4, "totals": {"drafted": 2, "accepted": 3}}',
            "run.jsonl:2: accepted is 3, more than the 2",
        ),
        (
            '{"pooled": {"drafted": -2, "accepted": 0}}',
            "run.jsonl:2: Expected `int` >= 0 - at `$.pooled.drafted`",
        ),
        ('{"key": "a", "new_ids": [-1]}', "run.jsonl:2: Expected `int` >= 0"),
        (
            '{"key": "a", "new_ids": [1], "new_ids": [2]}',
            'run.jsonl:2: not JSON (the key "new_ids" occurs twice',
        ),
    ],
)
def test_a_bad_trace_is_a_usage_error(project, line: str, message: str) -> None:
    (project.pytester.path / "run.jsonl").write_text(
        f'{{"schema": 1, "engine": "mine", "k": 4}}\n{line}\n'
    )
    trace = (
        "--specdec-engine=trace",
        "--specdec-url=run.jsonl",
        "--specdec-k=4",
        "--specdec-depth=0",
    )
    refused(project, message.replace("[", "[[]"), *trace)


def truncate(text: str) -> str:
    return text[: len(text) // 2]


def conflict(text: str) -> str:
    return text.replace('  "schema"', '<<<<<<< ours\n  "schema"', 1)


def newer(text: str) -> str:
    return text.replace('"schema": 2', '"schema": 3')


def negative(text: str) -> str:
    body = json.loads(text)
    next(iter(body["counts"].values()))["rounds"] = -1
    return json.dumps(body | {"digest": digest_of(body)})


def edited(text: str) -> str:
    return text.replace('"rounds": ', '"rounds": 1', 1)


BASELINES: list[tuple[Callable[[str], str], str]] = [
    (truncate, "is truncated or not JSON"),
    (conflict, "holds a merge-conflict marker; resolve the conflict"),
    (newer, "has schema 3, this version reads up to 2; update pytest-specdec"),
    (negative, "Expected `float` >= 0.0 - at `$.counts"),
    (edited, "the content is not what was written (digest "),
]


@pytest.mark.parametrize(
    ("spoil", "message"), BASELINES, ids=[spoil.__name__ for spoil, _ in BASELINES]
)
def test_a_bad_baseline_is_a_usage_error_and_stays_as_it_is(
    project, spoil: Callable[[str], str], message: str
) -> None:
    project.create()
    path = next((project.pytester.path / "baselines" / "letters").glob("*-k4-depth0-t1.json"))
    path.write_text(spoil(path.read_text()))
    before = project.baselines
    refused(project, f"baseline {path}*{message}")
    refused(project, f"baseline {path}*{message}", "--specdec-update=all")
    assert project.baselines == before


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("not json", "prompts.jsonl:1: not JSON"),
        ('{"prompt": "x"}', "prompts.jsonl:1: no category"),
        ('{"category": "x"}', "prompts.jsonl:1: neither a prompt nor messages"),
        ("", "holds no prompt; write one JSON object a line"),
        (
            "[" * 100_000,
            "prompts.jsonl:1: not JSON (nested more than 64 levels deep); write one object a line",
        ),
        (
            '{"category": "x", "prompt": ' + "9" * 5000 + "}",
            "prompts.jsonl:1: not JSON (a number of 5000 digits)",
        ),
        (
            '{"category": "x", "prompt": "\\ud800"}',
            "prompts.jsonl:1: not JSON (half of a surrogate pair",
        ),
        (
            '{"category": "x", "prompt": "a", "prompt": "b"}',
            'prompts.jsonl:1: not JSON (the key "prompt" occurs twice',
        ),
    ],
)
def test_a_bad_prompt_file_is_a_usage_error(project, line: str, message: str) -> None:
    (project.pytester.path / "suites/letters/prompts.jsonl").write_text(line + "\n")
    refused(project, message)


def test_a_prompt_longer_than_the_context_is_a_usage_error(project) -> None:
    project.write_prompts([("long", "a" * 200)])
    refused(project, "has 201 tokens; with 24 new ones it is longer than the context of * (128)")


def test_messages_without_a_chat_template_are_a_usage_error(project, tmp_path: Path) -> None:
    line = json.dumps({"category": "chat", "messages": [{"role": "user", "content": "pear"}]})
    (project.pytester.path / "suites/letters/prompts.jsonl").write_text(line + "\n")
    refused(
        project,
        "a prompt has messages and *tokenizer_config.json has no chat_template; write the prompt "
        "as plain",
    )
    target = shutil.copytree(project.target, tmp_path / "with-template")
    options = (f"--specdec-target={target}", "--collect-only")
    refused(project, "has no chat_template", *options)
    (target / "chat_template.jinja").write_text("{{ messages[0]['content'] }}")
    project.run(*options, ok=True)
    (target / "chat_template.jinja").unlink()
    config = json.loads((target / "tokenizer_config.json").read_text())
    (target / "tokenizer_config.json").write_text(
        json.dumps(config | {"chat_template": "{{ messages[0]['content'] }}"})
    )
    project.run(*options, ok=True)


@pytest.mark.parametrize(
    ("marker", "message"),
    [
        ("8", "takes keywords only"),
        ("depht=3", "has no argument depht; choose among"),
        ("k=0", "k=0 is not a whole number of at least 1"),
        ("k='8'", "is not an int; pass a whole number"),
        ("rule='magic'", "verification rule 'magic' is unknown"),
        ("temperature=0, rule='rejection'", "does not go with temperature 0"),
    ],
)
def test_a_bad_marker_is_a_usage_error(project, marker: str, message: str) -> None:
    project.write_test(f"""
import pytest

@pytest.mark.specdec({marker})
class TestMarked:
    @pytest.mark.specdec(target={{target!r}}, drafter={{draft!r}})
    def test_draft(self, specdec_run):
        pass
""")
    refused(project, message)


def test_two_cases_of_one_name_are_a_usage_error(project) -> None:
    twin = "import pytest\n" + "".join(
        f"@pytest.mark.specdec(target={{target!r}}, drafter={{draft!r}}, k=4, "
        f"new_tokens={tokens})\n"
        f"def test_{tokens}(specdec_run): pass\n"
        for tokens in (16, 24)
    )
    project.write_test(twin)
    refused(project, "two different cases are both called letters/tiny-draft-k4-depth0-t1")


def test_updating_with_fewer_prompts_is_refused(project) -> None:
    refused(
        project,
        "--specdec-update with --specdec-prompts would drop prompts",
        "--specdec-update=all",
        "--specdec-prompts=3",
    )


@pytest.mark.usefixtures("warm_processes")
def test_under_xdist_the_controller_says_it_once_and_exits_alike(project) -> None:
    result = project.run("-n2", "--specdec-draft=/no/such/model")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert (result.stdout.str() + result.stderr.str()).count(
        "no checkpoint folder at /no/such/model"
    ) == 1
