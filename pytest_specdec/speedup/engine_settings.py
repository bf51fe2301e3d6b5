"""A controller as the settings of engines that have it. Plain Python.

Read in their sources: vLLM `vllm/config/speculative.py` and `v1/spec_decode/dynamic/utils.py`,
SGLang `srt/speculative/adaptive_spec_params.py`, TensorRT-LLM `llmapi/llm_args.py` and
`_torch/speculative/speculation_gate.py`, transformers `generation/candidate_generator.py`,
llama.cpp `common/speculative.cpp`.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Sequence
from typing import Any

from ..cases.drafter import DRAFT, OWN_HEADS
from .controllers import (
    AcceptanceGate,
    Controller,
    FixedDrafts,
    HeuristicSchedule,
    LoadSchedule,
)
from .learning_controllers import AdaptiveSteps, TunedThreshold

EAGLE3 = "eagle3"
_METHODS = {DRAFT: "draft_model", OWN_HEADS: "mtp", EAGLE3: "eagle3"}
_MODEL = "DRAFTER"


@dataclasses.dataclass(frozen=True, kw_only=True)
class EngineSetting:
    """What one engine is given."""

    engine: str
    lines: tuple[str, ...]
    note: str = ""
    """Where the engine does otherwise than was measured."""


@functools.singledispatch
def engine_settings(controller: Controller, drafter: str = DRAFT) -> Sequence[EngineSetting]:
    """The settings of engines that have this controller for this kind of drafter; DRAFTER stands
    for its path. None where no engine has it.

    >>> [setting.engine for setting in engine_settings(FixedDrafts(4), "draft")]
    ['vLLM', 'TensorRT-LLM', 'transformers', 'llama.cpp']
    """
    return ()


@engine_settings.register
def _of_fixed(controller: FixedDrafts, drafter: str = DRAFT) -> Sequence[EngineSetting]:
    k, threshold = controller.most, controller.confidence
    if k == 0:
        return (EngineSetting(engine="every engine", lines=("no speculative decoding",)),)
    if threshold:
        tuned = "scikit-learn must not be installed: with it transformers moves the threshold"
        dropped = (
            "drafts arg-maxima, and leaves the unsure draft out that was measured as the last one"
        )
        return (
            _transformers(k, "constant", threshold, tuned),
            _llama_cpp(k, threshold, dropped),
        )
    settings = [_vllm(drafter, {"num_speculative_tokens": k})]
    if drafter == DRAFT:
        settings += [
            _tensorrt(f"max_draft_len={k}"),
            _transformers(k, "constant", 0.0),
            _llama_cpp(k, 0.0, "drafts arg-maxima at every temperature"),
        ]
    if drafter == EAGLE3:
        flags = (
            f"--speculative-num-steps {k} --speculative-eagle-topk 1 "
            f"--speculative-num-draft-tokens {k + 1}"
        )
        model = f"--speculative-algorithm EAGLE3 --speculative-draft-model-path {_MODEL}"
        settings.append(EngineSetting(engine="SGLang", lines=(model, flags)))
    return settings


@engine_settings.register
def _of_heuristic(controller: HeuristicSchedule, drafter: str = DRAFT) -> Sequence[EngineSetting]:
    if drafter != DRAFT:
        return ()
    name = "heuristic" if controller.carries else "heuristic_transient"
    note = f"transformers has no upper limit, here it is {controller.most}"
    return (_transformers(controller.begin, name, controller.confidence, note),)


@engine_settings.register
def _of_tuned(controller: TunedThreshold, drafter: str = DRAFT) -> Sequence[EngineSetting]:
    if drafter != DRAFT:
        return ()
    note = "scikit-learn must be installed: without it the threshold stays"
    return (_transformers(controller.most, "constant", controller.begin, note),)


@engine_settings.register
def _of_steps(controller: AdaptiveSteps, drafter: str = DRAFT) -> Sequence[EngineSetting]:
    entry = {"candidate_steps": list(controller.candidate_steps)}
    names = ("ema_alpha", "update_interval", "warmup_batches", "up_hysteresis", "down_hysteresis")
    shared = {name: getattr(controller, name) for name in (*names, "ceiling_coeff")}
    config = json.dumps({"1": entry, **shared})
    flags = (
        f"--speculative-num-steps {controller.first()[0]} --speculative-eagle-topk 1 "
        "--speculative-adaptive --speculative-adaptive-config adaptive.json"
    )
    note = "SGLang averages over its batch, and adapts with EAGLE and EAGLE3 heads only"
    return (EngineSetting(engine="SGLang", lines=(flags, f"adaptive.json: {config}"), note=note),)


@engine_settings.register
def _of_gate(controller: AcceptanceGate, drafter: str = DRAFT) -> Sequence[EngineSetting]:
    if drafter != DRAFT:
        return ()
    return (
        _tensorrt(
            f"max_draft_len={controller.most}, acceptance_window={controller.window}, "
            f"acceptance_length_threshold={controller.least:g}"
        ),
    )


@engine_settings.register
def _of_schedule(controller: LoadSchedule, drafter: str = DRAFT) -> Sequence[EngineSetting]:
    return schedule_settings(controller.steps, drafter)


def schedule_settings(
    steps: Sequence[tuple[int, int]], drafter: str = DRAFT
) -> Sequence[EngineSetting]:
    """The settings of a schedule by batch size: (largest batch size, tokens) in order."""
    most = max(k for _, k in steps)
    if most == 0:
        return engine_settings(FixedDrafts(0), drafter)
    ranges, begin = [], 1
    for end, k in steps:
        ranges.append([begin, end, k])
        begin = end + 1
    settings = [
        _vllm(
            drafter,
            {
                "num_speculative_tokens": most,
                "num_speculative_tokens_per_batch_size": ranges,
            },
            "above the last batch size vLLM goes on with its number",
        )
    ]
    if drafter == DRAFT and steps[0][1] == most:
        schedule = "{" + ", ".join(f"{end}: {k}" for end, k in steps) + "}"
        settings.append(
            _tensorrt(
                f"max_draft_len={most}, draft_len_schedule={schedule}",
                "above the last batch size TensorRT-LLM drafts nothing",
            )
        )
    if drafter == EAGLE3:
        entries = {str(begin): {"candidate_steps": [k]} for begin, _, k in ranges}
        settings.append(
            EngineSetting(
                engine="SGLang",
                lines=(
                    "--speculative-adaptive --speculative-adaptive-config adaptive.json",
                    f"adaptive.json: {json.dumps(entries)}",
                ),
            )
        )
    return settings


def _vllm(drafter: str, fields: dict[str, Any], note: str = "") -> EngineSetting:
    config: dict[str, Any] = {"method": _METHODS.get(drafter, drafter)}
    if drafter == "prompt-lookup":
        config = {"method": "ngram", "prompt_lookup_max": 3}
    elif drafter != OWN_HEADS:
        config["model"] = _MODEL
    line = f"--speculative-config '{json.dumps(config | fields)}'"
    return EngineSetting(engine="vLLM", lines=(line,), note=note)


def _tensorrt(fields: str, note: str = "") -> EngineSetting:
    line = f'DraftTargetDecodingConfig(speculative_model="{_MODEL}", {fields})'
    return EngineSetting(engine="TensorRT-LLM", lines=(line,), note=note)


def _transformers(k: int, schedule: str, threshold: float, note: str = "") -> EngineSetting:
    config = "assistant.generation_config"
    lines = (
        f"{config}.num_assistant_tokens = {k}",
        f'{config}.num_assistant_tokens_schedule = "{schedule}"',
        f"{config}.assistant_confidence_threshold = {threshold:g}",
    )
    return EngineSetting(engine="transformers", lines=lines, note=note)


def _llama_cpp(k: int, threshold: float, note: str) -> EngineSetting:
    line = (
        f"--spec-type draft-simple --spec-draft-model {_MODEL} --spec-draft-n-max {k} "
        f"--spec-draft-p-min {threshold:g}"
    )
    return EngineSetting(engine="llama.cpp", lines=(line,), note=note)
