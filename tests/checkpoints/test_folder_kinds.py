"""Folders that do not hold a complete model are recognised by their files alone, and refused with
what can be done.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from pytest_specdec.checkpoints.checkpoint import open_checkpoint
from pytest_specdec.checkpoints.folder_kinds import kind_of
from pytest_specdec.common.errors import RequestError

LAYER = {"transformer_layer_config": {"model_type": "llama", "hidden_size": 8}}
EAGLE3_TENSORS = (
    "fc.weight",
    "midlayer.hidden_norm.weight",
    "norm.weight",
    "lm_head.weight",
    "d2t",
    "t2d",
)

HEADS: dict[str, tuple[dict[str, Any], tuple[str, ...], str]] = {
    "SafeAILab's EAGLE-3": (
        {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "draft_vocab_size": 32000,
            "vocab_size": 128256,
        },
        EAGLE3_TENSORS,
        r"holds an EAGLE-3 head \(packed by SafeAILab\)",
    ),
    "SpecForge's EAGLE-3": (
        {"architectures": ["LlamaForCausalLMEagle3"], "draft_vocab_size": 16000, "fc_norm": True},
        EAGLE3_TENSORS,
        r"holds an EAGLE-3 head \(packed by SpecForge or AngelSlim\)",
    ),
    "speculators' EAGLE-3": (
        {
            "architectures": ["Eagle3Speculator"],
            "speculators_model_type": "eagle3",
            "draft_vocab_size": 32000,
            **LAYER,
        },
        EAGLE3_TENSORS,
        r"holds an EAGLE-3 head \(packed by speculators\)",
    ),
    "by the algorithm": (
        {"architectures": ["X"], "speculators_config": {"algorithm": "dflash"}, **LAYER},
        ("fc.weight",),
        r"holds a DFlash drafter \(packed by speculators\)",
    ),
    "an unknown speculator": (
        {"speculators_model_type": "mtp", **LAYER},
        ("fc.weight",),
        r"holds a drafter of the kind 'mtp' \(packed by speculators\)",
    ),
    "EAGLE-3 that says nothing": (
        {"model_type": "llama"},
        EAGLE3_TENSORS,
        r"holds an EAGLE-3 head \(recognised by its tensors\)",
    ),
    "EAGLE that says nothing": (
        {"model_type": "llama"},
        ("fc.weight", "layers.0.self_attn.q_proj.weight"),
        r"holds an EAGLE head \(recognised by its tensors\)",
    ),
    "P-EAGLE": ({"architectures": ["PEagleDraftModel"]}, ("fc.weight",), "holds a P-EAGLE head"),
    "DFlash": (
        {"architectures": ["DFlashDraftModel"], "dflash_config": {}},
        ("fc.weight",),
        "holds a DFlash drafter",
    ),
    "DSpark": (
        {"architectures": ["Qwen3DSparkModel"], "markov_rank": 4},
        ("fc.weight",),
        "holds a DSpark drafter",
    ),
    "Domino": (
        {"architectures": ["DominoDraftModel"], "dflash_config": {}},
        ("fc.weight",),
        "holds a Domino drafter",
    ),
    "Domino by its projector": (
        {"architectures": ["DFlashDraftModel"], "dflash_config": {"projector_type": "domino"}},
        ("fc.weight",),
        "holds a Domino drafter",
    ),
    "Medusa": (
        {"medusa_num_heads": 4, "model_type": "medusa"},
        ("0.0.linear.weight",),
        "holds Medusa heads",
    ),
    "Medusa that says nothing": (
        {"model_type": "llama"},
        ("0.0.linear.weight", "0.1.weight"),
        r"holds Medusa heads \(recognised by its tensors\)",
    ),
    "Hydra": (
        {"hydra_num_heads": 4, "hydra_head_arch": "mlp"},
        ("hydra_mlp.0.0.linear.weight",),
        "holds Hydra heads",
    ),
    "Hydra that says nothing": (
        {"model_type": "llama"},
        ("hydra_mlp.0.0.linear.weight", "hydra_lm_head.0.weight"),
        r"holds Hydra heads \(recognised by its tensors\)",
    ),
    "an assistant of another model": (
        {"architectures": ["MuseAssistantForCausalLM"]},
        ("x",),
        "holds an assistant that reads",
    ),
    "Gemma 4's assistant": (
        {"architectures": ["Gemma4AssistantForCausalLM"]},
        ("x",),
        "holds a Gemma 4 assistant.*it is not replayed: .*measure a server that drafts with it",
    ),
    "Gemma 4's assistant by its type": (
        {"model_type": "gemma4_unified_assistant"},
        ("x",),
        "holds a Gemma 4 assistant.*it is not replayed: .*measure a server that drafts with it",
    ),
}


SUPPORTED = ("EAGLE-3", "Medusa", "Hydra", "P-EAGLE", "DFlash", "DSpark", "Domino")


def folder_of(folder: Path, config: dict[str, Any], tensors: tuple[str, ...]) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    save_file(
        {name: np.zeros(4, dtype="float32") for name in tensors}, folder / "model.safetensors"
    )
    return folder


@pytest.mark.parametrize(("config", "tensors", "message"), HEADS.values(), ids=HEADS)
def test_heads_are_named_and_refused(
    tmp_path: Path, config: dict[str, Any], tensors: tuple[str, ...], message: str
) -> None:
    if any(kind in message for kind in SUPPORTED):
        cure = " and not a complete model; name it as the drafter: --specdec-draft="
    else:
        cure = ".*not supported yet; draft with a draft model, mtp or prompt-lookup, or meas"
    if "Gemma 4" in message:
        cure = " by its own counters"
    with pytest.raises(RequestError, match=message + cure):
        open_checkpoint(folder_of(tmp_path / "head", config, tensors))


def test_an_eagle_head_is_named_though_its_weights_are_pickled(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "head", HEADS["SafeAILab's EAGLE-3"][0], ("fc.weight",))
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(RequestError, match="holds an EAGLE-3 head"):
        open_checkpoint(folder)


def test_an_adapter_is_refused_alone_and_beside_a_model(tiny_target: Path, tmp_path: Path) -> None:
    alone = tmp_path / "alone"
    alone.mkdir()
    (alone / "adapter_config.json").write_text('{"base_model_name_or_path": "someone/base"}')
    beside = Path(shutil.copytree(tiny_target, tmp_path / "beside"))
    shutil.copy(alone / "adapter_config.json", beside)
    tensors = folder_of(
        tmp_path / "tensors", {"model_type": "llama"}, ("model.layers.0.q_proj.lora_A.weight",)
    )
    for folder in (alone, beside, tensors):
        with pytest.raises(
            RequestError,
            match=r"holds an adapter \(LoRA or the like\) .*; merge it into its base model",
        ):
            open_checkpoint(folder)


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("model-q4.gguf", "holds GGUF weights only; name the transformers checkpoint"),
        ("pytorch_model.bin", "holds pickled weights only, which are never loaded; convert"),
    ],
)
def test_other_formats_are_named(
    tiny_target: Path, tmp_path: Path, file: str, message: str
) -> None:
    folder = Path(shutil.copytree(tiny_target, tmp_path / "other"))
    (folder / "model.safetensors").rename(folder / file)
    with pytest.raises(RequestError, match=message):
        open_checkpoint(folder)


@pytest.mark.parametrize(
    "config",
    [
        {"architectures": ["LlamaForCausalLM"], "pard_token": 128002},
        {"architectures": ["Eagle2_5_VLForConditionalGeneration"], "model_type": "eagle_2_5_vl"},
        {"architectures": ["DeepseekV3ForCausalLM"], "num_nextn_predict_layers": 1},
        {"architectures": None, "model_type": "gpt2"},
        {"architectures": [3, None], "draft_vocab_size": None},
        {},
    ],
)
def test_models_are_no_heads(config: dict[str, Any]) -> None:
    names = (
        "model.embed_tokens.weight",
        "model.layers.0.mlp.fc.weight",
        "transformer.h.0.mlp.c_fc.weight",
        "lm_head.weight",
    )
    assert (
        kind_of(
            config,
            ("config.json", "model.safetensors", "pytorch_model.bin", "model.gguf"),
            lambda: names,
        )
        is None
    )
