"""What to correct in the folder of an EAGLE-3 head so that loaders read it in another way."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

import torch

from ..checkpoints.eagle3_checks import Eagle3Files
from ..checkpoints.eagle3_config import usual_states
from .eagle3_reading import Eagle3Reading, plain
from .eagle3_spelling import FIELD, spelled

_NO_FIELD = "no field of any packaging says it, so the head has to be trained again or run by code"


def cures(
    files: Eagle3Files, written: Eagle3Reading, reading: Eagle3Reading, layers: int
) -> list[str]:
    """One correction for each respect in which a reading differs from the written one: a field of
    config.json with its value, or a tensor.
    """
    texts: Mapping[str, Callable[[], str]] = {
        "states": lambda: _states(files, reading, layers),
        "norm_before_residual": lambda: _flag("norm_before_residual", reading.norm_before_residual),
        "input_norm": lambda: _input_norm(files, reading),
        "norm_output": lambda: _flag("norm_output", reading.norm_output),
        "logits_norm": lambda: f"lm_head reads the state before the last norm: {_NO_FIELD}",
        "theta": lambda: f"config.json: rope_theta -> {plain(reading.theta)}",
        "rotated": lambda: (
            f"config.json: partial_rotary_factor -> {reading.rotated / files.config.head_dim:g}"
        ),
        "interleaved": lambda: _flag("rope_interleave", reading.interleaved),
        "qk_norms": lambda: (
            "tensors: save the head without q_norm and k_norm, which it was trained without"
        ),
        "tokens": lambda: _tokens(reading),
        "own_embeddings": lambda: (
            "tensors: save the head without embed_tokens.weight; it was trained with the target's"
        ),
        "state_first": lambda: (
            "tensors: swap the halves of the columns of q_proj, k_proj and v_proj in the first "
            "layer; they are for [state; embedding]"
        ),
        "later_positions": lambda: (
            f"positions of later draft steps ({reading.later_positions:+d}): {_NO_FIELD}"
        ),
        "turned_back": lambda: (
            "fc.weight: the target's states are rotated (as QuaRot does) and the head was trained "
            "before that; multiply each block of columns by the same rotation, which takes the "
            "head's embeddings to the target's"
        ),
    }
    return [
        text() for name, text in texts.items() if getattr(reading, name) != getattr(written, name)
    ]


def _flag(name: str, value: bool) -> str:
    return f"config.json: {name} -> {str(value).lower()}"


def _states(files: Eagle3Files, reading: Eagle3Reading, layers: int) -> str:
    states = reading.states
    if layers + 1 in states:
        return (
            f"state {layers} is read after the target's last norm: {_NO_FIELD}; where it is run "
            "by code, normalise that state"
        )
    if list(states) != sorted(states):
        order = ", ".join(map(str, states))
        ascending = tuple(sorted(states))
        ids = "" if ascending == files.aux_layers else f"; {_ids(files, ascending, layers)}"
        return (
            f"fc.weight: its blocks of columns are for the states {order}; save them in ascending "
            f"order with ascending ids, since engines collect states from the first layer on{ids}"
        )
    return _ids(files, states, layers)


def _ids(files: Eagle3Files, states: tuple[int, ...], layers: int) -> str:
    """Both spellings, the folder's own first; the usual states need one, since programs that read
    none take these.
    """
    top, outputs = spelled(states, layers)
    at_top = f"{FIELD} -> {list(top or ())} at the top (hidden_states[i])"
    if outputs is None:
        return f"config.json: {at_top}"
    nested = f"eagle_config.{FIELD} -> {list(outputs)} (outputs of layers)"
    first, second = (nested, at_top) if files.config.ids_are_outputs else (at_top, nested)
    if tuple(states) == usual_states(layers):
        return f"config.json: {first}"
    return (
        f"config.json: {first}, and also {second}; the two name the same states, and engines "
        "read one or the other"
    )


def spellable(written: Eagle3Reading, best: Eagle3Reading, layers: int) -> Eagle3Reading:
    """The best reading as far as a folder can say it: what `_NO_FIELD` is said of stays as
    written.
    """
    return dataclasses.replace(
        best,
        logits_norm=written.logits_norm,
        later_positions=written.later_positions,
        states=tuple(min(number, layers) for number in best.states),
    )


def _input_norm(files: Eagle3Files, reading: Eagle3Reading) -> str:
    config = files.config
    if reading.input_norm == "none":
        flag = "norm_before_fc" if config.norm_before_fc else "fc_norm"
        return f"{_flag(flag, False)}, and save the head without the tensors of that norm"
    flag = "norm_before_fc" if reading.input_norm == "joined" else "fc_norm"
    return _flag(flag, True)


def _tokens(reading: Eagle3Reading) -> str:
    rows = "torch.arange(len(d2t))"
    return {
        "offsets": f"d2t: save the target's ids - {rows}",
        "absolute": f"d2t: it holds the target's ids; save offsets, d2t - {rows}",
        "first": "d2t: draft ids are the target's own; save zeros",
        "ascending": f"d2t: its order is lost; save (d2t + {rows}).sort().values - {rows}",
        "t2d": f"d2t: it is not what the head was trained with; save t2d.nonzero()[:, 0] - {rows}",
    }[reading.tokens]


def norm_to_announce(files: Eagle3Files, weights: Mapping[str, torch.Tensor]) -> str | None:
    """Which correction restores training where a norm before `fc` is there and not announced; None
    where there is none.
    """
    for flag, said, name in (
        ("norm_before_fc", files.config.norm_before_fc, "input_norm"),
        ("fc_norm", files.config.fc_norm, "fc_norm"),
    ):
        held = [tensor for key, tensor in weights.items() if key.startswith(f"{name}.")]
        if said or not held:
            continue
        if all(bool((tensor == 1).all()) for tensor in held):
            return (
                f"{name} is 1 everywhere, as before any training, so its numbers do not say "
                f"whether the head was trained with it: ask who trained it"
            )
        return (
            f"{name} is not 1 everywhere, so the head was trained with it: add {flag}: true, and "
            "keep the tensor"
        )
    return None
