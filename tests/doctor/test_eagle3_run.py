"""Readings of random heads: the written one is replay's, and equal files give equal counts."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.eagle3 import FLAGS, LAYERS, Target, edit_tensors, make_targets, write_head
from helpers.support import edit_config
from helpers.tiers import some
from safetensors.torch import load_file

from pytest_specdec import replay
from pytest_specdec.acceptance.counts import Counts
from pytest_specdec.cases.case import Sampling
from pytest_specdec.cases.texts import Text
from pytest_specdec.decoding.decode import decode
from pytest_specdec.doctor.diagnosis import DoctorOutcome, diagnose
from pytest_specdec.doctor.eagle3_patient import Eagle3Patient

K = 3
PROMPTS = [[0, 2 + row, 3 + row, 4] for row in range(10)]


@pytest.fixture(scope="module")
def targets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Target]:
    return make_targets(tmp_path_factory.mktemp("targets"))


@pytest.fixture(scope="module")
def texts(targets: dict[str, Target]) -> tuple[Text, ...]:
    return decode(targets["llama"].single, None, PROMPTS, k=0, new_tokens=24, seed=5).texts


def patient(target: Target, head: Path, texts: tuple[Text, ...]) -> Eagle3Patient:
    return Eagle3Patient(target.single, head, texts, Sampling(1.0), K)


def same(one: Counts, other: Counts) -> bool:
    return bool(
        np.allclose(one.accepted, other.accepted, atol=1e-5)
        and np.allclose(one.rounds, other.rounds, atol=1e-5)
    )


@pytest.mark.parametrize("packaging", ["SafeAILab", "SpecForge", "speculators"])
@pytest.mark.parametrize("flags", FLAGS.values(), ids=FLAGS)
def test_the_written_reading_is_that_of_replay(
    targets: dict[str, Target],
    texts: tuple[Text, ...],
    tmp_path: Path,
    packaging: str,
    flags: dict[str, bool],
) -> None:
    target = targets["llama"]
    head = write_head(
        tmp_path / "head", target.folder, packaging=packaging, ids=(1, 4, LAYERS), **flags
    )
    examined = patient(target, head, texts)
    measured = examined.measure(examined.readings.written()).counts
    assert same(measured, replay(target.single, str(head), texts, k=K))
    assert examined.faults == ()


EDITS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "ids": ({"eagle_aux_hidden_state_layer_ids": [2, 5, 6]}, {"states": (2, 5, 6)}),
    "residual": ({"norm_before_residual": True}, {"norm_before_residual": True}),
    "output": ({"norm_output": True}, {"norm_output": True}),
    "base": ({"rope_theta": 500000.0}, {"theta": 500000.0}),
    "pairs": ({"rope_interleave": True}, {"interleaved": True}),
    "part": ({"partial_rotary_factor": 0.5}, {"rotated": 4}),
}


@pytest.mark.parametrize(("fields", "reading"), EDITS.values(), ids=EDITS)
def test_a_reading_is_the_written_one_of_the_folder_that_says_so(
    targets: dict[str, Target],
    texts: tuple[Text, ...],
    tmp_path: Path,
    fields: dict[str, Any],
    reading: dict[str, Any],
) -> None:
    target = targets["llama"]
    head = write_head(tmp_path / "head", target.folder, ids=(1, 4, 5))
    examined = patient(target, head, texts)
    written = examined.readings.written()
    other = dataclasses.replace(written, **reading)
    assert not same(examined.measure(written).counts, examined.measure(other).counts)
    measured = examined.measure(other).counts
    edit_config(head, **fields)
    assert same(measured, replay(target.single, str(head), texts, k=K))
    assert patient(target, head, texts).readings.written() == other


def test_maps_of_tokens(
    targets: dict[str, Target], texts: tuple[Text, ...], tmp_path: Path
) -> None:
    target = targets["llama"]
    head = write_head(tmp_path / "head", target.folder)
    right = patient(target, head, texts)
    expected = right.measure(right.readings.written()).counts
    offsets = load_file(head / "model.safetensors")["d2t"]
    rows = torch.arange(len(offsets))
    for tokens, saved in (
        ("absolute", offsets + rows),
        ("t2d", torch.zeros_like(offsets)),
        ("ascending", (offsets + rows).flip(0) - rows),
    ):
        edit_tensors(head, d2t=saved)
        wrong = patient(target, head, texts)
        written = wrong.readings.written()
        measured = wrong.measure(dataclasses.replace(written, tokens=tokens)).counts
        assert same(measured, expected), tokens
        assert not same(wrong.measure(written).counts, expected), tokens
    edit_tensors(head, d2t=None)
    missing = patient(target, head, texts)
    assert "has no d2t" in missing.faults[0]
    written = missing.readings.written()
    assert written.tokens == "first"
    assert same(missing.measure(dataclasses.replace(written, tokens="t2d")).counts, expected)


def test_norms_that_contradict_config_json_are_read_and_named(
    targets: dict[str, Target], texts: tuple[Text, ...], tmp_path: Path
) -> None:
    target = targets["llama"]
    head = write_head(tmp_path / "head", target.folder, norm_before_fc=True)
    expected = replay(target.single, str(head), texts, k=K)
    edit_config(head, norm_before_fc=False)
    silent = patient(target, head, texts)
    assert "holds input_norm.weight and config.json does not say" in silent.faults[0]
    joined = dataclasses.replace(silent.readings.written(), input_norm="joined")
    assert joined in silent.readings.neighbours(silent.readings.written())
    assert same(silent.measure(joined).counts, expected)
    assert silent.cures(joined) == ["config.json: norm_before_fc -> true"]


def test_an_announced_norm_without_its_tensor_has_weights_of_1(
    targets: dict[str, Target], texts: tuple[Text, ...], tmp_path: Path
) -> None:
    target = targets["llama"]
    head = write_head(tmp_path / "head", target.folder, fc_norm=True)
    ones = {f"fc_norm__{index}__weight": torch.ones(32) for index in range(3)}
    edit_tensors(head, **ones)
    expected = replay(target.single, str(head), texts, k=K)
    edit_tensors(head, **dict.fromkeys(ones))
    without = patient(target, head, texts)
    assert "says fc_norm: true and" in without.faults[0]
    assert same(without.measure(without.readings.written()).counts, expected)


def test_inputs_of_attention_in_the_other_order(
    targets: dict[str, Target], texts: tuple[Text, ...], tmp_path: Path
) -> None:
    target = targets["llama"]
    head = write_head(tmp_path / "head", target.folder)
    expected = replay(target.single, str(head), texts, k=K)
    held = load_file(head / "model.safetensors")
    swapped = {
        name.replace(".", "__"): tensor.roll(32, 1).contiguous()
        for name, tensor in held.items()
        if name.endswith(("q_proj.weight", "k_proj.weight", "v_proj.weight"))
    }
    edit_tensors(head, **swapped)
    wrong = patient(target, head, texts)
    other = dataclasses.replace(wrong.readings.written(), state_first=True)
    assert same(wrong.measure(other).counts, expected)


def test_a_rotated_target_is_turned_back(
    targets: dict[str, Target], texts: tuple[Text, ...], tmp_path: Path
) -> None:
    """QuaRot by hand, in the states alone: the embeddings say how they were turned."""
    target = targets["llama"]
    embeddings = target.single.model.get_input_embeddings().weight.detach().clone()
    turn = torch.linalg.qr(torch.randn(32, 32, generator=torch.Generator().manual_seed(2))).Q
    head = write_head(tmp_path / "head", target.folder, own_embeddings=True)
    before = edit_tensors(head, embed_tokens__weight=embeddings @ turn.T)
    examined = patient(target, before, texts)
    turned = dataclasses.replace(examined.readings.written(), turned_back=True)
    assert turned in examined.readings.neighbours(examined.readings.written())
    blocks = load_file(head / "model.safetensors")["fc.weight"].chunk(3, 1)
    corrected = torch.cat([block @ turn for block in blocks], 1)
    expected = examined.measure(turned).counts
    edit_tensors(head, fc__weight=corrected)
    assert same(expected, replay(target.single, str(head), texts, k=K))


def test_the_last_state_after_the_targets_norm(
    targets: dict[str, Target], texts: tuple[Text, ...], tmp_path: Path
) -> None:
    target = targets["llama"]
    head = write_head(tmp_path / "head", target.folder, ids=(1, 4, LAYERS))
    examined = patient(target, head, texts)
    written = examined.readings.written()
    normed = dataclasses.replace(written, states=(1, 4, LAYERS + 1))
    assert normed in examined.readings.neighbours(written)
    assert not same(examined.measure(written).counts, examined.measure(normed).counts)
    assert "after the target's last norm" in examined.cures(normed)[0]


def test_readings_are_named_as_config_json_spells_them(
    targets: dict[str, Target], texts: tuple[Text, ...], tmp_path: Path
) -> None:
    target = targets["llama"]
    nested = write_head(tmp_path / "one", target.folder, packaging="SpecForge", ids=(2, 5, 7))
    examined = patient(target, nested, texts)
    written = examined.readings.written()
    assert examined.words(written) == (
        "as written: states 2, 5, 7 (config.json: [1, 4, 6] in eagle_config, outputs of layers)"
    )
    for change, words in (
        ({"theta": 1e6}, "rope_theta: 1000000"),
        ({"rotated": 4}, "partial_rotary_factor: 0.5"),
        ({"states": (2, 5, LAYERS + 1)}, f"states 2, 5, {LAYERS} after the last norm"),
    ):
        assert examined.words(dataclasses.replace(written, **change)) == words
    without = patient(target, write_head(tmp_path / "two", target.folder), texts)
    assert "(config.json: no ids)" in without.words(without.readings.written())


@pytest.mark.parametrize(("filled", "advice"), [(1.0, "is 1 everywhere"), (1.25, "add fc_norm: ")])
def test_the_weights_of_an_unannounced_norm_say_whether_it_was_trained(
    targets: dict[str, Target],
    texts: tuple[Text, ...],
    tmp_path: Path,
    filled: float,
    advice: str,
) -> None:
    target = targets["llama"]
    head = write_head(tmp_path / "head", target.folder, fc_norm=True)
    held = {f"fc_norm__{index}__weight": torch.full((32,), filled) for index in range(3)}
    edit_tensors(head, **held)
    assert patient(target, head, texts).faults == ()
    edit_config(head, fc_norm=False)
    refusal, said = patient(target, head, texts).faults
    assert "does not say fc_norm: true" in refusal
    assert advice in said


def who(examined: Eagle3Patient, best: Any) -> dict[str, Any]:
    return {engine.who: engine for engine in examined.engines(best)}


def test_a_correction_of_dropped_ids_names_both_spellings_and_engines_then_read_it_alike(
    targets: dict[str, Target], texts: tuple[Text, ...], tmp_path: Path
) -> None:
    target = targets["llama"]
    head = write_head(tmp_path / "head", target.folder, packaging="SpecForge", ids=(2, 5, 7))
    nested = {"use_aux_hidden_state": True}
    edit_config(head, eagle_config=nested)
    examined = patient(target, head, texts)
    best = dataclasses.replace(examined.readings.written(), states=(2, 5, 7))
    (cure,) = examined.cures(best)
    field = "eagle_aux_hidden_state_layer_ids"
    assert f"config.json: {field} -> [2, 5, 7] at the top" in cure
    assert f"and also eagle_config.{field} -> [1, 4, 6] (outputs of layers)" in cure
    found = who(examined, best)
    assert "SGLang at 0005834" not in found
    assert "vLLM, second model runner" not in found
    usual = found["tokenspeed before #526"]
    assert usual.reading.states == (2, LAYERS // 2, LAYERS - 3)
    edit_config(head, eagle_config=nested | {field: [1, 4, 6]}, **{field: [2, 5, 7]})
    corrected = patient(target, head, texts)
    assert corrected.readings.written() == best
    assert corrected.faults == ()
    assert who(corrected, best) == found


def test_engines_read_the_corrected_flags_and_not_the_written_ones(
    targets: dict[str, Target], texts: tuple[Text, ...], tmp_path: Path
) -> None:
    target = targets["llama"]
    head = write_head(tmp_path / "head", target.folder, rope_interleave=True)
    examined = patient(target, head, texts)
    written = examined.readings.written()
    assert "TensorRT-LLM as of 2026-09" in who(examined, written)
    assert who(examined, dataclasses.replace(written, interleaved=False)) == {}


def test_engines_read_a_corrected_order_of_the_blocks_of_fc(
    targets: dict[str, Target], texts: tuple[Text, ...], tmp_path: Path
) -> None:
    """The same acceptance as that of the folder with its blocks in order."""
    target = targets["llama"]
    head = write_head(tmp_path / "head", target.folder, ids=(2, 5, 7))
    examined = patient(target, head, texts)
    best = dataclasses.replace(examined.readings.written(), states=(7, 2, 5))
    found = who(examined, best)["tokenspeed before #526"]
    assert found.words == "states 2, 4, 5"
    blocks = load_file(head / "model.safetensors")["fc.weight"].chunk(3, 1)
    edit_tensors(head, fc__weight=torch.cat([blocks[1], blocks[2], blocks[0]], 1))
    edit_config(head, eagle_aux_hidden_state_layer_ids=[2, 4, 5])
    assert same(
        examined.measure(found.reading).counts, replay(target.single, str(head), texts, k=K)
    )


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_other_values_of_wrong_states_are_all_sets(
    targets: dict[str, Target], texts: tuple[Text, ...], tmp_path: Path, order: tuple[int, ...]
) -> None:
    """In the order of the blocks of `fc`, and beside them what single changes give; other respects
    stay as they are.
    """
    target = targets["llama"]
    head = write_head(tmp_path / "head", target.folder, ids=(1, 4, LAYERS))
    readings = patient(target, head, texts).readings
    written = readings.written()
    assert readings.revised(written) == []
    states = tuple((0, 2, 3)[rank] for rank in order)
    read = dataclasses.replace(written, states=states, norm_output=not written.norm_output)
    found = readings.revised(read)
    sets = {
        tuple(chosen[rank] for rank in order)
        for chosen in itertools.combinations(range(LAYERS + 2), 3)
        if chosen[1:] != (LAYERS, LAYERS + 1)
    }
    assert sets <= {read.states, *(other.states for other in found)}
    assert read not in found
    assert len(set(found)) == len(found)
    for other in found:
        same_flag = dataclasses.replace(other, norm_output=read.norm_output)
        assert dataclasses.replace(same_flag, states=read.states) == read


def test_of_a_deep_target_states_nearby_are_other_values(
    targets: dict[str, Target], texts: tuple[Text, ...], tmp_path: Path
) -> None:
    target = targets["llama"]
    head = write_head(tmp_path / "head", target.folder, ids=(1, 4, LAYERS))
    readings = dataclasses.replace(
        patient(target, head, texts).readings, layers=32, kept=frozenset(range(34))
    )
    read = dataclasses.replace(readings.written(), states=(3, 16, 28))
    found = {other.states for other in readings.revised(read)}
    assert {(3, 14, 29), (5, 16, 26), (1, 15, 28), (3, 17, 28)} <= found
    assert (5, 14, 26) not in found
    assert len(found) < 200


@pytest.mark.parametrize("seed", some(range(3), 3))
def test_random_heads_have_no_right_reading(
    targets: dict[str, Target], texts: tuple[Text, ...], tmp_path: Path, seed: int
) -> None:
    target = targets["llama"]
    head = write_head(tmp_path / "head", target.folder, seed=seed, ids=(2, 4, 5))
    examined = patient(target, head, texts)
    found = diagnose(examined, examined.nothing)
    assert found.outcome in (DoctorOutcome.NOTHING, DoctorOutcome.UNDECIDED)
