"""A slice of `benchmarks/fuzz_inputs.py`: every reader refuses mutants with our own errors, and
accepts no nonsense.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from fuzz_inputs import Kind, fuzz, kinds, tiny_checkpoint
from invariants import wrong_prompts, wrong_url
from mutants import mutate
from schema_inputs import made, strategies

from pytest_specdec.cases.prompts import Prompt
from pytest_specdec.common.errors import SpecdecError

MUTANTS = 60
NAMES = (
    "records",
    "texts",
    "token maps",
    "evidence",
    "prompts",
    "profiles",
    "traces",
    "config.json",
    "safetensors headers",
    "weight indexes",
    "other checkpoint files",
    "URLs",
    "options",
    "markers",
    "metrics",
    "answers",
    "hidden states",
    "parts",
    "journals",
    "reports",
    "profiles of speculation",
    "published runs",
    "saved times",
    "processors",
    "trees",
    "pages with a card",
    "cards",
)


@pytest.fixture(scope="module")
def every(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Kind]:
    return {kind.name: kind for kind in kinds(tiny_checkpoint(tmp_path_factory.mktemp("tiny")))}


@pytest.mark.parametrize("name", NAMES)
def test_mutants_are_refused_in_our_own_words_or_make_sense(
    every: dict[str, Kind], name: str, tmp_path: Path
) -> None:
    assert tuple(every) == NAMES
    others = [
        original for other in every.values() if other.name != name for original in other.originals
    ]
    result = fuzz(every[name], others, MUTANTS, 1, tmp_path)
    assert result.faults == []
    assert result.refused > 0
    assert result.accepted > 0


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("parts", {"header": {"shards": 2**40}}),
        ("parts", {"header": {"shard": 0}}),
        ("reports", {"schema": 1, "cases": [3]}),
        ("reports", {"schema": 1, "cases": [{"rounds": 1, "depth": 0}]}),
        ("reports", {"cases": {0: {"survival": 3}}}),
        ("profiles of speculation", {"measurement_conditions": [[[]]]}),
        ("saved times", {"benchmarks": {1: {"extra_info": {"specdec": {"k": 0}}}}}),
        ("processors", {"logit_bias": {"5": "x" * 5000}}),
        ("trees", [[-(10**4000)]]),
    ],
)
def test_what_was_found_is_refused(
    every: dict[str, Kind], name: str, content: Any, tmp_path: Path
) -> None:
    kind = every[name]
    wrong = json.dumps(_changed(json.loads(kind.originals[0]), content)).encode()
    with pytest.raises(SpecdecError, match=r"\A[^;]{5,1200}; ."):
        kind.read(wrong, tmp_path)


def _changed(original: Any, content: Any) -> Any:
    """The original with some of its parts others; a list's by their numbers."""
    if not isinstance(original, dict | list) or not isinstance(content, dict):
        return content
    places = original if isinstance(original, dict) else dict(enumerate(original))
    whole = places | {key: _changed(places.get(key), value) for key, value in content.items()}
    return whole if isinstance(original, dict) else [*whole.values()]


@pytest.mark.parametrize("name", strategies())
def test_values_made_from_schemas_are_refused_or_make_sense(
    every: dict[str, Kind], name: str, tmp_path: Path
) -> None:
    result = made(every[name], tmp_path, 20)
    assert result.faults == []
    assert result.refused > 0


def test_a_mutant_can_be_made_again() -> None:
    mutants = [
        mutate(b'{"a": [1, 2, {"b": "x"}]}', [b"other"], random.Random(seed))
        for seed in (*range(50), *range(50))
    ]
    assert mutants[:50] == mutants[50:]
    assert len({name for name, _ in mutants}) > 10


def test_the_fuzzer_sees_foreign_errors_slow_readers_and_nonsense(tmp_path: Path) -> None:
    def reads(raw: bytes, folder: Path) -> str:
        return raw.decode()

    kind = Kind(
        "texts", [b'{"a": "b"}'], reads, lambda value: iter(["short"] if len(value) < 5 else [])
    )
    faults = " ".join(fuzz(kind, [b"{}"], 200, 0, tmp_path).faults)
    assert "UnicodeDecodeError" in faults
    assert "accepted: short" in faults


def test_invariants_see_what_is_wrong() -> None:
    assert list(wrong_prompts((Prompt(key="k", category="", text="x"),)))
    assert next(wrong_url("http://me:word@host/"))
    assert not list(wrong_url("http://localhost:8000"))
