"""The config.json of an EAGLE-3 head, in the forms that SafeAILab, SpecForge (and AngelSlim) and
speculators write.

The definition of the head that these fields parametrise stands in `decoding.drafters.eagle3_head`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..common.errors import RequestError
from .config_checks import count_of
from .eagle3_rotary import number_of, rotary_of
from .eagle3_unsupported import FLAGS, STATES, check_supported
from .head_fields import flag_of, optional_size, size_of, verifier_of

_INTERLEAVED = ("rope_interleave", "rope_interleaved", "rotary_interleaved")
_OUTPUTS = "eagle_config.eagle_aux_hidden_state_layer_ids"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Eagle3Config:
    """What config.json says of a head; `read_eagle3_config` makes it."""

    path: Path
    """The file that it was read from."""
    packaging: str
    """`SafeAILab`, `SpecForge` or `speculators`."""
    layer_ids: tuple[int, ...] | None
    """The target's layers whose states the head reads, as config.json numbers them; None where it
    names none.
    """
    ids_are_outputs: bool
    """Whether id i is the output of decoder layer i, counted from 0, as in `eagle_config`; else the
    input of that layer, transformers' `hidden_states[i]`, as in a field at the top.
    """
    layers: int
    width: int
    """Width of the head's own hidden states."""
    target_width: int | None
    """Width of the target's; None where config.json does not say."""
    heads: int
    kv_heads: int
    head_dim: int
    mlp_width: int
    eps: float
    norm_before_residual: bool
    """The residual of the first layer is the normalised state, not the state itself."""
    norm_before_fc: bool
    """The joined states are normalised together, by `input_norm`, before `fc`."""
    fc_norm: bool
    """Each of the states is normalised, by `fc_norm.i`, before `fc`."""
    norm_output: bool
    """The state handed to the next draft step is the one after the last norm, not before it."""
    attention_bias: bool
    theta: float | None
    """The rotary base; None where config.json names none."""
    rope: Mapping[str, Any]
    """transformers' `rope_parameters` without the base."""
    rotated: int
    """Numbers of each query and key that are rotated, the first ones; the others pass as they are.
    """
    interleaved: bool
    """Whether neighbours are rotated as a pair (GPT-J), or number i of the first half with number i
    of the second (GPT-NeoX).
    """
    context: int | None
    """Positions that the head was built for."""
    vocabulary: int
    """The target's number of tokens."""
    draft_vocabulary: int | None
    """Number of tokens that the head can draft; None where config.json does not say."""
    verifier: str | None
    """The name of the target that the head was trained for."""
    verifier_classes: tuple[str, ...]
    """The target's `architectures`."""

    def aux_layers(self, target_layers: int) -> tuple[int, ...]:
        """The states that the head reads of a target with so many decoder layers, numbered as
        transformers' `hidden_states`: 0 the embeddings, i the output of the i-th decoder layer.

        Where config.json names none they are 2, the middle and the last but three, which every
        loader takes. Raises RequestError for states that the target does not have.

        Example: ids (1, 15, 28) of `eagle_config` are the states (2, 16, 29).
        """
        if self.layer_ids is None:
            usual = usual_states(target_layers)
            if usual[2] < 1 or len(set(usual)) < len(usual):
                raise RequestError(
                    f"{self.path} names no layers of the target, and the usual ones (2, the middle "
                    f"and the last but three) need more than the target's {target_layers}; add "
                    f"{STATES[0]}"
                )
            return usual
        shift = 1 if self.ids_are_outputs else 0
        chosen = tuple(number + shift for number in self.layer_ids)
        if any(not shift <= number <= target_layers for number in chosen):
            named = (
                f"{_OUTPUTS} (outputs of layers, 0 to {target_layers - 1})"
                if shift
                else f"{STATES[0]} (hidden_states, 0 to {target_layers})"
            )
            raise RequestError(
                f"{self.path} names the layers {list(self.layer_ids)} in {named}, and the target "
                f"has {target_layers} layers; correct the ids, or name the target that the head "
                "was trained for"
            )
        return chosen


def usual_states(target_layers: int) -> tuple[int, int, int]:
    """The states that every loader takes where config.json names none, of a target with so many
    decoder layers; shallow targets do not have them all.
    """
    return 2, target_layers // 2, target_layers - 3


def read_eagle3_config(
    path: Path, config: Mapping[str, Any], algorithm: str = "eagle3"
) -> Eagle3Config:
    """The head that config.json describes, in any of the three forms.

    Parameters
    ----------
    path
        config.json, for messages.
    config
        What it holds.
    algorithm
        speculators' name of the kind of head: ``"eagle3"``, or ``"peagle"``, which has its fields.

    Raises
    ------
    RequestError
        For sizes that no head has, and for parts that are not supported: other kinds of rotary
        scaling, other activations, a head that reads the last hidden state alone.

    References
    ----------
    Li et al., arXiv 2503.01840 (EAGLE-3); SafeAILab/EAGLE `cnets.py`, SpecForge
    `llama3_eagle.py` and speculators `models/eagle3/config.py` for the names of the fields.

    Examples
    --------
    >>> layer = {"hidden_size": 64, "num_attention_heads": 4, "intermediate_size": 128}
    >>> config = read_eagle3_config(Path("config.json"), layer | {"vocab_size": 100})
    >>> config.head_dim, config.packaging, config.aux_layers(32)
    (16, 'SafeAILab', (2, 16, 29))
    """
    packaging = _packaging(config)
    layer = config.get("transformer_layer_config") if packaging == "speculators" else config
    if not isinstance(layer, Mapping):
        raise RequestError(f"{path} has no transformer_layer_config; save the head again")
    check_supported(path, config, layer, algorithm)
    ids, are_outputs = _layer_ids(path, config)
    width, heads = size_of(path, layer, "hidden_size"), size_of(path, layer, "num_attention_heads")
    head_dim = size_of(path, layer, "head_dim", max(width // heads, 1))
    theta, rope, rotated = rotary_of(path, layer, head_dim)
    verifier, classes = verifier_of(config)
    return Eagle3Config(
        path=path,
        packaging=packaging,
        layer_ids=ids,
        ids_are_outputs=are_outputs,
        layers=size_of(path, layer, "num_hidden_layers", 1),
        width=width,
        target_width=optional_size(path, config, "target_hidden_size"),
        heads=heads,
        kv_heads=size_of(path, layer, "num_key_value_heads", heads),
        head_dim=head_dim,
        mlp_width=size_of(path, layer, "intermediate_size"),
        eps=number_of(path, "rms_norm_eps", layer.get("rms_norm_eps"), 1e-6),
        **{name: flag_of(path, config, name) for name in FLAGS},
        attention_bias=flag_of(path, layer, "attention_bias"),
        theta=theta,
        rope=rope,
        rotated=rotated,
        interleaved=any(flag_of(path, layer, name) for name in _INTERLEAVED),
        context=optional_size(path, layer, "max_position_embeddings"),
        vocabulary=size_of(path, layer, "vocab_size"),
        draft_vocabulary=optional_size(path, config, "draft_vocab_size"),
        verifier=verifier,
        verifier_classes=classes,
    )


def names_states(config: Mapping[str, Any]) -> bool:
    """Whether ids of `hidden_states` stand at the top, beside those of `eagle_config` or alone."""
    return any(config.get(name) not in (None, []) for name in STATES)


def _packaging(config: Mapping[str, Any]) -> str:
    if config.get("speculators_model_type") or config.get("speculators_config"):
        return "speculators"
    classes = config.get("architectures")
    names = [str(name).lower() for name in classes] if isinstance(classes, list) else []
    return "SpecForge" if any("eagle" in name for name in names) else "SafeAILab"


def _layer_ids(path: Path, config: Mapping[str, Any]) -> tuple[tuple[int, ...] | None, bool]:
    """The ids, and whether they count outputs of layers."""
    inner = config.get("eagle_config")
    nested = inner.get(STATES[0]) if isinstance(inner, Mapping) else None
    top = next((config[name] for name in STATES if config.get(name) not in (None, [])), None)
    outputs, states = _ids(path, nested), _ids(path, top)
    if outputs and states and states != tuple(number + 1 for number in outputs):
        raise RequestError(
            f"{path} names the outputs of layers {list(outputs)} in eagle_config and the "
            f"hidden_states {list(states)} at the top, which are not the same states (output i is "
            "hidden_states[i + 1]); remove the wrong field"
        )
    return (outputs, True) if outputs else (states, False)


def _ids(path: Path, values: Any) -> tuple[int, ...] | None:
    if values is None or values == []:
        return None
    counts = [count_of(value) for value in values] if isinstance(values, list) else [None]
    numbers = [count for count in counts if count is not None]
    if not 0 < len(set(numbers)) == len(counts) <= 64:
        raise RequestError(
            f"{path} names the layers {str(values)[:60]} of the target, which are no list of "
            "different whole numbers; correct eagle_aux_hidden_state_layer_ids"
        )
    return tuple(numbers)
