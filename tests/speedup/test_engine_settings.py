"""Settings as engines read them."""

from __future__ import annotations

import ast
import json
import shlex

import pytest

from pytest_specdec.speedup.controllers import (
    AcceptanceGate,
    BestByAverage,
    FixedDrafts,
    HeuristicSchedule,
    LoadSchedule,
)
from pytest_specdec.speedup.engine_settings import EngineSetting, engine_settings
from pytest_specdec.speedup.learning_controllers import AdaptiveSteps, TunedThreshold


def by_engine(*arguments) -> dict[str, EngineSetting]:
    return {setting.engine: setting for setting in engine_settings(*arguments)}


def vllm_config(setting: EngineSetting) -> dict:
    flag, config = shlex.split(setting.lines[0])
    assert flag == "--speculative-config"
    return json.loads(config)


def test_a_fixed_number_for_every_engine() -> None:
    settings = by_engine(FixedDrafts(4), "draft")
    assert vllm_config(settings["vLLM"]) == {
        "method": "draft_model",
        "model": "DRAFTER",
        "num_speculative_tokens": 4,
    }
    assert "max_draft_len=4" in settings["TensorRT-LLM"].lines[0]
    assert settings["transformers"].lines[0].endswith("num_assistant_tokens = 4")
    assert "--spec-draft-n-max 4" in settings["llama.cpp"].lines[0]
    sglang = by_engine(FixedDrafts(3), "eagle3")["SGLang"]
    assert "--speculative-num-steps 3" in sglang.lines[1]
    assert "--speculative-num-draft-tokens 4" in sglang.lines[1]


def test_transformers_reads_its_schedule(tmp_path) -> None:
    from transformers import GenerationConfig

    for carries, name in ((True, "heuristic"), (False, "heuristic_transient")):
        (setting,) = engine_settings(HeuristicSchedule(5, 8, carries=carries), "draft")
        config = GenerationConfig()
        for line in setting.lines:
            attribute, value = line.removeprefix("assistant.generation_config.").split(" = ")
            assert hasattr(config, attribute)
            setattr(config, attribute, ast.literal_eval(value))
        assert config.num_assistant_tokens_schedule == name
        assert config.num_assistant_tokens == 5
    (tuned,) = engine_settings(TunedThreshold(6, 0.3), "draft")
    assert "scikit-learn must be installed" in tuned.note


def test_a_schedule_is_in_each_engines_own_terms() -> None:
    settings = by_engine(LoadSchedule(((7, 4), (31, 2), (32, 0)), (1,)), "draft")
    assert vllm_config(settings["vLLM"])["num_speculative_tokens_per_batch_size"] == [
        [1, 7, 4],
        [8, 31, 2],
        [32, 32, 0],
    ]
    assert "draft_len_schedule={7: 4, 31: 2, 32: 0}" in settings["TensorRT-LLM"].lines[0]
    # TensorRT-LLM refuses a schedule that does not begin with its largest number.
    rising = by_engine(LoadSchedule(((7, 1), (31, 2)), (1,)), "draft")
    assert set(rising) == {"vLLM"}


def test_a_moving_average_is_sglangs_file() -> None:
    (setting,) = engine_settings(AdaptiveSteps(candidate_steps=(1, 3)), "eagle3")
    config = json.loads(setting.lines[1].removeprefix("adaptive.json: "))
    assert config["1"] == {"candidate_steps": [1, 3]}
    assert config["ema_alpha"] == 0.2
    assert "--speculative-adaptive " in setting.lines[0]


def test_a_gate_is_tensorrts() -> None:
    (setting,) = engine_settings(AcceptanceGate(4, 10, 1.25), "draft")
    assert "acceptance_window=10, acceptance_length_threshold=1.25" in setting.lines[0]


@pytest.mark.parametrize("drafter", ["draft", "mtp", "eagle3", "prompt-lookup"])
def test_nothing_is_made_up_for_what_no_engine_has(drafter: str) -> None:
    assert engine_settings(BestByAverage((1.0, 2.0)), drafter) == ()
    (none,) = engine_settings(FixedDrafts(0), drafter)
    assert none.lines == ("no speculative decoding",)
