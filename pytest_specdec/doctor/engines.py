"""Who reads a drafter's folder in another way: public facts, each with its source.

docs/doctor.md has the same table; `tests/doctor/test_engines.py` compares them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from ..checkpoints.eagle3_config import usual_states
from .eagle3_reading import Eagle3Reading
from .eagle3_spelling import Eagle3Spelling
from .mtp_reading import MtpReading

Reads = Callable[[Eagle3Spelling, Eagle3Reading, int], Eagle3Reading | None]
"""The reading of a head that is spelled so, from ours and the target's number of layers; None
where the fact does not concern it.
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class EngineFact:
    """One public fact."""

    who: str
    field: str
    does: str
    source: str
    reads: Reads


def engine_readings(
    said: Eagle3Spelling, ours: Eagle3Reading, layers: int
) -> Sequence[tuple[EngineFact, Eagle3Reading]]:
    """Who reads a head that is spelled so in another way than ours, by `FACTS`; also readings that
    the target cannot have (`trouble`).
    """
    found = []
    for fact in FACTS:
        reading = fact.reads(said, ours, layers)
        if reading is not None and reading != ours:
            found.append((fact, reading))
    return found


def trouble(states: Sequence[int], joined: int, layers: int) -> str | None:
    """Why a target of so many layers cannot give these states to an `fc` that joins so many; None
    where it can.
    """
    if len(states) != joined:
        return f"fc.weight joins {joined} states, and these are {len(states)}"
    if len(set(states)) < len(states):
        return f"states {', '.join(map(str, states))} of {layers} layers are not different ones"
    if missing := [number for number in states if not 0 <= number <= layers]:
        return f"the target has the states 0 to {layers}, and no {missing[0]}"
    return None


def _changed(**fields: Any) -> Reads:
    return lambda said, ours, layers: dataclasses.replace(ours, **fields)


def _of_speculators(reads: Reads) -> Reads:
    """The same for heads that speculators packed, and no others."""
    return lambda said, ours, layers: (
        reads(said, ours, layers) if said.packaging == "speculators" else None
    )


def _no_joined_norm(said: Eagle3Spelling, ours: Eagle3Reading, layers: int) -> Eagle3Reading | None:
    if ours.input_norm != "joined":
        return None
    return dataclasses.replace(ours, input_norm="none")


def _not_31(said: Eagle3Spelling, ours: Eagle3Reading, layers: int) -> Eagle3Reading | None:
    """Without what EAGLE-3.1 added."""
    norm = "none" if ours.input_norm == "each" else ours.input_norm
    return dataclasses.replace(ours, input_norm=norm, norm_output=False)


def _one_later(said: Eagle3Spelling, ours: Eagle3Reading, layers: int) -> Eagle3Reading | None:
    """Those of `eagle_config` are outputs of layers."""
    if said.outputs is None:
        return None
    states = tuple(number + 1 for number in said.outputs)
    return dataclasses.replace(ours, states=states)


def _by_the_first(said: Eagle3Spelling, ours: Eagle3Reading, layers: int) -> Eagle3Reading | None:
    """Those of `eagle_config` are outputs of layers where the first is 1, else inputs."""
    if said.outputs is None:
        return None
    shift = 1 if said.outputs[0] == 1 else 0
    states = tuple(number + shift for number in said.outputs)
    return dataclasses.replace(ours, states=states)


def _nested_as_inputs(
    said: Eagle3Spelling, ours: Eagle3Reading, layers: int
) -> Eagle3Reading | None:
    """Those of `eagle_config`, where none stand at the top, are inputs of layers."""
    if said.outputs is None or said.top is not None:
        return None
    return dataclasses.replace(ours, states=tuple(said.outputs))


def _ascending(said: Eagle3Spelling, ours: Eagle3Reading, layers: int) -> Eagle3Reading | None:
    return dataclasses.replace(ours, states=tuple(sorted(ours.states)))


def _always_usual(said: Eagle3Spelling, ours: Eagle3Reading, layers: int) -> Eagle3Reading | None:
    usual = usual_states(layers)
    return dataclasses.replace(ours, states=usual) if len(ours.states) == 3 else None


def _usual_unless_nested(
    said: Eagle3Spelling, ours: Eagle3Reading, layers: int
) -> Eagle3Reading | None:
    """Ids at the top are not read."""
    return _always_usual(said, ours, layers) if said.outputs is None else None


def _usual_if_nested(
    said: Eagle3Spelling, ours: Eagle3Reading, layers: int
) -> Eagle3Reading | None:
    """Ids in `eagle_config` alone are not read."""
    if said.outputs is None or said.top is not None:
        return None
    return _always_usual(said, ours, layers)


def _residual_by_default(
    said: Eagle3Spelling, ours: Eagle3Reading, layers: int
) -> Eagle3Reading | None:
    if said.says_residual:
        return None
    return dataclasses.replace(ours, norm_before_residual=True)


FACTS: tuple[EngineFact, ...] = (
    EngineFact(
        who="SGLang before 2026-05-16",
        field="eagle_aux_hidden_state_layer_ids",
        does="adds 1 to all ids of eagle_config",
        source="sgl-project/sglang#25454",
        reads=_one_later,
    ),
    EngineFact(
        who="SGLang since 2026-05-16",
        field="eagle_aux_hidden_state_layer_ids",
        does="adds 1 to ids of eagle_config that begin with 1, and to no others",
        source="sgl-project/sglang#25454",
        reads=_by_the_first,
    ),
    EngineFact(
        who="SGLang at 0005834",
        field="eagle_aux_hidden_state_layer_ids",
        does="reads ids of eagle_config alone, else 2, the middle and the last but three",
        source="sgl-project/sglang, python/sglang/srt/model_executor/model_runner.py",
        reads=_usual_unless_nested,
    ),
    EngineFact(
        who="vLLM 0.32.0",
        field="eagle_config",
        does="takes ids of eagle_config, where none are at the top, for inputs of layers",
        source="vllm-project/vllm, vllm/v1/worker/gpu_model_runner.py",
        reads=_nested_as_inputs,
    ),
    EngineFact(
        who="vLLM 0.32.0, the order",
        field="eagle_aux_hidden_state_layer_ids",
        does="joins the states in ascending order, whatever the order of the ids",
        source="vllm-project/vllm, vllm/model_executor/models/interfaces.py",
        reads=_ascending,
    ),
    EngineFact(
        who="vLLM, second model runner",
        field="eagle_config",
        does="reads ids at the top alone, and without them those of the target's class",
        source="vllm-project/vllm, vllm/v1/worker/gpu/spec_decode/eagle/eagle3_utils.py",
        reads=_usual_if_nested,
    ),
    EngineFact(
        who="tokenspeed before #526",
        field="eagle_aux_hidden_state_layer_ids",
        does="reads 2, the middle and the last but three, whatever the ids",
        source="lightseekorg/tokenspeed#526",
        reads=_always_usual,
    ),
    EngineFact(
        who="vLLM on speculators' heads without the field",
        field="norm_before_residual",
        does="takes a missing norm_before_residual for true",
        source="vllm-project/vllm#25961",
        reads=_of_speculators(_residual_by_default),
    ),
    EngineFact(
        who="SGLang at 03d5a77",
        field="norm_before_residual",
        does="never normalises the residual",
        source="sgl-project/sglang, python/sglang/srt/models/llama_eagle3.py",
        reads=_changed(norm_before_residual=False),
    ),
    EngineFact(
        who="vLLM before 2026-03-25 on speculators' heads",
        field="norm_before_fc",
        does="drops norm_before_fc",
        source="vllm-project/vllm#38111",
        reads=_of_speculators(_no_joined_norm),
    ),
    EngineFact(
        who="SGLang before 2026-07-24",
        field="norm_before_fc",
        does="ignores norm_before_fc",
        source="sgl-project/sglang#32334",
        reads=_no_joined_norm,
    ),
    EngineFact(
        who="vLLM before 2026-06-23 on speculators' heads",
        field="fc_norm, norm_output",
        does="drops norm_output and fc_norm",
        source="vllm-project/vllm#46488",
        reads=_of_speculators(_not_31),
    ),
    EngineFact(
        who="TensorRT-LLM before 2026-06-05",
        field="fc_norm, norm_output",
        does="knows neither fc_norm nor norm_output",
        source="NVIDIA/TensorRT-LLM#14988",
        reads=_not_31,
    ),
    EngineFact(
        who="tokenspeed before 2026-07-21",
        field="fc_norm, norm_output",
        does="knows neither fc_norm nor norm_output",
        source="lightseekorg/tokenspeed#751",
        reads=_not_31,
    ),
    EngineFact(
        who="TensorRT-LLM as of 2026-09",
        field="rope_interleave",
        does="rotates halves, whatever pairs the head was trained with",
        source="NVIDIA/TensorRT-LLM#19036",
        reads=_changed(interleaved=False),
    ),
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class MtpFact:
    """One public fact on MTP layers of one family of models."""

    who: str
    models: str
    """How its `model_type` begins."""
    field: str
    does: str
    source: str
    change: dict[str, bool]
    """Fields of the reading."""


def mtp_engine_readings(model_type: str, ours: MtpReading) -> Sequence[tuple[MtpFact, MtpReading]]:
    """Who runs the MTP layers of a target in another way than ours, by `MTP_FACTS`."""
    found = []
    for fact in MTP_FACTS:
        reading = dataclasses.replace(ours, **fact.change)
        if model_type.startswith(fact.models) and reading != ours:
            found.append((fact, reading))
    return found


MTP_FACTS: tuple[MtpFact, ...] = (
    MtpFact(
        who="llama.cpp before 2026-06-02",
        models="qwen3_5",
        field="the target's state",
        does="hands on the target's state before its last norm",
        source="ggml-org/llama.cpp#24025",
        change={"first_normed": False},
    ),
    MtpFact(
        who="vLLM before #46075",
        models="glm",
        field="the state handed on",
        does="hands on the state before the layer's norm",
        source="vllm-project/vllm#46075",
        change={"carry_normed": False},
    ),
)
