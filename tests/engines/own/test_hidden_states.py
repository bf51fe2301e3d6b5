"""Replay from hidden states that were written where the target ran: what full replay measures,
without the target's layers.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import re
import runpy
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.stored_states import (
    HEAD,
    LAYERS,
    TARGET,
    cases_at,
    from_states,
    replayed,
    states_of,
    write_states,
)
from helpers.support import EMBEDDED, ROOT
from safetensors.torch import load_file, save_file

from pytest_specdec.cases.case import Case
from pytest_specdec.cases.drafter import DraftModelSpec, RegisteredSpec
from pytest_specdec.cases.shard import Shard
from pytest_specdec.common.errors import MeasurementError, RequestError
from pytest_specdec.decoding.loading import load_model
from pytest_specdec.decoding.stored_states import StoredStates
from pytest_specdec.engines.models import ModelPool
from pytest_specdec.engines.own.hidden_states import HiddenStatesEngine
from pytest_specdec.engines.shards import ShardExecutor

Tensors = dict[str, torch.Tensor]


@torch.inference_mode()
def specforge_files(cases: Sequence[Case], folder: Path) -> None:
    """What SpecForge's `prepare_hidden_states.py` writes: the last states are after the norm, and
    all have the batch's dimension.
    """
    place = folder / "rows_0-2000"
    place.mkdir(parents=True)
    norm = load_model(str(TARGET), "cpu").model.model.norm
    for number, (ids, states) in enumerate(states_of(cases)):
        kept = {
            "input_ids": ids,
            "loss_mask": torch.ones_like(ids),
            "aux_hidden_state": states[:, :-1].flatten(1)[None],
            "hidden_state": norm(states[:, -1])[None],
        }
        torch.save(kept, place / f"data_{number}.ckpt")


@torch.inference_mode()
def modelopt_files(cases: Sequence[Case], folder: Path, *, normalised: bool) -> None:
    """What ModelOpt's `compute_hidden_states_hf.py` writes, whose last states are after the norm,
    and `compute_hidden_states_vllm.py`, whose last states are before it.
    """
    folder.mkdir()
    norm = load_model(str(TARGET), "cpu").model.model.norm
    for number, (ids, states) in enumerate(states_of(cases)):
        kept = {
            "input_ids": ids,
            "hidden_states": norm(states[:, -1]) if normalised else states[:, -1].clone(),
            "aux_hidden_states": states[:, :-1].flatten(1),
            "loss_mask": torch.ones_like(ids),
            "conversation_id": f"talk-{number}",
        }
        torch.save(kept, folder / f"talk-{number}.pt")


OTHERS: dict[str, Callable[[Sequence[Case], Path], None]] = {
    "SpecForge": specforge_files,
    "ModelOpt with transformers": functools.partial(modelopt_files, normalised=True),
    "ModelOpt with vLLM": functools.partial(modelopt_files, normalised=False),
}


@pytest.mark.parametrize("package", OTHERS)
def test_files_of_other_trainers_are_converted(
    package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the program that the docs show."""
    cases = cases_at(1.0)
    OTHERS[package](cases, tmp_path / "kept")
    with pytest.raises(RequestError, match=f"holds {package.split()[0]}'s .*docs/hidden-states.md"):
        from_states(cases, tmp_path / "kept")
    page = (ROOT / "docs" / "hidden-states.md").read_text()
    (program,) = re.findall(r"```py\n(.*?)```", page, re.DOTALL)
    (tmp_path / "convert.py").write_text(program)
    monkeypatch.setattr(sys, "argv", ["convert.py", str(tmp_path / "kept"), str(tmp_path / "new")])
    runpy.run_path(str(tmp_path / "convert.py"))
    for full, stored in zip(replayed(cases), from_states(cases, tmp_path / "new"), strict=True):
        np.testing.assert_allclose(stored.counts.rounds, full.counts.rounds, atol=1e-4)
        np.testing.assert_allclose(stored.counts.accepted, full.counts.accepted, atol=1e-4)


@pytest.fixture(scope="module", params=[0.0, 1.0], ids=["greedy", "sampled"])
def written(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[list[Case], Path]:
    cases, folder = cases_at(request.param), tmp_path_factory.mktemp("states")
    write_states(cases, folder, torch.float32)
    return cases, folder


def test_the_head_reads_the_layers_that_are_written() -> None:
    assert isinstance(HEAD, RegisteredSpec)
    config = json.loads((EMBEDDED / "text-eagle3" / "config.json").read_text())
    eagle = config.get("eagle_config") or {}
    read = eagle.get("eagle_aux_hidden_state_layer_ids")
    assert read is None or tuple(read) == LAYERS


def test_every_drafter_accepts_as_in_full_replay(written: tuple[list[Case], Path]) -> None:
    cases, folder = written
    for full, stored in zip(replayed(cases), from_states(cases, folder), strict=True):
        assert stored.text_fingerprints == full.text_fingerprints
        np.testing.assert_allclose(stored.counts.rounds, full.counts.rounds, atol=1e-5)
        np.testing.assert_allclose(stored.counts.accepted, full.counts.accepted, atol=1e-5)
        assert stored.fingerprints == full.fingerprints


def test_bfloat16_states_move_lengths_by_their_rounding(tmp_path: Path) -> None:
    cases = cases_at(1.0)
    write_states(cases, tmp_path, torch.bfloat16)
    for full, stored in zip(replayed(cases), from_states(cases, tmp_path), strict=True):
        assert stored.counts.acceptance_length == pytest.approx(
            full.counts.acceptance_length, rel=0.001
        )


def test_a_target_folder_without_decoder_layers_is_enough(
    written: tuple[list[Case], Path], tmp_path: Path
) -> None:
    cases, folder = written
    outer = tmp_path / "outer"
    shutil.copytree(TARGET, outer, ignore=shutil.ignore_patterns("openvino", "onnx", "gguf"))
    weights = load_file(TARGET / "model.safetensors")
    kept = {name: weights[name] for name in weights if ".layers." not in name}
    assert 0 < len(kept) < len(weights)
    save_file(kept, outer / "model.safetensors", {"format": "pt"})
    (case,) = [case for case in cases if isinstance(case.drafter, DraftModelSpec)]
    moved = dataclasses.replace(case, texts=dataclasses.replace(case.texts, target=str(outer)))
    (stored,), (full,) = from_states([moved], folder), replayed([case])
    np.testing.assert_allclose(stored.counts.accepted, full.counts.accepted, atol=1e-5)


def test_the_target_itself_cannot_run(written: tuple[list[Case], Path]) -> None:
    cases, _ = written
    target = ModelPool("cpu", outer_targets=True).target(cases[0].target)
    with pytest.raises(RequestError, match="only the outer parts of the target are loaded"):
        target.model(torch.tensor([[1, 2]]))


def test_texts_of_another_target_are_refused(tmp_path: Path) -> None:
    cases = cases_at(1.0)[:1]
    write_states(cases, tmp_path, torch.float32)
    for file in tmp_path.glob("*.safetensors"):
        tensors = load_file(file)
        tensors["hidden_states"] = tensors["hidden_states"].roll(1, 0).contiguous()
        save_file(tensors, file)
    with pytest.raises(MeasurementError, match="texts"):
        from_states(cases, tmp_path)


def test_a_prompt_without_a_text_is_named(tmp_path: Path) -> None:
    cases = cases_at(1.0)[:1]
    write_states(cases, tmp_path, torch.float32)
    sorted(tmp_path.glob("*.safetensors"))[2].unlink()
    with pytest.raises(RequestError, match="1 of 6 prompts begin no text of"):
        from_states(cases, tmp_path)


def test_two_answers_to_a_prompt_are_refused(tmp_path: Path) -> None:
    cases = cases_at(1.0)[:1]
    write_states(cases, tmp_path, torch.float32)
    tensors = load_file(tmp_path / "hs_0.safetensors")
    shorter = {name: tensor[:-1].contiguous() for name, tensor in tensors.items()}
    save_file(shorter, tmp_path / "hs_0b.safetensors")
    with pytest.raises(RequestError, match=r"2 texts of .* begin with the prompt"):
        from_states(cases, tmp_path)


def test_states_of_other_layers_are_refused(tmp_path: Path) -> None:
    cases = [case for case in cases_at(1.0) if isinstance(case.drafter, RegisteredSpec)]
    write_states(cases, tmp_path, torch.float32)
    for file in tmp_path.glob("*.safetensors"):
        tensors = load_file(file)
        tensors["hidden_states"] = tensors["hidden_states"][:, 1:].contiguous()
        save_file(tensors, file)
    with pytest.raises(MeasurementError, match="3 states, and the drafters read those of"):
        from_states(cases, tmp_path)


def test_8_bit_states_are_scaled(tmp_path: Path) -> None:
    cases = cases_at(1.0)[:1]
    write_states(cases, tmp_path, torch.float32)
    for file in tmp_path.glob("*.safetensors"):
        tensors = load_file(file)
        states = tensors["hidden_states"]
        scale = states.abs().amax((1, 2), keepdim=True) / torch.finfo(torch.float8_e4m3fn).max
        tensors["hidden_states"] = (states / scale).to(torch.float8_e4m3fn)
        tensors["hidden_states_scales"] = scale
        save_file(tensors, file)
    (full,), (stored,) = replayed(cases), from_states(cases, tmp_path)
    assert stored.counts.acceptance_length == pytest.approx(full.counts.acceptance_length, rel=0.01)


@pytest.fixture
def copied(written: tuple[list[Case], Path], tmp_path: Path) -> tuple[list[Case], Path]:
    """Files to change."""
    cases, folder = written
    return cases, Path(shutil.copytree(folder, tmp_path / "copied"))


def _changed(folder: Path, change: Callable[[Tensors], Tensors], *, first: int = 0) -> None:
    """Write the files of a folder again, from the `first` on."""
    for file in sorted(folder.glob("*.safetensors"))[first:]:
        tensors = change(load_file(file))
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, file)


def _with_states(change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[Tensors], Tensors]:
    return lambda tensors: tensors | {"hidden_states": change(tensors["hidden_states"])}


@pytest.mark.parametrize("first", [0, 3])
@pytest.mark.parametrize("layers", [1, 3])
def test_each_file_must_have_the_layers_that_a_head_reads(
    first: int, layers: int, copied: tuple[list[Case], Path]
) -> None:
    """One state a token would fill the places of all layers, where only one file was looked at."""
    cases, folder = copied
    cases = [case for case in cases if isinstance(case.drafter, RegisteredSpec)]
    _changed(folder, _with_states(lambda states: states[:, -layers:]), first=first)
    with pytest.raises(MeasurementError, match=rf"{layers} states, and the drafters read those"):
        from_states(cases, folder)


def test_files_of_several_extractions_serve_drafters_that_read_the_last_layer(
    copied: tuple[list[Case], Path],
) -> None:
    cases, folder = copied
    cases = [case for case in cases if not isinstance(case.drafter, RegisteredSpec)]
    expected = from_states(cases, folder)
    _changed(folder, _with_states(lambda states: states[:, -1:]), first=2)
    _changed(folder, _with_states(lambda states: states[:, -2:]), first=5)
    for before, after in zip(expected, from_states(cases, folder), strict=True):
        np.testing.assert_array_equal(after.counts.accepted, before.counts.accepted)


def test_each_file_must_have_the_width_of_the_target(copied: tuple[list[Case], Path]) -> None:
    cases, folder = copied
    _changed(folder, _with_states(lambda states: states[..., :1]), first=3)
    with pytest.raises(MeasurementError, match=r"are 1 wide, and the target's 128"):
        from_states(cases, folder)


def _no_scale(tensors: Tensors) -> Tensors:
    length = len(tensors["token_ids"])
    return tensors | {"hidden_states_scales": torch.zeros(length, 1, 1)}


NOT_STATES: dict[str, tuple[Callable[[Tensors], Tensors], str]] = {
    "zeros": (_with_states(torch.zeros_like), "states that are all zero"),
    "a token's zeros": (
        _with_states(lambda states: states.index_fill(0, torch.tensor([9]), 0.0)),
        "states that are all zero",
    ),
    "a layer's zeros": (
        _with_states(lambda states: states.index_fill(1, torch.tensor([1]), 0.0)),
        "states that are all zero",
    ),
    "scales of zero": (_no_scale, "states that are all zero"),
    "integers": (_with_states(lambda states: (states * 100).int()), "of type I32"),
    "truth values": (_with_states(lambda states: states > 0), "of type BOOL"),
    "complex": (_with_states(lambda states: states.to(torch.complex64)), "of type C64"),
    "no layer": (_with_states(lambda states: states[:, :0]), r"hidden_states \[\d+, 0, 128\]"),
    "one token id": (
        lambda tensors: tensors | {"token_ids": torch.tensor(3)},
        r"token_ids \[\] and",
    ),
    "truth values as ids": (
        lambda tensors: tensors | {"token_ids": tensors["token_ids"] > 0},
        "token_ids that are no integers",
    ),
    "complex ids": (
        lambda tensors: tensors | {"token_ids": tensors["token_ids"].to(torch.complex64)},
        "token_ids that are no integers",
    ),
}


@pytest.mark.parametrize("kind", NOT_STATES)
def test_what_no_target_computes_is_refused(kind: str, copied: tuple[list[Case], Path]) -> None:
    """Zeros make each token as probable as any other, which no text contradicts."""
    change, words = NOT_STATES[kind]
    cases, folder = copied
    _changed(folder, change, first=3)
    with pytest.raises(RequestError, match=rf"hs_[345]\.safetensors holds .*{words}.*extract"):
        from_states(cases, folder)


@pytest.mark.parametrize("change", ["shorter", "another text"])
def test_a_file_that_is_written_anew_meanwhile_is_refused(
    change: str, copied: tuple[list[Case], Path]
) -> None:
    """Its missing states would be zeros."""
    _, folder = copied
    kept = StoredStates(folder)
    text = load_file(folder / "hs_0.safetensors")["token_ids"].tolist()
    kept.texts_after([text[:4]])
    assert len(kept.of(text)) == len(text)
    _changed(
        folder,
        (lambda tensors: {name: tensor[:-2] for name, tensor in tensors.items()})
        if change == "shorter"
        else (lambda tensors: tensors | {"token_ids": tensors["token_ids"] ^ 1}),
    )
    with pytest.raises(RequestError, match=r"hs_0\.safetensors has changed .*run again"):
        kept.of(text)


def test_other_states_are_another_environment(copied: tuple[list[Case], Path]) -> None:
    """So that what they move is neither judged to the last digit nor blamed on the code."""
    cases, folder = copied
    head = [case for case in cases if isinstance(case.drafter, RegisteredSpec)]
    (first,), (again,) = from_states(head, folder), from_states(head, folder)
    assert first.environment.states
    assert again.environment == first.environment
    _changed(folder, _with_states(lambda states: states[:, [2, 1, 0, 3]]), first=5)
    (other,) = from_states(head, folder)
    (difference,) = other.environment.differences(first.environment)
    assert difference == f"states: {first.environment.states} -> {other.environment.states}"
    (full,) = replayed(head)
    assert full.environment.states == ""


def test_shards_of_other_states_do_other_work(copied: tuple[list[Case], Path]) -> None:
    cases, folder = copied

    def work(shard: Shard) -> set[str]:
        models = ModelPool("cpu", outer_targets=True)
        executor = ShardExecutor(shard, models)
        engine = HiddenStatesEngine(cases[:1], models, folder=str(folder), executor=executor)
        engine.share(cases[0], contexts=False, conformance=False)
        return set(executor.work)

    first = work(Shard(1, 2))
    assert len(first) > 1
    assert work(Shard(2, 2)) == first
    _changed(folder, _with_states(lambda states: states[:, [2, 1, 0, 3]]), first=5)
    assert work(Shard(2, 2)) != first
