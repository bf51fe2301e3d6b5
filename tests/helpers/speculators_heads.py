"""EAGLE-3 heads made, saved and computed by the package speculators.

It runs in an environment of its own, with speculators and without this project:

    python speculators_heads.py TARGET GIVEN HEADS
    python speculators_heads.py pack HEAD TARGET PACKED

TARGET is the folder of the heads' target, GIVEN a safetensors file with `ids` (texts, length) and
the target's states `states` (layers + 1, texts, length, width), numbered as transformers'
`hidden_states`. Below HEADS it writes a folder for each of `CONFIGURATIONS` by `save_pretrained`,
and beside it NAME.safetensors with `probabilities` (texts, STEPS, length - 1, vocabulary): row t of
step i is the distribution of the token at t + 2 + i, given the text before it.

The second form packs a trained head as SafeAILab packs it, HEAD, for its TARGET anew in PACKED.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

STEPS = 6
_DRAFTED = 20
_SPREAD = 0.15
"""Deviation of the weights: at 0.3 a draft step that starts from a normalised state makes rounding
three times as large, and after six of them float32 and float64 are 2e-4 of a probability apart, in
speculators as here.
"""
_LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "norm_before_residual": {"norm_before_residual": True},
    "norm_before_fc": {"norm_before_fc": True, "norm_before_residual": True},
    "norm_output": {"norm_output": True},
    "eagle-3.1": {"fc_norm": True, "norm_output": True},
    "two-layers": {"layer": {"num_hidden_layers": 2}},
    "three-layers-3.1": {"layer": {"num_hidden_layers": 3}, "fc_norm": True, "norm_output": True},
    "draft-vocabulary": {"draft_vocab_size": _DRAFTED},
    "draft-vocabulary-3.1": {
        "draft_vocab_size": _DRAFTED,
        "norm_before_residual": True,
        "fc_norm": True,
        "norm_output": True,
    },
    "four-states": {"eagle_aux_hidden_state_layer_ids": [1, 3, 6, 7]},
    "qwen3": {"layer": {"model_type": "qwen3"}},
    "biases": {"layer": {"attention_bias": True}},
    "another-base": {"layer": {"rope_parameters": {"rope_type": "default", "rope_theta": 300.0}}},
    "llama3-rope": {"layer": {"rope_parameters": _LLAMA3}},
}


def pack(head: Path, target: Path, packed: Path) -> None:
    from safetensors.torch import load_file

    given = json.loads((head / "config.json").read_text())
    shape = json.loads((target / "config.json").read_text())
    sizes = ("intermediate_size", "num_attention_heads", "num_key_value_heads", "head_dim")
    layer = {name: given[name] for name in (*sizes, "rms_norm_eps", "max_position_embeddings")}
    layer["rope_parameters"] = {"rope_type": "default", "rope_theta": given["rope_theta"]}
    fields = {"draft_vocab_size": given["draft_vocab_size"], "layer": layer}
    fields["eagle_aux_hidden_state_layer_ids"] = given["eagle_aux_hidden_state_layer_ids"]
    model = _model(shape, fields)
    held = {
        name.replace("midlayer.", "layers.0."): tensor
        for name, tensor in load_file(head / "model.safetensors").items()
    }
    held["embed_tokens.weight"] = load_file(target / "model.safetensors")[
        "model.embed_tokens.weight"
    ]
    missing, unexpected = model.load_state_dict(held, strict=False)
    if unexpected or any(not name.startswith("verifier_") for name in missing):
        raise SystemExit(f"missing {missing}, unexpected {unexpected}; look into speculators")
    model.save_pretrained(packed)


def main(target: Path, given: Path, heads: Path) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    texts = load_file(given)
    shape = json.loads((target / "config.json").read_text())
    for number, (name, fields) in enumerate(CONFIGURATIONS.items()):
        generator = torch.Generator().manual_seed(number)
        model = _random(_model(shape, fields), generator)
        model.save_pretrained(heads / name)
        probabilities = torch.stack(
            [
                _probabilities(model, ids, states)
                for ids, states in zip(texts["ids"], texts["states"].transpose(0, 1), strict=True)
            ]
        )
        save_file({"probabilities": probabilities.contiguous()}, heads / f"{name}.safetensors")


def _model(shape: dict[str, Any], fields: dict[str, Any]) -> Any:
    from speculators.config import SpeculatorsConfig, VerifierConfig
    from speculators.models.eagle3 import Eagle3DraftModel, Eagle3SpeculatorConfig
    from speculators.proposals.greedy import GreedyTokenProposalConfig

    options = {"draft_vocab_size": shape["vocab_size"], **fields}
    layer = _layer(shape, options.pop("layer", {}))
    config = Eagle3SpeculatorConfig(
        **{"eagle_aux_hidden_state_layer_ids": [2, 4, 5], **options},
        transformer_layer_config=layer,
        speculators_config=SpeculatorsConfig(
            algorithm="eagle3",
            proposal_methods=[GreedyTokenProposalConfig(speculative_tokens=STEPS)],
            default_proposal_method="greedy",
            verifier=VerifierConfig(name_or_path=None, architectures=shape["architectures"]),
        ),
    )
    return Eagle3DraftModel(config).eval()


def _random(model: Any, generator: Any) -> Any:
    """The model with random weights and, where it drafts a part of the tokens, random ones."""
    import torch

    with torch.no_grad():
        for name, parameter in model.named_parameters():
            spread = torch.randn(parameter.shape, generator=generator) * _SPREAD
            parameter.copy_(spread + ("norm" in name))
    drafted, vocabulary = model.draft_vocab_size, model.verifier_vocab_size
    if drafted < vocabulary:
        chosen = torch.randperm(vocabulary, generator=generator)[:drafted].sort().values
        model.load_vocab_mappings(
            torch.zeros(vocabulary, dtype=torch.bool).index_fill_(0, chosen, True),
            chosen - torch.arange(drafted),
        )
    return model


def _layer(shape: dict[str, Any], fields: dict[str, Any]) -> Any:
    from transformers import LlamaConfig, Qwen3Config

    kinds = {"llama": LlamaConfig, "qwen3": Qwen3Config}
    sizes = {
        "hidden_size": shape["hidden_size"],
        "intermediate_size": 2 * shape["hidden_size"],
        "num_hidden_layers": 1,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": shape["hidden_size"] // 4,
        "rms_norm_eps": 1e-5,
        "vocab_size": shape["vocab_size"],
        "max_position_embeddings": 128,
    } | fields
    config = kinds[sizes.pop("model_type", "llama")](**sizes)
    config._attn_implementation = "eager"  # flex attention needs a compiler
    return config


def _probabilities(model: Any, ids: Any, states: Any) -> Any:
    """(STEPS, length - 1, vocabulary): of one text, `ids` (length,), with the target's `states`
    (layers + 1, length, width).
    """
    import torch

    read = torch.cat([states[number] for number in model.target_layer_ids], -1)[None, :-1]
    logits: list[Any] = []
    hook = model.lm_head.register_forward_hook(
        lambda module, inputs, output: logits.append(output[0])
    )
    try:
        with torch.no_grad():
            drafts = model(
                hidden_states=read,
                input_ids=ids[None, 1:],
                document_ids=torch.zeros_like(ids[None, 1:]),
                ttt_steps=STEPS,
            )
    finally:
        hook.remove()
    if any(not one.argmax(-1).equal(draft[0]) for one, draft in zip(logits, drafts, strict=True)):
        raise SystemExit("the logits of lm_head are not those of the drafts; look into speculators")
    probabilities = torch.stack(logits).softmax(-1)
    if model.d2t is None:
        return probabilities
    whole = probabilities.new_zeros(*probabilities.shape[:-1], model.t2d.shape[0])
    return whole.index_copy_(-1, torch.arange(len(model.d2t)) + model.d2t, probabilities)


if __name__ == "__main__":
    os.environ["TORCHDYNAMO_DISABLE"] = "1"
    if sys.argv[1] == "pack":
        pack(*map(Path, sys.argv[2:]))
    else:
        main(*map(Path, sys.argv[1:]))
