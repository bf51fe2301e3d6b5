"""What engines in this process share: where a text ends, and ids that never end one."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from helpers.real_engine import TARGET, case, real

from pytest_specdec.common.errors import RequestError
from pytest_specdec.decoding.loading import LoadedModel, load_model
from pytest_specdec.engines.adapter_api import ReportedRound
from pytest_specdec.engines.adapters.inprocess import threads, until_eos, unused_id
from pytest_specdec.engines.model_checks import oracle

ROUNDS = [ReportedRound(3, 2), ReportedRound(3, 0), ReportedRound(3, 3)]


def _ending_with(*stops: int) -> LoadedModel:
    generation = SimpleNamespace(eos_token_id=list(stops) or None)
    return SimpleNamespace(model=SimpleNamespace(generation_config=generation))


@pytest.mark.parametrize(
    ("new", "first", "length", "played"),
    [
        ([5, 5, 5, 5, 5, 5, 5, 5, 5], 1, 9, 3),
        ([5, 5, 9, 5, 5, 5, 5, 5, 5], 1, 3, 1),
        ([5, 5, 5, 5, 9, 5, 5, 5, 5], 1, 5, 2),
        ([9, 5, 5, 5, 5, 5, 5, 5, 5], 1, 1, 0),
        ([9, 5, 5, 5, 5, 5, 5, 5], 0, 1, 1),
    ],
)
def test_a_text_ends_with_its_first_eos_and_its_round(
    new: list[int], first: int, length: int, played: int
) -> None:
    assert until_eos(new, ROUNDS, _ending_with(9), first) == (length, played)


def test_a_target_without_eos_ends_nowhere() -> None:
    assert until_eos([9] * 9, ROUNDS, _ending_with(), 1) == (9, 3)


def test_an_unused_token_is_past_the_tokenizer_or_the_byte_0(tiny_target: Path) -> None:
    padded, full = load_model(str(tiny_target), "cpu"), load_model(TARGET, "cpu")
    assert unused_id(padded) == 31, "the tokenizer names fewer ids than the vocabulary has"
    assert full.tokenizer.convert_ids_to_tokens(unused_id(full)) == "\u0100"


def test_a_vocabulary_without_a_free_id_is_refused() -> None:
    tokenizer = SimpleNamespace(get_vocab=lambda: {"a": 0, "b": 1})
    model = SimpleNamespace(
        tokenizer=tokenizer, checkpoint=SimpleNamespace(vocabulary=2, folder=Path("model"))
    )
    with pytest.raises(
        RequestError, match=r"its vocabulary has no unused id, .* use another engine"
    ):
        unused_id(model)


@pytest.mark.parametrize(
    ("setting", "expected"), [("3", 3), ("", None), ("0", None), ("many", None)]
)
def test_threads_follow_the_environment(
    setting: str, expected: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", setting)
    assert threads() == (expected or os.cpu_count())


@pytest.mark.parametrize("name", ["openvino", "onnxruntime"])
def test_a_target_with_eos_is_judged_up_to_it(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The drafter drafts EOS, too, and some engines draft no further then."""
    engine = real(name)
    folder = shutil.copytree(TARGET, tmp_path / "target")
    (folder / "generation_config.json").write_text(
        json.dumps({"bos_token_id": 0, "eos_token_id": 1})
    )
    monkeypatch.setattr("helpers.real_engine.TARGET", str(folder))
    eos_case = case(name, prompts=10)
    agreement = oracle(engine, eos_case, 0.01)
    assert agreement.agrees, agreement.message
    lengths = [len(text.ids) - text.prompt_length for text in engine.emitted(eos_case)]
    assert min(lengths) < 64 == max(lengths)
