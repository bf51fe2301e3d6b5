"""Rounds with EAGLE-3 heads: decode, replay, the definition and a session agree."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from decoding.test_sampled_distribution import (
    FLOOR,
    PLAIN,
    emitted_first,
    exact_distribution,
    p_value,
)
from helpers.eagle3 import FLAGS, PROMPTS, USUAL, Target, make_targets, write_head
from helpers.eagle3_reference import Reference
from helpers.serial_drafting import Steps, check_greedy_rounds
from helpers.support import LETTERS, llama
from helpers.tiers import crossed
from safetensors.torch import load_file, save_file

from pytest_specdec import replay
from pytest_specdec.cases.case import Sampling
from pytest_specdec.decoding.decode import decode
from pytest_specdec.decoding.drafters.eagle3 import Eagle3Drafter
from pytest_specdec.decoding.drafters.eagle3_forcing import teacher_forced_states
from pytest_specdec.decoding.drafters.registry import drafter_for
from pytest_specdec.decoding.layer_states import captured_states
from pytest_specdec.decoding.loading import load_model

K = 4
FILTERED = Sampling(0.8, 12, 0.9)


@pytest.fixture(scope="module")
def targets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Target]:
    return make_targets(tmp_path_factory.mktemp("targets"))


@pytest.fixture(scope="module")
def trained(targets: dict[str, Target], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A head for the Qwen3 that drafts better than chance: 26 of its tokens."""
    target, folder = targets["qwen3"].single, tmp_path_factory.mktemp("heads") / "trained"
    write_head(folder, targets["qwen3"].folder, drafted=26, norm_before_residual=True)
    texts = decode(target, None, [[0, first] for first in range(2, 32)] * 6, k=0, new_tokens=24)
    ids = torch.tensor([text.ids for text in texts.texts])
    drafter = drafter_for(target, str(folder), 0)
    assert isinstance(drafter, Eagle3Drafter)
    head = drafter.head.requires_grad_(True)
    with torch.no_grad(), captured_states(target, drafter.reads_layers) as states:
        target.model(ids)
    joined = torch.cat([states[number] for number in drafter.reads_layers], -1)
    optimizer = torch.optim.Adam(head.parameters(), lr=0.01)
    for _ in range(80):
        loss = torch.zeros(())
        for step, state in enumerate(teacher_forced_states(head, ids, joined, 2)):
            logits, tokens = head.logits(state), ids[:, step + 2 :]
            losses = torch.nn.functional.cross_entropy(
                logits.flatten(0, 1), tokens.flatten(), reduction="none"
            )
            loss = loss + losses[losses.isfinite()].mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    head.requires_grad_(False)
    weights = load_file(folder / "model.safetensors")
    for name, tensor in head.state_dict().items():
        weights[name.replace("layers.0.", "midlayer.")] = tensor.contiguous()
    save_file(weights, folder / "model.safetensors")
    return folder


def steps_of(reference: Reference) -> Steps:
    """The definition's drafts after a text, one by one."""
    return lambda ids: reference.steps(reference.states([*ids]), [*ids], len(ids) - 2)


@crossed(name=["llama", "qwen3"], flags=FLAGS)
def test_at_temperature_0_decode_and_replay_are_serial_decoding(
    targets: dict[str, Target], tmp_path: Path, name: str, flags: str
) -> None:
    target = targets[name]
    head = write_head(tmp_path / "head", target.folder, **FLAGS[flags])
    reference = Reference(head, target.double.model, USUAL)
    check_greedy_rounds(target.double, head, steps_of(reference), K)


@crossed(
    sampling=[Sampling(1.0), FILTERED],
    rule=["rejection", "sample-match", "block"],
    ids=lambda given: getattr(given, "suffix", given),
)
def test_sampled_rounds_are_those_that_replay_expects(
    targets: dict[str, Target], trained: Path, sampling: Sampling, rule: str
) -> None:
    target, head = targets["qwen3"], str(trained)
    options = {
        "k": K,
        "rule": rule,
        "temperature": sampling.temperature,
        "top_k": sampling.top_k,
        "top_p": sampling.top_p,
    }
    decoded = decode(
        target.single, head, PROMPTS * 60, new_tokens=24, batch_size=120, seed=7, **options
    )
    expected = replay(target.single, head, decoded.texts, **options)
    apart = decoded.counts.accepted - expected.accepted
    enough = expected.accepted.sum(0) > 10
    assert enough[:3].all()
    assert np.abs(apart.sum(0) / np.sqrt((apart**2).sum(0)))[enough].max() < 3


@pytest.mark.parametrize("rule", ["rejection", "sample-match", "block"])
def test_decoding_with_a_head_is_lossless(tmp_path: Path, rule: str) -> None:
    folder = llama(tmp_path / "narrow", seed=5, vocabulary=7, width=16, layers=1, context=32)
    head = write_head(tmp_path / "head", folder, drafted=5, ids=(0, 1))
    target = load_model(str(folder), "cpu")
    seen = emitted_first(target, str(head), 2, rule=rule)
    assert p_value(seen, exact_distribution(target, PLAIN)) > FLOOR


SUITE = """
import pytest

@pytest.mark.specdec(target={target!r}, drafter={drafter!r}, k=[3], new_tokens=16)
def test_drafter(specdec_run, specdec_baseline, specdec_conformance):
    assert specdec_conformance.conforms, specdec_conformance.message
    assert specdec_run == specdec_baseline

@pytest.mark.specdec(target={target!r}, drafter={drafter!r}, k=[3], new_tokens=16)
def test_oracle(request, specdec_case):
    if specdec_case.engine == "decode":
        oracle = request.getfixturevalue("specdec_oracle")
        assert oracle.agrees, oracle.message
"""


@pytest.mark.parametrize(("engine", "temperature"), [("replay", 1), ("decode", 0)])
def test_a_session_gates_it(
    pytester: pytest.Pytester,
    targets: dict[str, Target],
    trained: Path,
    tmp_path: Path,
    engine: str,
    temperature: int,
) -> None:
    folder = targets["qwen3"].folder
    suite = pytester.mkdir("suite")
    lines = [json.dumps({"category": "letters", "prompt": letter * 2}) for letter in LETTERS[:24]]
    (suite / "prompts.jsonl").write_text("\n".join(lines))
    (suite / "test_suite.py").write_text(SUITE.format(target=str(folder), drafter=str(trained)))
    options = (f"--specdec-engine={engine}", f"--specdec-temperature={temperature}")
    pytester.runpytest(*options, "--specdec-update=new").assert_outcomes(passed=2)
    pytester.runpytest(*options).assert_outcomes(passed=2)
    (path,) = pytester.path.glob("baselines/suite/trained-*.json")
    stored = json.loads(path.read_text())
    assert stored["conditions"]["drafter"] == "eagle3"
    other = write_head(tmp_path / "other", folder, seed=1)
    worse = pytester.runpytest(*options, f"--specdec-draft={other}", "-k", "test_drafter")
    worse.assert_outcomes(failed=1, deselected=1)
    worse.stdout.fnmatch_lines(
        ["acceptance_length regressed: *", "*drafter weights or configuration (* ->*"]
    )
