"""`python -m pytest_specdec card` on tiny pairs and embedded heads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from helpers.eagle3 import write_head
from helpers.support import ROOT
from helpers.tiers import exhaustive

from pytest_specdec import replay
from pytest_specdec.__main__ import main
from pytest_specdec.cases.case import Sampling
from pytest_specdec.cases.prompts import read_prompts
from pytest_specdec.cases.texts import texts_of_prompts
from pytest_specdec.commands.card import _spread
from pytest_specdec.decoding.loading import load_model
from pytest_specdec.decoding.sampling import encode_prompts, sample_new_tokens
from pytest_specdec.report.card_page import BEGIN, END

pytestmark = pytest.mark.slow

MODELS = ROOT / "suites" / "models"
SMALL = ["--texts", "4", "--new-tokens", "16", "--k", "3", "--device", "cpu"]


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    path = tmp_path / "prompts.jsonl"
    words = ("apple", "avocado", "apricot", "banana", "blueberry", "cherry")
    path.write_text(
        "".join(json.dumps({"category": word[0], "prompt": word}) + "\n" for word in words)
    )
    return path


def card(head: str | Path, target: Path, prompts: Path, *options: str) -> int:
    pair = [str(head), "--target", str(target), "--prompts", str(prompts)]
    return main(["card", *pair, *SMALL, *options])


def written(path: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(path.read_text())
    return document


def test_prompts_of_every_category_are_taken(prompts: Path) -> None:
    chosen = _spread(read_prompts(prompts), 4)
    assert [prompt.text for prompt in chosen] == ["apple", "avocado", "banana", "cherry"]
    assert len(_spread(read_prompts(prompts), 99)) == 6


@pytest.mark.parametrize("kind", ["draft", "mtp", "prompt-lookup", "eagle3"])
def test_lengths_are_those_of_replay_for_every_k(
    tiny_target: Path, tiny_draft: Path, prompts: Path, tmp_path: Path, kind: str
) -> None:
    heads = write_head(tmp_path / "head", tiny_target, ids=(0, 1)) if kind == "eagle3" else None
    drafter = str({"draft": tiny_draft, "eagle3": heads}.get(kind, kind))
    out = tmp_path / "card.json"
    assert card(drafter, tiny_target, prompts, "--no-doctor", "-o", str(out)) == 0
    found = written(out)
    assert found["card"]["kind"] == kind
    target = load_model(str(tiny_target), "cpu")
    chosen = _spread(read_prompts(prompts), 4)
    ids = encode_prompts(target.tokenizer, chosen)
    new = sample_new_tokens(
        target,
        ids,
        new_tokens=16,
        sampling=Sampling(1.0),
        seed=0,
        keys=[prompt.key for prompt in chosen],
    )
    texts = texts_of_prompts(chosen, ids, new)
    for step in found["steps"]:
        depth = found["card"]["depth"]
        counts = replay(target, drafter, texts, k=step["k"], depth=depth)
        assert step["acceptance_length"]["value"] == pytest.approx(counts.acceptance_length)
        whole = replay(target, drafter, texts, k=step["k"], depth=depth, end="whole")
        emitted = sum(len(text.ids) - text.first_draft for text in texts)
        assert step["request_length"]["value"] == pytest.approx(emitted / whole.total_rounds)


@pytest.mark.slow
@pytest.mark.parametrize("head", ["text-medusa", "text-dflash", exhaustive("text-eagle3")])
def test_embedded_heads(head: str, tmp_path: Path) -> None:
    out = tmp_path / "card.json"
    prompts = ROOT / "suites" / "text" / "prompts.jsonl"
    target = MODELS / "text-target"
    assert card(MODELS / head, target, prompts, "-o", str(out)) == 0
    found = written(out)
    assert found["card"]["kind"] == head.removeprefix("text-")
    assert [step["k"] for step in found["steps"]] == [1, 2, 3]
    lengths = [step["acceptance_length"]["value"] for step in found["steps"]]
    assert lengths == sorted(lengths)
    assert found["doctor"]["verdict"] == "undecided"  # 4 texts decide nothing
    assert not any(str(ROOT) in line for line in found["doctor"]["lines"])


def test_a_dead_drafter_is_warned_of(
    tiny_target: Path, prompts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert card(tiny_target, tiny_target, prompts, "--no-doctor") == 0
    captured = capsys.readouterr()
    assert "**Warning:** drafter and target are the same model" in captured.out
    assert "warning: drafter and target are the same model" in captured.err


def test_a_card_goes_between_its_marks_and_nowhere_else(
    tiny_target: Path, tiny_draft: Path, prompts: Path, tmp_path: Path
) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(f"# Head\n\n{BEGIN}\nold\n{END}\n\nLicense\n")
    for _ in range(2):
        assert card(tiny_draft, tiny_target, prompts, "--no-doctor", "-o", str(readme)) == 0
        text = readme.read_text()
        assert text.startswith(f"# Head\n\n{BEGIN}\n## Speculative decoding: ")
        assert text.endswith(f"{END}\n\nLicense\n")
        assert "\nold\n" not in text


def test_a_page_keeps_its_line_ends(
    tiny_target: Path, tiny_draft: Path, prompts: Path, tmp_path: Path
) -> None:
    readme = tmp_path / "README.md"
    readme.write_bytes(f"# Head\r\n{BEGIN}\r\nold\r\n{END}\r\nLicense\r\n".encode())
    assert card(tiny_draft, tiny_target, prompts, "--no-doctor", "-o", str(readme)) == 0
    content = readme.read_bytes()
    assert content.startswith(f"# Head\r\n{BEGIN}\r\n## ".encode())
    assert content.endswith(f"</details>\r\n{END}\r\nLicense\r\n".encode())
    assert b"\n" not in content.replace(b"\r\n", b"")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["-o", "README.md"], "has no place for a card"),
        (["-o", "config.json"], "holds no card; name another file"),
        (["-o", "cards.json"], "holds no card; name another file"),
        (["-o", "card.txt"], "ends in neither .md nor .json"),
        (["--k", "16"], "no text of 16 new tokens is long enough for a round of k=16"),
        (["--prompts", "none.jsonl"], "cannot be read"),
        (["--depth", "9"], "depth"),
        (["--new-tokens", "9000"], "is longer than the context of"),
        (["--costs", "config.json"], "is not of schema 1"),
    ],
)
def test_what_cannot_be_written_or_measured_is_refused(
    tiny_target: Path,
    tiny_draft: Path,
    prompts: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "README.md").write_text("# Head\n")
    (tmp_path / "config.json").write_text('{"hidden_size": 4}')
    (tmp_path / "cards.json").write_text('{"card": "a trump"}')
    assert card(tiny_draft, tiny_target, prompts, "--no-doctor", *options) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert (tmp_path / "README.md").read_text() == "# Head\n"
    assert (tmp_path / "config.json").read_text() == '{"hidden_size": 4}'
    assert (tmp_path / "cards.json").read_text() == '{"card": "a trump"}'


def test_a_drafter_of_another_target_is_refused(
    tiny_target: Path, prompts: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert card(MODELS / "text-eagle3", tiny_target, prompts) == 2
    assert capsys.readouterr().err.startswith("error: ")
