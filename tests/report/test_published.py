"""Published runs as acceptance lengths: tables, and answers of Spec-Bench made from rounds."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from helpers.report_rows import session_rows

from pytest_specdec.__main__ import main
from pytest_specdec.common.errors import RequestError
from pytest_specdec.report import render
from pytest_specdec.report.published import read_published

RUN = {"name": "paper", "metric": "acceptance_length", "value": 3.5}


def table(folder: Path, *runs: dict[str, Any]) -> Path:
    path = folder / "table.json"
    path.write_text(json.dumps({"schema": 1, "runs": list(runs)}))
    return path


def answers(folder: Path, *, bonus: bool, count: int = 40) -> tuple[Path, float]:
    """A file of Spec-Bench and the true pooled acceptance length of its rounds."""
    rng, lines, emitted, rounds = random.Random(7), [], 0, 0
    for number in range(count):
        played = [rng.randint(0, 4) for _ in range(30)]
        emitted += sum(played) + len(played)
        rounds += len(played)
        choice = {
            "index": 0,
            "turns": ["...", "..."],
            "new_tokens": [sum(played) + len(played) + 1, 0],
            "wall_time": [0.1, 0.1],
            "accept_lengths": [accepted + bonus for accepted in played],
        }
        row = {"question_id": number, "category": ("qa", "rag")[number % 2], "choices": [choice]}
        lines.append(json.dumps(row))
    path = folder / "answers.jsonl"
    path.write_text("\n".join(lines) + "\n")
    return path, emitted / rounds


@pytest.mark.parametrize("bonus", [True, False])
def test_answers_have_one_length_whether_they_count_the_bonus_token(
    tmp_path: Path, bonus: bool
) -> None:
    path, length = answers(tmp_path, bonus=bonus)
    (run,) = read_published(path)
    assert run.length == pytest.approx(length)
    assert sum(run.categories.values()) / 2 == pytest.approx(length)
    assert ("1 was added" in run.notes[0]) == (not bonus)


def test_answers_that_fit_neither_are_refused(tmp_path: Path) -> None:
    path, _ = answers(tmp_path, bonus=True)
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for row in rows:
        row["choices"][0]["new_tokens"] = [500, 0]
    path.write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(RequestError, match="do not tell whether the bonus token is counted"):
        read_published(path)
    path.write_text("")
    with pytest.raises(RequestError, match="do not tell"):
        read_published(path)
    path.write_text('{"category": "qa", "choices": [{"turns": ["x"]}]}')
    with pytest.raises(RequestError, match=r"answers\.jsonl:1 is no answer of Spec-Bench"):
        read_published(path)


@pytest.mark.parametrize(
    ("changes", "length"),
    [
        ({}, 3.5),
        ({"metric": "accepted_tokens", "value": 2.5}, 3.5),
        ({"metric": "acceptance_rate", "value": 0.5, "k": 5}, 3.5),
    ],
)
def test_every_metric_becomes_a_length(
    tmp_path: Path, changes: dict[str, Any], length: float
) -> None:
    (run,) = read_published(table(tmp_path, RUN | changes))
    assert run.length == pytest.approx(length)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"metric": "acceptance_rate", "value": 0.5}, "its k is missing"),
        ({"metric": "acceptance_rate", "value": 55, "k": 5}, "a rate above 1"),
        ({"value": 0.7}, "below 1, which counts the bonus token"),
        ({"value": None}, "neither a value nor categories"),
        ({"metric": "tau"}, "is no table of published runs"),
        ({"unknown": 1}, "is no table of published runs"),
        ({"value": -1}, "is no table of published runs"),
    ],
)
def test_what_cannot_be_reconciled_is_refused(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(RequestError, match=message):
        read_published(table(tmp_path, RUN | changes))


def test_what_stays_different_is_said(tmp_path: Path) -> None:
    (run,) = read_published(table(tmp_path, RUN | {"average": "macro", "drafts": "tree"}))
    assert "not reconciled" in run.notes[0]
    assert "not reconciled with chains" in run.notes[1]


def test_the_command_puts_them_beside_a_case(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = tmp_path / "out.json"
    report.write_text(render(".json", session_rows(8)))
    case = next(row["id"] for row in json.loads(report.read_text())["cases"])
    path = table(tmp_path, RUN | {"name": "<b>|x", "categories": {"prose": 3.0}})
    assert main(["published", str(report), str(path), f"--case={case}"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"published runs beside {case}")
    assert any(line.split()[0] == "prose" and line.endswith("3.000") for line in lines)
    assert main(["published", str(report), str(path), f"--case={case}", "--markdown"]) == 0
    page = capsys.readouterr().out
    assert "&lt;b&gt;\\|x" in page
    assert main(["published", str(report), str(tmp_path / "none.json"), f"--case={case}"]) == 2
    assert "cannot be read" in capsys.readouterr().err
