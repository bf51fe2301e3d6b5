"""Medusa and Hydra heads against their definitions, written out one head and one anchor at a
time.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from helpers.residual_heads import HEADS, SerialHeads, write_hydra, write_medusa
from helpers.serial_drafting import check_greedy_rounds, check_probabilities, check_sampled_rounds
from helpers.support import llama

from pytest_specdec import replay
from pytest_specdec.cases.texts import texts_from_ids
from pytest_specdec.common.errors import RequestError
from pytest_specdec.decoding.decode import decode
from pytest_specdec.decoding.loading import LoadedModel, load_model

KINDS: dict[str, tuple[Any, dict[str, Any]]] = {
    "Medusa": (write_medusa, {}),
    "Medusa, two layers, in a model's names": (
        write_medusa,
        {"layers": 2, "prefix": "medusa_head."},
    ),
    "Medusa, the target's output layer": (write_medusa, {"version": "2"}),
    "Medusa for vLLM": (write_medusa, {"packaging": "vLLM", "logit_scale": 0.5}),
    "Medusa for vLLM, biases, one output layer": (
        write_medusa,
        {"packaging": "vLLM", "medusa_fc_bias": True, "original_lm_head": True, "layers": 2},
    ),
    "Medusa for vLLM, some tokens": (
        write_medusa,
        {"packaging": "vLLM", "truncated_vocab_size": 20},
    ),
    "Hydra": (write_hydra, {}),
    "Hydra, three layers, an earlier state": (
        write_hydra,
        {"layers": 3, "hidden_state_offset": 1},
    ),
    "Hydra, not grounded": (write_hydra, {"grounded": False}),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return llama(tmp_path_factory.mktemp("target") / "llama", seed=3, layers=3, mtp_layers=0)


@pytest.fixture(scope="module")
def double(folder: Path) -> LoadedModel:
    return load_model(str(folder), "cpu", dtype="float64")


@pytest.mark.parametrize(("write", "options"), KINDS.values(), ids=KINDS)
class TestDefinition:
    """Each packaging and shape."""

    def test_every_acceptance_probability(
        self, folder: Path, double: LoadedModel, tmp_path: Path, write: Any, options: dict[str, Any]
    ) -> None:
        heads = write(tmp_path / "heads", folder, **options)
        check_probabilities(double, heads, SerialHeads(heads, double).steps, HEADS)

    def test_greedy_rounds(
        self, folder: Path, double: LoadedModel, tmp_path: Path, write: Any, options: dict[str, Any]
    ) -> None:
        heads = write(tmp_path / "heads", folder, **options)
        check_greedy_rounds(double, heads, SerialHeads(heads, double).steps, HEADS)


@pytest.mark.parametrize("rule", ["rejection", "block"])
@pytest.mark.parametrize("write", [write_medusa, write_hydra])
def test_sampled_rounds_are_those_that_replay_expects(
    folder: Path, tmp_path: Path, write: Any, rule: str
) -> None:
    heads = write(tmp_path / "heads", folder, seed=1)
    check_sampled_rounds(load_model(str(folder), "cpu"), heads, 3, rule=rule)


def test_processors_apply_to_drafts_of_some_tokens(folder: Path, tmp_path: Path) -> None:
    heads = write_medusa(
        tmp_path / "heads", folder, packaging="vLLM", truncated_vocab_size=20, logit_scale=0.3
    )
    check_sampled_rounds(
        load_model(str(folder), "cpu"),
        heads,
        3,
        texts=60,
        new=12,
        processors={"repetition_penalty": 1.3},
    )


@pytest.mark.parametrize("write", [write_medusa, write_hydra])
def test_more_drafts_than_heads_are_refused(
    folder: Path, double: LoadedModel, tmp_path: Path, write: Any
) -> None:
    heads = str(write(tmp_path / "heads", folder))
    message = (
        f"k=5: .*heads drafts at most {HEADS} tokens in a round; use --specdec-k={HEADS} or less"
    )
    with pytest.raises(RequestError, match=message):
        decode(double, heads, [[0, 2, 3]], k=5, new_tokens=8)
    texts = texts_from_ids([[0, 2, 3, 4, 5, 6, 7, 8, 9, 10]], [3])
    with pytest.raises(RequestError, match=message):
        replay(double, heads, texts, k=5)


def test_a_text_shorter_than_the_heads_reach_is_scored(
    folder: Path, double: LoadedModel, tmp_path: Path
) -> None:
    heads = str(write_medusa(tmp_path / "heads", folder))
    texts = texts_from_ids([[0, 2, 3, 4]], [1])
    assert replay(double, heads, texts, k=4, end="clip").total_rounds == 1
