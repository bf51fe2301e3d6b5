"""Folders of hidden states: which of their files are read, and how little of them stays."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from pytest_specdec.common.errors import RequestError
from pytest_specdec.decoding.stored_states import StoredStates


def write(path: Path, ids: list[int], **others: torch.Tensor) -> None:
    """A file whose states begin with each token's id, in two layers of three numbers."""
    path.parent.mkdir(parents=True, exist_ok=True)
    states = torch.tensor(ids, dtype=torch.float32)[:, None, None] + torch.arange(3).expand(2, 3)
    save_file({"token_ids": torch.tensor(ids), "hidden_states": states} | others, path)


def found(states: StoredStates, *prompts: list[int]) -> list[list[list[int]]]:
    return [[text.tolist() for text in texts] for texts in states.texts_after(prompts)]


def test_a_text_is_that_of_the_longest_prompt_that_begins_it(tmp_path: Path) -> None:
    write(tmp_path / "a.safetensors", [1, 2, 3, 4])
    write(tmp_path / "b.safetensors", [1, 2, 5])
    write(tmp_path / "c.safetensors", [9, 1, 2, 3])
    states = StoredStates(tmp_path)
    assert found(states, [1, 2, 3, 4], [9], [7], [1, 2]) == [
        [],  # nothing comes after it
        [[9, 1, 2, 3]],
        [],
        [[1, 2, 3, 4], [1, 2, 5]],
    ]
    assert found(states, [1, 2, 3], [1, 2], [9]) == [[[1, 2, 3, 4]], [[1, 2, 5]], [[9, 1, 2, 3]]]
    assert states.of([1, 2, 3])[:, 0, 0].tolist() == [1.0, 2.0, 3.0]
    assert states.of([1, 2, 5]).shape == (3, 2, 3)


def test_a_text_in_two_files_is_one_text(tmp_path: Path) -> None:
    write(tmp_path / "a.safetensors", [1, 2, 3])
    write(tmp_path / "b.safetensors", [1, 2, 3])
    assert found(StoredStates(tmp_path), [1]) == [[[1, 2, 3]]]


def test_a_text_that_no_prompt_begins_has_no_states(tmp_path: Path) -> None:
    write(tmp_path / "a.safetensors", [1, 2, 3])
    states = StoredStates(tmp_path)
    found(states, [1])
    with pytest.raises(RequestError, match=r"no file of .* has the states of a text"):
        states.of([1, 9])


def test_the_folder_of_a_data_set_leads_to_its_states(tmp_path: Path) -> None:
    (tmp_path / "dataset_info.json").write_text("{}")
    (tmp_path / "token_freq.pt").write_bytes(b"a pickle")
    with pytest.raises(RequestError, match=r"without hidden states; .*generate-offline-data"):
        StoredStates(tmp_path)
    write(tmp_path / "hidden_states" / "hs_0.safetensors", [1, 2, 3])
    (tmp_path / "hidden_states" / "hs_0.safetensors.lock").touch()
    assert found(StoredStates(tmp_path), [1]) == [[[1, 2, 3]]]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("rows_0-2000/data_0.ckpt", "holds SpecForge's .ckpt files, such as data_0.ckpt: pickles"),
        ("rows_0-2000/data_0.ckpt.gz", r"packed .ckpt files, .*unpack them \(gunzip -r\) and"),
        ("talk-1.pt", "holds ModelOpt's .pt files, such as talk-1.pt: pickles, which are never"),
        ("readme.txt", "holds no safetensors files; vLLM's extraction"),
        (None, "there is no folder"),
    ],
)
def test_other_folders_are_refused(tmp_path: Path, name: str | None, message: str) -> None:
    folder = tmp_path / "states"
    if name is not None:
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_bytes(b"not to be opened")
    with pytest.raises(RequestError, match=message):
        StoredStates(folder)


def test_files_that_fit_no_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    three = torch.zeros(3, 2, 4)
    wrong = {
        "has no 'token_ids' and 'hidden_states'": {"input_ids": torch.zeros(3).long()},
        r"token_ids \[2\] and hidden_states \[3, 2, 4\]": {
            "token_ids": torch.tensor([1, 2]),
            "hidden_states": three,
        },
        r"hidden_states \[3, 4\], not": {
            "token_ids": torch.tensor([1, 2, 3]),
            "hidden_states": three[:, 0].contiguous(),
        },
        r"hidden_states_scales \[3\], not \(length, 1, 1\)": {
            "token_ids": torch.tensor([1, 2, 3]),
            "hidden_states": three,
            "hidden_states_scales": torch.ones(3),
        },
    }
    for message, tensors in wrong.items():
        save_file(tensors, path)
        with pytest.raises(RequestError, match=message):
            found(StoredStates(tmp_path), [1])
    whole = path.read_bytes()
    path.write_bytes(whole[:-4])
    with pytest.raises(RequestError, match=r"no whole safetensors file .* until they are written"):
        found(StoredStates(tmp_path), [1])


def test_states_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "a.safetensors", [1, 2], hidden_states=torch.full((2, 1, 4), torch.inf))
    states = StoredStates(tmp_path)
    found(states, [1])
    with pytest.raises(RequestError, match="not finite; extract them again"):
        states.of([1, 2])


def test_memory_does_not_grow_with_the_folder(tmp_path: Path) -> None:
    """Of texts that no prompt begins nothing stays: 20 times as many take the names of their
    files.
    """

    def peak(files: int) -> int:
        """Bytes of Python and numpy for the texts of 4 prompts among so many files."""
        folder = tmp_path / str(files)
        for number in range(files):
            write(folder / f"hs_{number}.safetensors", [number, *range(20_000)])
        tracemalloc.start()
        states = StoredStates(folder)
        texts = states.texts_after([[number] for number in range(4)])
        assert [len(of_prompt) for of_prompt in texts] == [1] * 4
        for (text,) in texts:
            states.of(text.tolist())
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    few, many = peak(10), peak(200)
    one_text = 20_001 * 8
    assert few > 4 * one_text
    assert many - few < one_text
