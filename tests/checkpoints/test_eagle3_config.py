"""The three forms of an EAGLE-3 head's config.json become one description."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pytest_specdec.checkpoints.eagle3_config import Eagle3Config, read_eagle3_config
from pytest_specdec.common.errors import RequestError

PATH = Path("head/config.json")
LAYER: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 160,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-5,
    "vocab_size": 100,
    "rope_theta": 500000,
    "max_position_embeddings": 2048,
}
FLAT = LAYER | {"architectures": ["LlamaForCausalLM"], "draft_vocab_size": 40}
SPECFORGE = FLAT | {
    "architectures": ["LlamaForCausalLMEagle3"],
    "eagle_config": {
        "eagle_aux_hidden_state_layer_ids": [1, 11, 21],
        "use_aux_hidden_state": True,
    },
    "fc_norm": True,
    "norm_output": True,
}
SPECULATORS = {
    "architectures": ["Eagle3Speculator"],
    "speculators_model_type": "eagle3",
    "draft_vocab_size": 40,
    "target_hidden_size": 128,
    "norm_before_residual": True,
    "norm_before_fc": True,
    "eagle_aux_hidden_state_layer_ids": [2, 12, 22],
    "transformer_layer_config": LAYER | {"head_dim": 32, "attention_bias": True},
    "speculators_config": {
        "algorithm": "eagle3",
        "verifier": {"name_or_path": "owner/name", "architectures": ["LlamaForCausalLM"]},
    },
}


def read(config: dict[str, Any]) -> Eagle3Config:
    return read_eagle3_config(PATH, config)


def test_the_flat_form() -> None:
    assert read(FLAT) == Eagle3Config(
        path=PATH,
        packaging="SafeAILab",
        layer_ids=None,
        ids_are_outputs=False,
        layers=1,
        width=64,
        target_width=None,
        heads=4,
        kv_heads=2,
        head_dim=16,
        mlp_width=160,
        eps=1e-5,
        norm_before_residual=False,
        norm_before_fc=False,
        fc_norm=False,
        norm_output=False,
        attention_bias=False,
        theta=500000.0,
        rope={"rope_type": "default"},
        rotated=16,
        interleaved=False,
        context=2048,
        vocabulary=100,
        draft_vocabulary=40,
        verifier=None,
        verifier_classes=(),
    )


def test_specforge_numbers_outputs_of_layers_and_speculators_hidden_states() -> None:
    forge, speculators = read(SPECFORGE), read(SPECULATORS)
    assert (forge.packaging, forge.layer_ids, forge.ids_are_outputs) == (
        "SpecForge",
        (1, 11, 21),
        True,
    )
    assert (speculators.layer_ids, speculators.ids_are_outputs) == ((2, 12, 22), False)
    assert forge.aux_layers(24) == speculators.aux_layers(24) == (2, 12, 22)
    assert (forge.fc_norm, forge.norm_output, forge.norm_before_fc) == (True, True, False)


def test_the_form_of_speculators() -> None:
    config = read(SPECULATORS)
    assert (config.packaging, config.target_width, config.head_dim) == ("speculators", 128, 32)
    assert (config.norm_before_residual, config.norm_before_fc, config.fc_norm) == (
        True,
        True,
        False,
    )
    assert config.attention_bias
    assert (config.verifier, config.verifier_classes) == ("owner/name", ("LlamaForCausalLM",))


@pytest.mark.parametrize("layers", [7, 32, 61, 94])
def test_without_ids_they_are_those_that_every_loader_takes(layers: int) -> None:
    assert read(FLAT).aux_layers(layers) == (2, layers // 2, layers - 3)


@pytest.mark.parametrize("layers", [1, 2, 4, 6])
def test_a_short_target_needs_ids(layers: int) -> None:
    with pytest.raises(RequestError, match=r"names no layers of the target, and the usual ones"):
        read(FLAT).aux_layers(layers)


def with_ids(ids: Any, *, nested: bool) -> dict[str, Any]:
    field = {"eagle_aux_hidden_state_layer_ids": ids}
    return FLAT | ({"eagle_config": field} if nested else field)


@pytest.mark.parametrize(
    ("ids", "nested", "states"),
    [
        ([0, 3], False, (0, 3)),
        ([8], False, (8,)),
        ([0, 7], True, (1, 8)),
        ([5, 1], False, (5, 1)),
    ],
)
def test_ids_reach_from_the_first_state_to_the_last(
    ids: list[int], nested: bool, states: tuple[int, ...]
) -> None:
    assert read(with_ids(ids, nested=nested)).aux_layers(8) == states


@pytest.mark.parametrize(
    ("ids", "nested", "message"),
    [
        (
            [1, 9],
            False,
            r"the layers \[1, 9\] in .*\(hidden_states, 0 to 8\), and the target has 8",
        ),
        ([-1, 3], False, r"the layers \[-1, 3\] in .*hidden_states, 0 to 8"),
        ([1, 8], True, r"the layers \[1, 8\] in eagle_config.*outputs of layers, 0 to 7\)"),
        ([-1, 3], True, r"outputs of layers, 0 to 7\)"),
    ],
)
def test_ids_outside_the_target_are_refused_in_their_own_convention(
    ids: list[int], nested: bool, message: str
) -> None:
    config = read(with_ids(ids, nested=nested))
    with pytest.raises(RequestError, match=message):
        config.aux_layers(8)


def test_both_fields_may_name_the_same_states_and_no_others() -> None:
    both = with_ids([1, 3], nested=True) | with_ids([2, 4], nested=False)
    assert read(both).aux_layers(8) == (2, 4)
    with pytest.raises(RequestError, match=r"not the same states \(output i is hidden_states"):
        read(both | with_ids([1, 3], nested=False))


@pytest.mark.parametrize(
    ("fields", "theta", "kind"),
    [
        ({"rope_theta": 1e6}, 1e6, "default"),
        ({"rope_theta": None, "rope_parameters": {"rope_theta": 1e6}}, 1e6, "default"),
        ({"rope_theta": 1e4, "rope_scaling": {"type": "linear", "factor": 2.0}}, 1e4, "linear"),
        ({"rope_theta": None}, None, "default"),
    ],
)
def test_the_rotary_base_in_both_forms_of_transformers(
    fields: dict[str, Any], theta: float | None, kind: str
) -> None:
    config = read(FLAT | fields)
    assert (config.theta, config.rope["rope_type"]) == (theta, kind)
    assert "rope_theta" not in config.rope


@pytest.mark.parametrize(
    ("fields", "rotated", "interleaved"),
    [
        ({"partial_rotary_factor": 0.5}, 8, False),
        ({"rope_parameters": {"partial_rotary_factor": 0.25}}, 4, False),
        ({"rope_interleave": True}, 16, True),
        ({"rotary_interleaved": True, "partial_rotary_factor": 0.5}, 8, True),
    ],
)
def test_what_is_rotated_and_which_pairs(
    fields: dict[str, Any], rotated: int, interleaved: bool
) -> None:
    config = read(FLAT | fields)
    assert (config.rotated, config.interleaved) == (rotated, interleaved)
    assert "partial_rotary_factor" not in config.rope


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"hidden_size": None}, "has no hidden_size; save the head again"),
    ({"hidden_size": 0}, "says hidden_size: 0, which no head has"),
    ({"num_attention_heads": "4"}, "says num_attention_heads: 4, which no head has"),
    ({"rms_norm_eps": -1}, "says rms_norm_eps: -1, which no head has"),
    ({"rope_theta": "big"}, "says rope_theta: big, which no head has"),
    ({"norm_output": "yes"}, "says norm_output: yes, which is neither true nor false"),
    ({"hidden_act": "gelu"}, "says hidden_act: 'gelu', and only silu is supported"),
    (
        {"layer_types": ["sliding_attention"]},
        r"says layer_types: \['sliding_attention'\], and only full_attention is supported",
    ),
    (
        {"use_sliding_window": True, "sliding_window": 128},
        "says use_sliding_window: true and sliding_window: 128, and only full attention is",
    ),
    (
        {"quantization_config": {"quant_method": "fp8"}},
        "has a quantization_config, and quantised heads are not supported",
    ),
    (
        {"norm_before_residul": True},
        "has the field 'norm_before_residul', which no loader reads; write norm_before_residual",
    ),
    (
        {"speculators_config": {"algorithm": "peagle"}, "speculators_model_type": "eagle3"}
        | {"transformer_layer_config": LAYER},
        "says speculators_config.algorithm: 'peagle' of an EAGLE-3 head; correct it",
    ),
    ({"partial_rotary_factor": 1.5}, "says partial_rotary_factor: 1.5, which rotates 24 of 16"),
    ({"partial_rotary_factor": "half"}, "says partial_rotary_factor: half, which no head has"),
    (
        {"rope_parameters": {"partial_rotary_factor": 0.2}},
        "says partial_rotary_factor: 0.2, which rotates 3 of 16 numbers, and an even part",
    ),
    ({"rope_scaling": "linear"}, "says rope_scaling: linear, which is no set of parameters"),
    ({"rope_scaling": {"rope_type": "linear"}}, "says rope_type: 'linear' without factor; add it"),
    ({"rope_scaling": {"rope_type": "linear", "factor": "2"}}, "says factor: 2, which no head has"),
    ({"rope_scaling": {"rope_type": "linear", "factor": -2}}, "says factor: -2, which no head has"),
    ({"rope_scaling": {"rope_type": "linear", "factor": 0.5}}, "says factor: 0.5, and a context"),
    (
        {"rope_scaling": {"type": "linear", "rope_type": "default", "factor": 2}},
        "says rope_type: default at one place and linear at another; remove the wrong one",
    ),
    ({"rope_scaling": {"rope_theta": 1e6}}, "says rope_theta: 500000 at one place and 1000000.0"),
    (
        {"rope_scaling": {"partial_rotary_factor": 0.5}, "partial_rotary_factor": 1.0},
        "says partial_rotary_factor: 1.0 at one place and 0.5 at another",
    ),
    (
        {"rope_scaling": {"rope_type": "yarn", "factor": 4.0}},
        "says rope_type: 'yarn' without original_max_position_embeddings; add it",
    ),
    (
        {
            "rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 4.0}
            | {"high_freq_factor": 1.0, "original_max_position_embeddings": 64}
        },
        "says low_freq_factor: 4.0, which is not below high_freq_factor: 1.0; correct them",
    ),
    ({"eagle_config": "[1, 2]"}, r"says eagle_config: \[1, 2\], which is no set of fields"),
    ({"eagle_aux_hidden_state_layer_ids": 0}, "the layers 0 of the target, which are no list"),
    ({"mlp_bias": True}, "says mlp_bias: true, and only an MLP without biases is supported"),
    ({"layer_types": "full"}, "says layer_types: full, and only full_attention is supported"),
    ({"hidden_act": False}, "says hidden_act: 'False', and only silu is supported"),
    ({"rope_interleave": 1}, "says rope_interleave: 1, which is neither true nor false"),
    ({"rope_scaling": {"rope_type": "dynamic"}}, "says rope_type: 'dynamic', and only default, "),
    (
        {"eagle_config": {"use_aux_hidden_state": False}},
        "says eagle_config.use_aux_hidden_state: false, and only heads with it",
    ),
    ({"eagle_aux_hidden_state_layer_ids": [1, 1]}, r"the layers \[1, 1\] of the target, which are"),
    (
        {"eagle_aux_hidden_state_layer_ids": "1,2"},
        "the layers 1,2 of the target, which are no list",
    ),
    ({"eagle_aux_hidden_state_layer_ids": [1.5]}, r"the layers \[1.5\] of the target, which are"),
    ({"speculators_model_type": "eagle3"}, "has no transformer_layer_config"),
]


def test_fields_of_models_and_trainings_are_let_pass() -> None:
    """Names near those that matter, and those that published heads hold."""
    known = ["sliding_window", "qk_head_dim", "v_head_dim", "num_aux_hidden_states", "rope_theta"]
    known += ["use_sliding_window", "eagle_version", "ttt_length", "pretraining_tp", "target_model"]
    assert read(FLAT | dict.fromkeys(known)) == read(FLAT | {"rope_theta": None})


@pytest.mark.parametrize(("fields", "message"), REFUSED, ids=[str(given) for given, _ in REFUSED])
def test_what_no_supported_head_says_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError, match=f"config.json ({message}|names {message})"):
        read(FLAT | fields)
