"""A card's numbers beside formulas and scipy, its section escaped, and its published schema."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import report_schema
from helpers.support import ROOT
from scipy import stats

from pytest_specdec.acceptance.counts import Counts
from pytest_specdec.report import card as cards
from pytest_specdec.report.card import CardDocument
from pytest_specdec.report.card_page import BEGIN, END, render_card

PASSES = {1: 1, 2: 2, 3: 3}


def counts(k: int, prompts: int = 6) -> Counts:
    """Rounds with falling survival, and passes of whole texts."""
    rng = np.random.default_rng(k)
    rounds = rng.integers(8, 15, prompts).astype(float)
    accepted = np.stack([np.floor(rounds * 0.8 ** (i + 1)) for i in range(k)], axis=1)
    accepted[:, -1] -= rng.integers(0, 2, prompts)
    emitted = rounds + accepted.sum(1)
    return Counts(
        prompts=tuple(map(str, range(prompts))),
        categories=("prose", "code") * (prompts // 2),
        rounds=rounds,
        drafted=np.repeat(rounds[:, None], k, axis=1),
        accepted=accepted,
        emitted=emitted,
        passes=rounds + 1,
    )


BY_K = {k: counts(k) for k in PASSES}


def document(**changes: Any) -> CardDocument:
    circumstances: Any = {
        "target": "models/target",
        "target_fingerprint": "0123",
        "drafter": "models/head",
        "drafter_fingerprint": "4567",
        "kind": "eagle3",
        "depth": 0,
        "prompts": "prompts.jsonl",
        "texts": 6,
        "new_tokens": 64,
        "temperature": 1.0,
        "rule": "rejection",
        "seed": 0,
        "costs": "",
        "environment": {"torch": "2", "threads": 1},
        "version": "0",
        "command": "python -m pytest_specdec card models/head",
    }
    whole: Any = {
        "schema": 1,
        "card": circumstances,
        "k": 3,
        "categories": cards.categories(BY_K[3]),
        "positions": cards.positions(BY_K[3]),
        "steps": cards.steps(BY_K, PASSES),
        "best": cards.best(BY_K, PASSES),
        "best_measured": None,
        "doctor": {"verdict": "read as trained", "lines": ["a", "", "b"]},
        "warnings": [],
    }
    found: CardDocument = {**whole, **changes}
    return found


def test_intervals_are_students_over_prompts() -> None:
    of = BY_K[2]
    low, high = stats.t.interval(0.95, 5, loc=of.acceptance_length, scale=of.standard_error)
    assert cards.length_figure(of)["interval"] == pytest.approx([max(low, 1), min(high, 3)])
    position = cards.positions(of)[0]["survival"]
    error = of.survival_error[0] * stats.t.ppf(0.975, 5)
    assert position["value"] == pytest.approx(of.accepted[:, 0].sum() / of.rounds.sum())
    assert position["interval"][0] == pytest.approx(position["value"] - error)


def test_an_interval_of_one_prompt_is_unknown() -> None:
    assert cards.length_figure(BY_K[1].select([0]))["interval"] == []
    assert cards.figure(math.nan, 0.1, 5) == {"value": None, "interval": []}


def test_drafting_breaks_even_at_the_break_even_cost() -> None:
    for step in cards.steps(BY_K, PASSES):
        of = BY_K[step["k"]]
        length = of.emitted.sum() / of.passes.sum()  # type: ignore[union-attr]
        assert length / (1 + PASSES[step["k"]] * step["break_even"]["value"]) == pytest.approx(1)
        assert step["request_length"]["value"] == pytest.approx(length)


def test_the_best_k_is_the_fastest_of_all() -> None:
    for found in cards.best(BY_K, PASSES, (0.0, 0.3, 5.0)):
        speedups = {k: of.request_length / (1 + k * found["cost"]) for k, of in BY_K.items()}
        assert found["speedup"] == pytest.approx(max(1.0, *speedups.values()))
        assert found["k"] == (max(speedups, key=speedups.__getitem__) if found["cost"] < 5 else 0)


def test_a_section_has_its_marks_and_every_part() -> None:
    lines = render_card(document()).splitlines()
    assert (lines[0], lines[-1]) == (BEGIN, END)
    heads = [line for line in lines if line.startswith("###")]
    assert [head.partition(",")[0] for head in heads] == [
        "### Acceptance by category",
        "### Acceptance by position",
        "### Drafts a round",
        "### Reading of the folder",
    ]
    assert "<pre>a\n&nbsp;\nb</pre>" in "\n".join(lines)


def test_names_of_others_add_no_markup() -> None:
    hostile = "x|<script>`[a](b)"
    card = document(warnings=[hostile], doctor={"verdict": hostile, "lines": ["</pre><b>"]})
    card["categories"][0]["name"] = hostile
    card["card"].update(drafter=hostile, costs=hostile, command="</pre><img>")
    page = render_card(card)
    assert "<script>" not in page
    assert "</pre><" not in page.replace("</pre>\n</details>", "")
    row = next(line for line in page.splitlines() if line.startswith("| x"))
    assert row.count("|") - row.count("\\|") == 5


def test_letters_that_steer_and_blank_lines_stay_within_a_folded_part() -> None:
    card = document(doctor={"verdict": "v\x1b[31m", "lines": ["a\n\nb", " ", "\u202ec"]})
    card["card"].update(command="card http://me:SECRET@host/ 'a\n\nb'")
    page = render_card(card)
    assert "<pre>a\\n\\nb\n&nbsp;\n\\u202ec</pre>" in page
    assert "**v\\x1b\\[31m**" in page
    assert "SECRET" not in page


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    published: dict[str, Any] = json.loads((ROOT / "docs" / "card.schema.json").read_text())
    return published


def test_the_published_schema_is_todays(schema: dict[str, Any]) -> None:
    assert json.dumps(schema, indent=2) + "\n" == report_schema.page("card"), (
        "python benchmarks/report_schema.py card > docs/card.schema.json"
    )


def test_cards_meet_the_schema_and_hold_no_other_field(schema: dict[str, Any]) -> None:
    jsonschema = pytest.importorskip(
        "jsonschema", reason="jsonschema is not installed; pip install 'pytest-specdec[test]'"
    )
    strict = copy.deepcopy(schema)
    for definition in strict["$defs"].values():
        definition["additionalProperties"] = False
    best: Any = {"cost": 0.1, "k": 2, "speedup": 1.5}
    for card in (document(), document(best_measured=best)):
        jsonschema.validate(json.loads(json.dumps(card)), strict)
    broken = json.loads(json.dumps(document()))
    del broken["steps"][0]["break_even"]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(broken, schema)


def test_cards_in_docs_meet_the_schema(schema: dict[str, Any]) -> None:
    jsonschema = pytest.importorskip(
        "jsonschema", reason="jsonschema is not installed; pip install 'pytest-specdec[test]'"
    )
    stored = sorted((Path(ROOT) / "docs" / "cards").glob("*.json"))
    assert stored
    for path in stored:
        card = json.loads(path.read_text())
        jsonschema.validate(card, schema)
        assert render_card(card) in (ROOT / "docs" / "cards.md").read_text()
