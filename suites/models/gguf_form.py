"""A Llama checkpoint as a GGUF file of float32 weights, its MTP layers left out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pytest_specdec.checkpoints.checkpoint import Checkpoint

NUL = "\u0100"
"""The byte 0 in a byte-level vocabulary."""
WHOLE = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}
LAYER = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def write_gguf(checkpoint: Checkpoint, folder: Path, python: str = "") -> None:
    """Write `model.gguf` into `folder`. Exits for another architecture."""
    import gguf

    config = checkpoint.config
    if config.get("model_type") != "llama":
        raise SystemExit(
            f"{checkpoint.folder} is not a Llama; convert it with llama.cpp's convert_hf_to_gguf.py"
        )
    folder.mkdir(parents=True, exist_ok=True)
    writer = gguf.GGUFWriter(folder / "model.gguf", "llama")
    _hyperparameters(writer, config)
    _tokenizer(writer, gguf, checkpoint)
    for path in checkpoint.weight_files:
        for name, weights in read_weights(path).items():
            if not checkpoint.is_mtp_tensor(name):
                writer.add_tensor(*_tensor(name, weights, config))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def read_weights(path: Path) -> dict[str, np.ndarray]:
    """The tensors of a safetensors file as float32; numpy alone has no bfloat16."""
    from safetensors.torch import load_file

    return {name: weights.float().numpy() for name, weights in load_file(path).items()}


def _hyperparameters(writer: Any, config: Mapping[str, Any]) -> None:
    head = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_key_length(head)
    writer.add_value_length(head)
    writer.add_rope_dimension_count(head)
    writer.add_rope_freq_base((config.get("rope_parameters") or config).get("rope_theta", 10000.0))
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])


def _tokenizer(writer: Any, gguf: Any, checkpoint: Checkpoint) -> None:
    """Byte-level BPE with GPT-2's splitting, as the embedded pair's."""
    tokenizer = json.loads((checkpoint.folder / "tokenizer.json").read_text(encoding="utf-8"))
    tokens = [
        token for token, _ in sorted(tokenizer["model"]["vocab"].items(), key=lambda item: item[1])
    ]
    special = {own["content"] for own in tokenizer["added_tokens"] if own["special"]}
    tokens += [
        f"<unused{number}>" for number in range(len(tokens), checkpoint.config["vocab_size"])
    ]
    end = _end(checkpoint, tokens)
    kinds = [
        gguf.TokenType.CONTROL if token in special else gguf.TokenType.NORMAL for token in tokens
    ]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    # llama.cpp takes some tokens for an end by their names, whatever the EOS token is.
    writer.add_token_list(
        [f"<plain>{own}" if own in special and at != end else own for at, own in enumerate(tokens)]
    )
    writer.add_token_types(kinds)
    writer.add_token_merges(
        [
            merge if isinstance(merge, str) else " ".join(merge)
            for merge in tokenizer["model"]["merges"]
        ]
    )
    writer.add_bos_token_id(checkpoint.config["bos_token_id"])
    writer.add_eos_token_id(end)
    writer.add_add_bos_token("<s>" in tokens[:1])


def _end(checkpoint: Checkpoint, tokens: list[str]) -> int:
    """The EOS token by the checkpoint's generation defaults; where it has none, one in no text,
    since llama.cpp wants one.
    """
    defaults = json.loads(
        (checkpoint.folder / "generation_config.json").read_text(encoding="utf-8")
    )
    end = defaults.get("eos_token_id")
    if end is None:
        return tokens.index(NUL)
    return int(end[0]) if isinstance(end, list) else int(end)


def _tensor(name: str, weights: np.ndarray, config: Mapping[str, Any]) -> tuple[str, np.ndarray]:
    """Name and values as llama.cpp lays them out."""
    if name in WHOLE:
        return WHOLE[name], weights
    _, _, layer, *rest = name.split(".")
    module = ".".join(rest[:-1])
    if module == "self_attn.q_proj":
        weights = _interleaved(weights, config["num_attention_heads"])
    if module == "self_attn.k_proj":
        weights = _interleaved(weights, config["num_key_value_heads"])
    return f"blk.{layer}.{LAYER[module]}.weight", np.ascontiguousarray(weights)


def _interleaved(weights: np.ndarray, heads: int) -> np.ndarray:
    """Rotary pairs side by side, where transformers has them half a head apart."""
    rows = weights.shape[0]
    return weights.reshape(heads, 2, rows // heads // 2, -1).swapaxes(1, 2).reshape(weights.shape)
