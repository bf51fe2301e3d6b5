"""A head is checked against its own files and against its target before any model is loaded."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.eagle3 import DRAFTED, PACKAGINGS, edit_tensors, write_head
from helpers.support import ROOT, edit_config, llama
from safetensors.torch import load_file

from pytest_specdec.checkpoints.checkpoint import Checkpoint, open_checkpoint
from pytest_specdec.checkpoints.eagle3_checks import Eagle3Files, checked_head, read_head
from pytest_specdec.common.errors import RequestError

LAYERS = 8


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    folder = tmp_path_factory.mktemp("target") / "llama"
    return open_checkpoint(llama(folder, seed=3, layers=LAYERS, mtp_layers=0))


def head_of(target: Checkpoint, tmp_path: Path, **options: Any) -> Path:
    return write_head(tmp_path / "head", target.folder, **options)


def refusal(target: Checkpoint, head: Path) -> str:
    with pytest.raises(RequestError) as refused:
        checked_head(target, head)
    message = str(refused.value)
    assert "; " in message  # cause; cure
    assert str(head) in message
    return message


@pytest.mark.parametrize("packaging", PACKAGINGS)
def test_each_packaging_is_read(target: Checkpoint, tmp_path: Path, packaging: str) -> None:
    head = head_of(target, tmp_path, packaging=packaging, ids=(1, 4, LAYERS))
    files = checked_head(target, head)
    assert files.aux_layers == (1, 4, LAYERS)
    assert files.config.packaging == packaging
    assert (files.dtype, files.own_embeddings) == ("F32", False)
    named = load_file(head / "model.safetensors")["t2d"].nonzero()[:, 0].tolist()
    assert files.target_ids.tolist() == named
    assert len(named) == DRAFTED


def test_a_head_that_drafts_all_tokens_needs_no_maps(target: Checkpoint, tmp_path: Path) -> None:
    head = head_of(target, tmp_path, drafted=32, own_embeddings=True)
    files = checked_head(target, head)
    assert np.array_equal(files.target_ids, np.arange(32))
    assert files.own_embeddings


def test_what_is_saved_for_training_alone_is_passed_over(
    target: Checkpoint, tmp_path: Path
) -> None:
    head = head_of(target, tmp_path)
    edit_tensors(head, verifier_norm__weight=torch.ones(3), verifier_lm_head__weight=torch.ones(3))
    assert isinstance(checked_head(target, head), Eagle3Files)


def test_a_pickle_is_refused_with_the_command_that_converts_it(
    target: Checkpoint, tmp_path: Path
) -> None:
    head = head_of(target, tmp_path)
    weights = load_file(head / "model.safetensors")
    (head / "model.safetensors").unlink()
    torch.save(weights, head / "pytorch_model.bin")
    message = refusal(target, head)
    assert "holds a pickle (pytorch_model.bin), which is never opened" in message
    words = shlex.split(message.split("where you trust it: ")[1])
    subprocess.run([sys.executable, *words[1:]], cwd=head, check=True, timeout=120)
    assert checked_head(target, head).aux_layers == (2, LAYERS // 2, LAYERS - 3)


TENSORS: list[tuple[dict[str, torch.Tensor | None], str]] = [
    ({"fc__weight": None}, "has no matrix fc.weight; save the whole head"),
    (
        {"fc__weight": torch.zeros(32, 64)},
        "fc.weight of HEAD joins 2 states of the target and config.json names 3; name as many",
    ),
    (
        {"fc__weight": torch.zeros(32, 100)},
        "reads 100 numbers, and 3 states of the target TARGET are 3 x 32; name the target",
    ),
    ({"norm__weight": None}, "lacks the tensor norm.weight, which config.json implies"),
    ({"midlayer__hidden_norm__weight": None}, "lacks the tensor midlayer.hidden_norm.weight"),
    ({"lm_head__weight": None}, "lacks the tensor lm_head.weight"),
    (
        {"midlayer__self_attn__q_proj__weight": torch.zeros(32, 32)},
        "has the shape [32, 32] and config.json implies [32, 64]",
    ),
    (
        {"midlayer__mlp__up_proj__weight": torch.zeros(64, 32, dtype=torch.float8_e4m3fn)},
        "is stored as F8_E4M3, and quantised heads are not supported; use a copy in bfloat16",
    ),
    ({"midlayer__mlp__extra": torch.zeros(2)}, "holds the tensor 'midlayer.mlp.extra', which no"),
    (
        {"midlayer__self_attn__q_norm__weight": torch.ones(8)},
        "lacks the tensor midlayer.self_attn.k_norm.weight",
    ),
    (
        {"input_norm__weight": torch.ones(96)},
        "holds input_norm.weight and config.json does not say norm_before_fc: true; add it",
    ),
    (
        {"fc_norm__1__weight": torch.ones(32)},
        "holds fc_norm.1.weight and config.json does not say fc_norm: true; add it",
    ),
    ({"d2t": None}, "drafts 20 of the target's 32 tokens and has no d2t, which says which; save"),
    ({"d2t": torch.zeros(19, dtype=torch.long)}, "d2t of HEAD is I64 [19], and 20 draft tokens"),
    ({"d2t": torch.zeros(20)}, "d2t of HEAD is F32 [20], and 20 draft tokens need int64 [20]"),
    (
        {"d2t": torch.full((20,), 13)},
        "d2t of HEAD leads to the token 32, and the target has 32; d2t holds offsets",
    ),
    ({"d2t": torch.full((20,), -1)}, "d2t of HEAD leads to the token -1, and the target has 32"),
    (
        {"d2t": -torch.arange(20)},
        "leads two draft tokens to one token of the target; d2t holds offsets",
    ),
    (
        {"d2t": torch.zeros(20, dtype=torch.long)},
        "t2d and d2t of HEAD name different tokens of the target; save both again",
    ),
    ({"t2d": torch.ones(32, dtype=torch.bool)}, "t2d and d2t of HEAD name different tokens"),
    ({"t2d": torch.ones(31, dtype=torch.bool)}, "t2d and d2t of HEAD name different tokens"),
]


@pytest.mark.parametrize(
    ("tensors", "message"), TENSORS, ids=[f"{next(iter(given))}: {text}" for given, text in TENSORS]
)
def test_tensors_that_do_not_fit_are_refused(
    target: Checkpoint, tmp_path: Path, tensors: dict[str, torch.Tensor | None], message: str
) -> None:
    head = edit_tensors(head_of(target, tmp_path), **tensors)
    named = message.replace("HEAD", str(head)).replace("TARGET", str(target.folder))
    assert named in refusal(target, head)


CONFIGS: list[tuple[dict[str, Any], str]] = [
    ({"norm_before_fc": True}, "says norm_before_fc: true and HEAD has no input_norm.weight; save"),
    ({"fc_norm": True}, "says fc_norm: true and HEAD has no fc_norm.0.weight; save the whole"),
    ({"norm_before_fc": True, "fc_norm": True}, "says norm_before_fc and fc_norm, and a head has"),
    ({"attention_bias": True}, "lacks the tensor midlayer.self_attn.q_proj.bias"),
    ({"draft_vocab_size": 21}, "lm_head.weight of HEAD has the shape [20, 32] and config.json"),
    ({"vocab_size": 40}, "is for a vocabulary of 40 tokens and the target TARGET has 32; name"),
    (
        {"target_hidden_size": 48},
        "says target_hidden_size: 48 and the target TARGET is 32 wide; name the target",
    ),
    (
        {"eagle_aux_hidden_state_layer_ids": [1, 2]},
        "joins 3 states of the target and config.json names 2; name as many",
    ),
    (
        {"eagle_aux_hidden_state_layer_ids": [1, 2, 9]},
        "names the layers [1, 2, 9] in eagle_aux_hidden_state_layer_ids (hidden_states, 0 to 8)",
    ),
    ({"num_hidden_layers": 10**6}, "says num_hidden_layers: 1000000 and the folder holds 15 tens"),
    ({"num_hidden_layers": 2}, "lacks the tensor layers.1.input_layernorm.weight"),
    (
        {"hidden_size": 24, "head_dim": 8},
        "is 24 wide and has no embed_tokens.weight, and the embeddings of the target TARGET are "
        "32 wide; name the target that the head was trained for, or save the head with its "
        "embeddings",
    ),
]


@pytest.mark.parametrize(("fields", "message"), CONFIGS, ids=[text for _, text in CONFIGS])
def test_configurations_that_do_not_fit_are_refused(
    target: Checkpoint, tmp_path: Path, fields: dict[str, Any], message: str
) -> None:
    head = edit_config(head_of(target, tmp_path), **fields)
    named = message.replace("HEAD", str(head)).replace("TARGET", str(target.folder))
    assert named in refusal(target, head)


def test_a_missing_base_is_refused_where_the_target_has_another_than_eagle(
    target: Checkpoint, tmp_path: Path
) -> None:
    head = head_of(target, tmp_path, rope={})
    assert checked_head(target, head).config.theta is None
    copy = Path(shutil.copytree(target.folder, tmp_path / "copy"))
    config = json.loads((copy / "config.json").read_text())
    edit_config(copy, rope_parameters=config["rope_parameters"] | {"rope_theta": 500000.0})
    message = refusal(open_checkpoint(copy), head)
    assert "has no rope_theta, which loaders take for 10000, and the target's is 500000" in message
    assert "; add the one that the head was trained with" in message


def named_head(target: Checkpoint, tmp_path: Path, **verifier: Any) -> Path:
    head = head_of(target, tmp_path, packaging="speculators")
    fields = {"algorithm": "eagle3", "verifier": verifier}
    return edit_config(head, speculators_config=fields)


def test_a_target_of_another_class_than_the_verifier_is_refused(
    target: Checkpoint, tmp_path: Path
) -> None:
    head = named_head(
        target, tmp_path, name_or_path="owner/base", architectures=["Qwen3ForCausalLM"]
    )
    assert refusal(target, head) == (
        f"the head {head} was trained for owner/base (Qwen3ForCausalLM), and {target.folder} is "
        "LlamaForCausalLM; name that target, or correct speculators_config.verifier in "
        f"{head / 'config.json'} if the head was trained for this one"
    )


def test_another_model_of_the_hub_than_the_verifier_is_refused(
    target: Checkpoint, tmp_path: Path
) -> None:
    head = named_head(target, tmp_path, name_or_path="owner/base")
    snapshots = tmp_path / "models--owner--other" / "snapshots"
    other = Path(shutil.copytree(target.folder, snapshots / "0123abcd"))
    message = refusal(open_checkpoint(other), head)
    assert "was trained for owner/base, and the target is owner/other; name that target" in message
    same = Path(
        shutil.copytree(target.folder, tmp_path / "models--owner--base" / "snapshots" / "0123abcd")
    )
    assert checked_head(open_checkpoint(same), head).config.verifier == "owner/base"
    assert checked_head(target, head)  # a folder of any other name may hold it


def test_a_folder_that_is_not_there_is_refused(target: Checkpoint, tmp_path: Path) -> None:
    assert "no head at" in refusal(target, tmp_path / "none")


def test_a_head_is_checked_without_torch(target: Checkpoint, tmp_path: Path) -> None:
    head = head_of(target, tmp_path)
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from pytest_specdec.checkpoints.checkpoint import open_checkpoint\n"
        "from pytest_specdec.checkpoints.eagle3_checks import checked_head\n"
        f"checked_head(open_checkpoint(Path({str(target.folder)!r})), Path({str(head)!r}))\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, timeout=60)


def test_a_folder_whose_parts_disagree_is_read_with_all_its_faults(
    target: Checkpoint, tmp_path: Path
) -> None:
    head = head_of(target, tmp_path, norm_before_fc=True, ids=(2, 4, 9))
    edit_config(head, norm_before_fc=False)
    edit_tensors(head, d2t=torch.zeros(DRAFTED, dtype=torch.long))
    files, faults = read_head(target, head)
    assert [str(fault).startswith(str(head)) for fault in faults] == [True, True, False]
    assert "names the layers [2, 4, 9]" in str(faults[0])
    assert "holds input_norm.weight and config.json does not say" in str(faults[1])
    assert "name different tokens of the target" in str(faults[2])
    assert files.aux_layers == ()
    assert files.config.layer_ids == (2, 4, 9)
    with pytest.raises(RequestError, match="names the layers"):
        checked_head(target, head)


def test_tensors_that_make_no_head_are_refused_at_any_rate(
    target: Checkpoint, tmp_path: Path
) -> None:
    head = edit_tensors(head_of(target, tmp_path), norm__weight=None)
    with pytest.raises(RequestError, match=r"lacks the tensor norm\.weight"):
        read_head(target, head)


def test_a_tensor_in_two_files_is_refused(target: Checkpoint, tmp_path: Path) -> None:
    """A file left from an earlier export: a loader takes one of the two, and nobody knows which."""
    head = head_of(target, tmp_path)
    shutil.copy(head / "model.safetensors", head / "old.safetensors")
    assert "in model.safetensors and in old.safetensors; remove the file that is" in refusal(
        target, head
    )


def test_weights_that_are_no_file_are_refused_at_once(target: Checkpoint, tmp_path: Path) -> None:
    head = head_of(target, tmp_path)
    os.mkfifo(head / "more.safetensors")
    assert f"{head / 'more.safetensors'} is no file" in refusal(target, head)
