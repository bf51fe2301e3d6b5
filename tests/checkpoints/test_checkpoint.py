"""Checkpoint folders read without torch: fingerprints, and what is refused before a model is
loaded.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load_file, save_file

from pytest_specdec.checkpoints.checkpoint import (
    Checkpoint,
    check_not_itself,
    check_pair,
    open_checkpoint,
)
from pytest_specdec.checkpoints.safetensors_header import Tensor
from pytest_specdec.common.errors import RequestError

FIRST_MTP = "model.layers.2."
"""Where the MTP layers of the tiny target, which has two layers, begin."""


def weights_of(folder: Path) -> dict[str, Any]:
    return load_file(folder / "model.safetensors")


@pytest.fixture
def copy(tiny_target: Path, tmp_path: Path) -> Path:
    """A copy of the tiny target to change."""
    return Path(shutil.copytree(tiny_target, tmp_path / "copy"))


def configure(folder: Path, **values: Any) -> None:
    """Change fields of config.json; None removes one."""
    path = folder / "config.json"
    config = {
        name: value for name, value in json.loads(path.read_text()).items() if name not in values
    }
    path.write_text(
        json.dumps(config | {name: value for name, value in values.items() if value is not None})
    )


def nudge(folder: Path, prefix: str) -> None:
    """Change one number of the first tensor of a prefix."""
    weights = weights_of(folder)
    name = next(name for name in sorted(weights) if name.startswith(prefix))
    weights[name].flat[0] += 0.5
    save_file(weights, folder / "model.safetensors")


def drop(folder: Path, prefix: str) -> None:
    """Save again without the tensors of a prefix."""
    save_file(
        {name: value for name, value in weights_of(folder).items() if not name.startswith(prefix)},
        folder / "model.safetensors",
    )


def shard(folder: Path) -> None:
    """Save again as two files, with other metadata."""
    weights = weights_of(folder)
    names = sorted(weights, reverse=True)
    for at, part in enumerate((names[::2], names[1::2]), 1):
        save_file(
            {name: weights[name] for name in part},
            folder / f"model-{at:05}-of-00002.safetensors",
            metadata={"part": str(at)},
        )
    (folder / "model.safetensors").unlink()


def rename_metadata(folder: Path) -> None:
    save_file(
        weights_of(folder),
        folder / "model.safetensors",
        metadata={"format": "np", "saved by": "another program"},
    )


def prints(folder: Path) -> tuple[str, str, str]:
    checkpoint = Checkpoint(folder)
    return (
        checkpoint.model_fingerprint,
        checkpoint.heads_fingerprint,
        checkpoint.tokenizer_fingerprint,
    )


def test_the_configuration_is_read(tiny_target: Path) -> None:
    checkpoint = open_checkpoint(tiny_target)
    assert (checkpoint.vocabulary, checkpoint.context, checkpoint.mtp_layers) == (32, 128, 2)
    assert checkpoint.has_mtp_tensors


def test_the_context_has_two_names(copy: Path) -> None:
    configure(copy, max_position_embeddings=None, n_positions=96)  # as GPT-2 writes it
    assert Checkpoint(copy).context == 96
    configure(copy, n_positions=None)
    assert Checkpoint(copy).context is None


def test_a_nested_text_configuration_is_the_one_that_counts(copy: Path) -> None:
    configure(copy, text_config={"vocab_size": 77, "num_nextn_predict_layers": 1})
    assert (Checkpoint(copy).vocabulary, Checkpoint(copy).mtp_layers, Checkpoint(copy).context) == (
        77,
        1,
        None,
    )


@pytest.mark.parametrize(
    "name", ["num_mtp_layers", "num_nextn_predict_layers", "mtp_num_hidden_layers"]
)
def test_mtp_layers_are_announced_under_several_names(copy: Path, name: str) -> None:
    configure(copy, num_mtp_layers=None)
    assert Checkpoint(copy).mtp_layers == 0
    configure(copy, **{name: 3})
    assert Checkpoint(copy).mtp_layers == 3


@pytest.mark.parametrize(
    ("name", "mtp"),
    [
        ("model.layers.0.mlp.up_proj.weight", False),
        ("model.layers.1.mlp.up_proj.weight", False),
        ("model.layers.2.eh_proj.weight", True),
        ("model.layers.12.eh_proj.weight", True),
        ("mtp.layers.0.enorm.weight", True),
        ("model.mtp_layers.0.enorm.weight", True),
        ("lm_head.weight", False),
        ("model.embed_tokens.weight", False),
    ],
)
def test_mtp_tensors_are_recognised_by_their_names(tiny_target: Path, name: str, mtp: bool) -> None:
    assert open_checkpoint(tiny_target).is_mtp_tensor(name) is mtp


def test_tensors_are_located_in_their_file(tiny_target: Path) -> None:
    tensors = open_checkpoint(tiny_target).tensors
    for name, array in weights_of(tiny_target).items():
        assert tensors[name].shape == array.shape
        assert b"".join(tensors[name].blocks(size=1000)) == array.tobytes()


@pytest.mark.parametrize(
    ("change", "same"),
    [
        (lambda folder: nudge(folder, "model.layers.0."), (False, True, True)),
        (lambda folder: nudge(folder, "model.embed_tokens."), (False, True, True)),
        (lambda folder: nudge(folder, FIRST_MTP), (True, False, True)),
        (lambda folder: drop(folder, "model.layers.3."), (True, False, True)),
        (lambda folder: configure(folder, num_mtp_layers=1), (True, False, True)),
        (lambda folder: configure(folder, rope_theta=123.0), (False, True, True)),
        (lambda folder: (folder / "tokenizer.json").write_text("{}"), (True, True, False)),
        (shard, (True, True, True)),
        (rename_metadata, (True, True, True)),
        (
            lambda folder: configure(
                folder, transformers_version="9.9", _name_or_path="/somewhere"
            ),
            (True, True, True),
        ),
        (lambda folder: (folder / "README.md").write_text("new"), (True, True, True)),
    ],
    ids=[
        "layer",
        "embedding",
        "mtp-layer",
        "mtp-layer-gone",
        "mtp-count",
        "config",
        "tokenizer",
        "shards",
        "metadata",
        "names",
        "other",
    ],
)
def test_each_fingerprint_changes_with_its_own_part(
    copy: Path, change: Callable[[Path], object], same: tuple[bool, bool, bool]
) -> None:
    before = prints(copy)
    change(copy)
    assert tuple(old == new for old, new in zip(before, prints(copy), strict=True)) == same


def test_different_models_have_different_fingerprints(tiny_target: Path, tiny_draft: Path) -> None:
    ours, theirs = prints(tiny_target), prints(tiny_draft)
    assert ours[0] != theirs[0]
    assert ours[1] != theirs[1]
    assert ours[2] == theirs[2]


def without_weights(folder: Path, *names: str) -> None:
    (folder / "model.safetensors").unlink()
    for name in names:
        (folder / name).write_bytes(b"weights")


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (shutil.rmtree, "no checkpoint folder at .*; check the path"),
        (
            lambda folder: (folder / "config.json").unlink(),
            r"has no config\.json; name a transformers checkpoint folder",
        ),
        (
            lambda folder: (folder / "config.json").write_text("{"),
            r"config\.json:1 is not JSON .*; save the checkpoint again",
        ),
        (
            lambda folder: (folder / "config.json").write_text("[]"),
            r"config\.json is not a JSON object; save the checkpoint",
        ),
        (
            lambda folder: without_weights(folder),
            r"holds no \*\.safetensors weights; save the model into it",
        ),
        (
            lambda folder: without_weights(folder, "pytorch_model.bin"),
            "holds pickled weights only, .*; convert them",
        ),
        (
            lambda folder: without_weights(folder, "consolidated.pth"),
            "holds pickled weights only, .*; convert them",
        ),
    ],
    ids=["no-folder", "no-config", "broken-config", "config-array", "no-weights", "bin", "pth"],
)
def test_a_folder_that_is_no_checkpoint_is_refused_on_opening(
    copy: Path, spoil: Callable[[Path], object], complaint: str
) -> None:
    spoil(copy)
    with pytest.raises(RequestError, match=complaint):
        open_checkpoint(copy)


@pytest.mark.parametrize("length", [0, 7, 8, 100])
def test_a_file_cut_within_its_header_is_refused(copy: Path, length: int) -> None:
    path = copy / "model.safetensors"
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(
        RequestError, match=r"model\.safetensors is not a readable safetensors file .*; save or"
    ):
        _ = Checkpoint(copy).tensors


@pytest.mark.parametrize("header", [b"[]", b"{'a': 1}", b'{"a": {"dtype": "F32"}}', b'{"a": 5}'])
def test_a_header_of_another_shape_is_refused(copy: Path, header: bytes) -> None:
    (copy / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(RequestError, match="is not a readable safetensors file"):
        _ = Checkpoint(copy).tensors


@pytest.mark.parametrize("depth", [0, 1, 2])
def test_a_sound_pair_is_accepted(tiny_target: Path, tiny_draft: Path, depth: int) -> None:
    check_pair(open_checkpoint(tiny_target), open_checkpoint(tiny_draft), depth)


def test_own_heads_are_accepted_for_any_k(tiny_target: Path) -> None:
    check_pair(open_checkpoint(tiny_target), None, 2)


@pytest.mark.parametrize("own_heads", [False, True])
def test_a_depth_above_the_mtp_layers_is_refused(
    tiny_target: Path, copy: Path, own_heads: bool
) -> None:
    with pytest.raises(
        RequestError,
        match=r"depth 3 needs 3 MTP layers and .* has 2; use --specdec-depth=2 or less",
    ):
        check_pair(open_checkpoint(tiny_target), None if own_heads else Checkpoint(copy), 3)


def test_own_heads_need_at_least_one_layer(tiny_target: Path) -> None:
    with pytest.raises(
        RequestError, match=r"depth 0: the target's own heads .*; use --specdec-depth=1"
    ):
        check_pair(open_checkpoint(tiny_target), None, 0)


def test_another_vocabulary_is_refused(tiny_target: Path, copy: Path) -> None:
    configure(copy, vocab_size=64)
    with pytest.raises(
        RequestError,
        match=r"has a vocabulary of 64 tokens and the target .* of 32; choose a drafter",
    ):
        check_pair(open_checkpoint(tiny_target), Checkpoint(copy), 0)


def renumber(folder: Path) -> None:
    """Swap the ids of two tokens."""
    path = folder / "tokenizer.json"
    data = json.loads(path.read_text())
    words = data["model"]["vocab"]
    words["a"], words["b"] = words["b"], words["a"]
    path.write_text(json.dumps(data))


def test_another_numbering_of_the_tokens_is_refused(tiny_target: Path, copy: Path) -> None:
    renumber(copy)
    with pytest.raises(
        RequestError, match=r"numbers its tokens differently from the target .*; choose a drafter"
    ):
        check_pair(open_checkpoint(tiny_target), Checkpoint(copy), 0)


def test_the_same_tokens_in_another_file_form_are_accepted(tiny_target: Path, copy: Path) -> None:
    path = copy / "tokenizer.json"
    path.write_text(json.dumps(json.loads(path.read_text()), indent=8))
    assert (
        Checkpoint(copy).tokenizer_fingerprint != open_checkpoint(tiny_target).tokenizer_fingerprint
    )
    check_pair(open_checkpoint(tiny_target), Checkpoint(copy), 1)


@pytest.mark.parametrize("own_heads", [False, True])
def test_announced_mtp_layers_without_tensors_are_refused(
    tiny_target: Path, copy: Path, own_heads: bool
) -> None:
    drop(copy, "model.layers.2.")
    drop(copy, "model.layers.3.")
    target, drafter = (
        (Checkpoint(copy), None) if own_heads else (open_checkpoint(tiny_target), Checkpoint(copy))
    )
    with pytest.raises(
        RequestError,
        match="announces 2 MTP layers and its safetensors hold none; save the checkpoint",
    ):
        check_pair(target, drafter, 1)


def test_a_plain_draft_model_needs_no_mtp_tensors(tiny_target: Path, copy: Path) -> None:
    drop(copy, "model.layers.2.")
    drop(copy, "model.layers.3.")
    check_pair(open_checkpoint(tiny_target), Checkpoint(copy), 0)


def test_weights_cut_in_the_body_are_refused(tiny_target: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(tiny_target, tmp_path / "cut"))
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    with pytest.raises(RequestError, match="is not a readable safetensors file"):
        open_checkpoint(copy)


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: None,
        shard,
        rename_metadata,
        lambda folder: configure(folder, transformers_version="9.9", _name_or_path="/somewhere"),
        lambda folder: nudge(folder, FIRST_MTP),
        lambda folder: configure(folder, num_mtp_layers=1),
    ],
    ids=["copy", "shards", "metadata", "names", "retrained-heads", "mtp-count"],
)
def test_the_target_is_no_drafter_of_its_own_whatever_its_path(
    tiny_target: Path, copy: Path, change: Callable[[Path], object]
) -> None:
    change(copy)
    with pytest.raises(
        RequestError,
        match=r"the drafter .*copy is the target itself, .*; name a smaller draft model, mtp for",
    ):
        check_not_itself(open_checkpoint(tiny_target), Checkpoint(copy))
    assert Checkpoint(copy).model_fingerprint == open_checkpoint(tiny_target).model_fingerprint


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: nudge(folder, "model.embed_tokens."),
        lambda folder: nudge(folder, "model.norm."),
        lambda folder: configure(folder, rms_norm_eps=0.5),
        lambda folder: drop(folder, "model.norm."),
    ],
    ids=["first", "last", "config", "tensors"],
)
def test_another_model_of_the_same_shapes_is_one(
    tiny_target: Path, copy: Path, change: Callable[[Path], object]
) -> None:
    change(copy)
    check_not_itself(open_checkpoint(tiny_target), Checkpoint(copy))
    assert Checkpoint(copy).model_fingerprint != open_checkpoint(tiny_target).model_fingerprint


def test_a_healthy_pair_is_distinguished_without_reading_its_weights(
    tiny_target: Path, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nudge(copy, "model.embed_tokens.")
    read: list[str] = []
    blocks = Tensor.blocks
    monkeypatch.setattr(
        Tensor,
        "blocks",
        lambda tensor, size=1 << 24: read.append(tensor.path.name) or blocks(tensor, size),
    )
    check_not_itself(open_checkpoint(tiny_target), Checkpoint(copy))
    assert len(read) == 2, "one tensor of each"
    configure(copy, rms_norm_eps=0.5)
    check_not_itself(open_checkpoint(tiny_target), Checkpoint(copy))
    assert len(read) == 2, "configurations that differ are enough"


def header_of(folder: Path) -> tuple[dict[str, Any], bytes]:
    raw = (folder / "model.safetensors").read_bytes()
    end = 8 + int.from_bytes(raw[:8], "little")
    return json.loads(raw[8:end]), raw[end:]


def moved(info: dict[str, Any], by: int) -> list[int]:
    return [offset + by for offset in info["data_offsets"]]


def swap(header: dict[str, Any], names: list[str]) -> None:
    first, second = header[names[0]], header[names[1]]
    first["data_offsets"], second["data_offsets"] = second["data_offsets"], first["data_offsets"]


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (
            lambda header, names: header[names[0]].update(data_offsets=[-8, 8]),
            "has no usable shape and offsets",
        ),
        (
            lambda header, names: header[names[0]].update(data_offsets=[8, 0]),
            "do not fit its type and shape",
        ),
        (
            lambda header, names: header[names[0]].update(data_offsets=moved(header[names[0]], 8)),
            "overlap or leave gaps",
        ),
        (lambda header, names: header[names[0]].update(shape=[3]), "do not fit its type and shape"),
        (
            lambda header, names: header[names[0]].update(shape=[2**62, 2**62]),
            "do not fit its type and shape",
        ),
        (
            lambda header, names: header[names[0]].update(shape=[1.0]),
            "has no usable shape and offsets",
        ),
        (lambda header, names: header[names[0]].update(dtype="F128"), "is of an unknown type"),
        (lambda header, names: header.update(__metadata__={"a": 1}), "its metadata are not texts"),
        (lambda header, names: header.pop(names[0]), "overlap or leave gaps|do not fill"),
        (swap, "do not fit its type and shape|overlap"),
    ],
)
def test_offsets_that_cannot_be_are_refused(
    copy: Path, spoil: Callable[..., object], problem: str
) -> None:
    header, body = header_of(copy)
    names = sorted(
        (name for name in header if name != "__metadata__"),
        key=lambda name: header[name]["data_offsets"],
    )
    wide = [name for name in names if header[name]["shape"] != header[names[0]]["shape"]]
    spoil(header, [names[0], wide[0]])
    raw = json.dumps(header).encode()
    (copy / "model.safetensors").write_bytes(len(raw).to_bytes(8, "little") + raw + body)
    with pytest.raises(RequestError, match=rf"is not a readable safetensors file \(.*({problem})"):
        open_checkpoint(copy)
