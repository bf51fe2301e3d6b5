"""Public facts on engines, and the heads that they concern."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from helpers.eagle3 import LAYERS, write_head
from helpers.support import ROOT, edit_config, llama

from pytest_specdec.checkpoints.checkpoint import Checkpoint, open_checkpoint
from pytest_specdec.checkpoints.eagle3_checks import read_head
from pytest_specdec.doctor.eagle3_reading import Eagle3Choices
from pytest_specdec.doctor.eagle3_spelling import Eagle3Spelling
from pytest_specdec.doctor.engines import (
    FACTS,
    MTP_FACTS,
    engine_readings,
    mtp_engine_readings,
    trouble,
)
from pytest_specdec.doctor.mtp_reading import MtpReading


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    folder = tmp_path_factory.mktemp("target") / "llama"
    return open_checkpoint(llama(folder, seed=3, layers=LAYERS, mtp_layers=0))


def who(target: Checkpoint, head: Path) -> dict[str, Any]:
    """How each program reads a head in another way than we do: the fields that differ."""
    files, _ = read_head(target, head)
    written = Eagle3Choices(
        files=files,
        layers=LAYERS,
        joined=3,
        target_theta=10000.0,
        same_width=True,
        rotation=False,
        kept=frozenset(range(LAYERS + 2)),
    ).written()
    return {
        fact.who: {
            name: value for name, value in vars(reading).items() if value != getattr(written, name)
        }
        for fact, reading in engine_readings(Eagle3Spelling.of(files), written, LAYERS)
    }


def test_ids_at_the_top_are_not_read_by_sglang(target: Checkpoint, tmp_path: Path) -> None:
    other = who(target, write_head(tmp_path / "other", target.folder, ids=(2, 4, 7)))
    usual = who(target, write_head(tmp_path / "usual", target.folder, ids=(2, 4, 5)))
    assert other["SGLang at 0005834"] == {"states": (2, 4, 5)}
    assert other["tokenspeed before #526"] == {"states": (2, 4, 5)}
    assert "vLLM, second model runner" not in other
    assert usual == {}


def test_ids_of_outputs_are_read_one_early_by_new_sglang_unless_they_begin_with_1(
    target: Checkpoint, tmp_path: Path
) -> None:
    one = write_head(tmp_path / "one", target.folder, packaging="SpecForge", ids=(2, 4, 7))
    two = write_head(tmp_path / "two", target.folder, packaging="SpecForge", ids=(3, 4, 7))
    assert "SGLang since 2026-05-16" not in who(target, one)
    assert who(target, two)["SGLang since 2026-05-16"] == {"states": (2, 3, 6)}
    assert "SGLang before 2026-05-16" not in who(target, two)
    assert "SGLang at 0005834" not in who(target, two)
    assert who(target, two)["vLLM, second model runner"] == {"states": (2, 4, 5)}


def test_vllm_reads_ids_of_outputs_one_early_and_sorts_all(
    target: Checkpoint, tmp_path: Path
) -> None:
    nested = write_head(tmp_path / "nested", target.folder, packaging="SpecForge", ids=(2, 4, 7))
    mixed = write_head(tmp_path / "mixed", target.folder, ids=(7, 2, 4))
    assert who(target, nested)["vLLM 0.32.0"] == {"states": (1, 3, 6)}
    assert "vLLM 0.32.0, the order" not in who(target, nested)
    assert "vLLM 0.32.0" not in who(target, mixed)
    assert who(target, mixed)["vLLM 0.32.0, the order"] == {"states": (2, 4, 7)}
    edit_config(nested, eagle_aux_hidden_state_layer_ids=[2, 4, 7])
    assert "vLLM 0.32.0" not in who(target, nested)


def test_a_state_that_the_target_does_not_have_is_read_by_nobody(
    target: Checkpoint, tmp_path: Path
) -> None:
    head = write_head(tmp_path / "head", target.folder, packaging="SpecForge", ids=(2, 4, 5))
    config = json.loads((head / "config.json").read_text())["eagle_config"]
    config["eagle_aux_hidden_state_layer_ids"] = [1, 4, LAYERS + 1]
    edit_config(head, eagle_config=config)
    assert who(target, head)["SGLang before 2026-05-16"] == {"states": (2, 5, 10)}
    assert trouble((2, 5, 9), 3, LAYERS) == "the target has the states 0 to 8, and no 9"
    assert trouble((2, 2, 1), 3, 4) == "states 2, 2, 1 of 4 layers are not different ones"
    assert trouble((2, 4), 3, LAYERS) == "fc.weight joins 3 states, and these are 2"
    assert trouble((0, 4, LAYERS), 3, LAYERS) is None


def test_ids_that_are_spelled_twice_are_read_alike_by_most(
    target: Checkpoint, tmp_path: Path
) -> None:
    head = write_head(tmp_path / "head", target.folder, packaging="SpecForge", ids=(2, 4, 7))
    assert "vLLM, second model runner" in who(target, head)
    edit_config(head, eagle_aux_hidden_state_layer_ids=[2, 4, 7])
    assert set(who(target, head)) == {"tokenspeed before #526"}


def test_flags_of_speculators_heads_that_vllm_dropped(target: Checkpoint, tmp_path: Path) -> None:
    head = write_head(
        tmp_path / "head", target.folder, packaging="speculators", norm_before_fc=True
    )
    found = who(target, head)
    assert found["vLLM before 2026-03-25 on speculators' heads"] == {"input_norm": "none"}
    assert found["vLLM on speculators' heads without the field"] == {"norm_before_residual": True}
    edit_config(head, norm_before_residual=False)
    assert "vLLM on speculators' heads without the field" not in who(target, head)


def test_what_eagle_31_added_is_unknown_to_some(target: Checkpoint, tmp_path: Path) -> None:
    head = write_head(
        tmp_path / "head", target.folder, packaging="SpecForge", fc_norm=True, norm_output=True
    )
    assert who(target, head)["TensorRT-LLM before 2026-06-05"] == {
        "input_norm": "none",
        "norm_output": False,
    }
    assert "vLLM before 2026-06-23 on speculators' heads" not in who(target, head)


def test_a_plain_head_of_halves_is_read_alike_by_all(target: Checkpoint, tmp_path: Path) -> None:
    assert who(target, write_head(tmp_path / "head", target.folder)) == {}


def test_facts_on_mtp_layers_are_of_one_family() -> None:
    written = MtpReading(hidden_first=False, carry_normed=True)
    ((_, reading),) = mtp_engine_readings("qwen3_5_moe", written)
    assert not reading.first_normed
    assert mtp_engine_readings("llama", written) == []


def test_every_fact_stands_on_the_page_with_its_source() -> None:
    page = (ROOT / "docs" / "doctor.md").read_text()
    (table,) = re.findall(r"<!-- engines -->\n(.*?)\n<!-- engines end -->", page, re.S)
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]
    ]
    facts = [[fact.who, fact.field, fact.does, fact.source] for fact in (*FACTS, *MTP_FACTS)]
    assert rows == facts
