"""PARD against its definition: one text, its masks and whole passes."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.serial_drafting import (
    PROMPTS,
    Steps,
    check_greedy_rounds,
    check_probabilities,
    check_sampled_rounds,
)
from helpers.support import add_noise, edit_config, llama

from pytest_specdec import decode
from pytest_specdec.cases.drafter import DraftModelSpec, RegisteredSpec
from pytest_specdec.checkpoints.drafter_folders import recognised
from pytest_specdec.common.errors import RequestError
from pytest_specdec.decoding.drafters import pard
from pytest_specdec.decoding.loading import LoadedModel, load_model

MASK, K = 31, 4


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return llama(tmp_path_factory.mktemp("models") / "target", seed=3, mtp_layers=0)


@pytest.fixture(scope="module")
def draft(folder: Path) -> Path:
    return edit_config(add_noise(folder, folder.parent / "draft", 0.3), pard_token=MASK)


@pytest.fixture(scope="module")
def double(folder: Path) -> LoadedModel:
    return load_model(str(folder), "cpu", dtype="float64")


def masked_passes(draft: Path) -> Steps:
    """The model over the text and k - 1 masks, whole."""
    model = load_model(str(draft), "cpu", dtype="float64").model

    def steps(ids: Sequence[int]) -> Generator[torch.Tensor, int, None]:
        with torch.no_grad():
            logits = model(torch.tensor([[*ids, *([MASK] * (K - 1))]])).logits[0]
        for row in logits[-K:]:
            _ = yield row  # whatever was drafted

    return steps


@pytest.mark.parametrize("masked", [1 << 11, 7])
def test_every_acceptance_probability_is_that_of_the_definition(
    double: LoadedModel, draft: Path, monkeypatch: pytest.MonkeyPatch, masked: int
) -> None:
    monkeypatch.setattr(pard, "_MASKED", masked)
    check_probabilities(double, draft, masked_passes(draft), K)


def test_greedy_rounds_are_serial_ones(double: LoadedModel, draft: Path) -> None:
    check_greedy_rounds(double, draft, masked_passes(draft), K)


@pytest.mark.parametrize("rule", ["rejection", "block"])
def test_sampled_rounds_are_those_that_replay_expects(folder: Path, draft: Path, rule: str) -> None:
    check_sampled_rounds(load_model(str(folder), "cpu"), draft, 3, texts=120, rule=rule)


def test_a_folder_with_a_mask_token_is_recognised(folder: Path, draft: Path) -> None:
    assert recognised(DraftModelSpec(str(draft))) == RegisteredSpec("pard", draft.resolve())
    assert recognised(DraftModelSpec(str(folder))) == DraftModelSpec(str(folder))


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no token": ({"pard_token": 32}, "says pard_token: 32, and the model has 32 tokens; write"),
    "in words": ({"pard_token": "mask"}, "says pard_token: mask"),
    "windows": ({"use_sliding_window": True}, "llama model with sliding windows, and PARD is"),
    "another class": ({"model_type": "gemma3_text"}, "is a gemma3_text model, and PARD is publ"),
}


@pytest.mark.parametrize(("config", "message"), WRONG.values(), ids=WRONG)
def test_what_it_was_not_published_for_is_refused(
    folder: Path, draft: Path, tmp_path: Path, config: dict[str, Any], message: str
) -> None:
    wrong = edit_config(add_noise(draft, tmp_path / "wrong", 0.1), **config)
    with pytest.raises(RequestError, match=message):
        decode(str(folder), str(wrong), PROMPTS, k=2, new_tokens=4)


def test_it_needs_a_folder_and_depth_0(folder: Path, draft: Path) -> None:
    with pytest.raises(RequestError, match="name its folder: pard:FOLDER"):
        decode(str(folder), "pard", PROMPTS, k=2, new_tokens=4)
    with pytest.raises(RequestError, match="PARD drafts without MTP layers"):
        decode(str(folder), str(draft), PROMPTS, k=2, depth=1, new_tokens=4)
