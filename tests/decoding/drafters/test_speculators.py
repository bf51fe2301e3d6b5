"""EAGLE-3 heads beside the package that trains and packs them, speculators: folders written by its
`save_pretrained` are read as users give them, and every probability is compared with its own.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.eagle3 import LAYERS, Target, make_targets
from helpers.speculators_heads import CONFIGURATIONS, STEPS
from helpers.support import EMBEDDED, ROOT
from safetensors.torch import load_file, save_file

from pytest_specdec.cases.case import Sampling
from pytest_specdec.cases.texts import texts_from_ids
from pytest_specdec.checkpoints.eagle3_checks import checked_head
from pytest_specdec.decoding.drafters.eagle3_forcing import teacher_forced_states
from pytest_specdec.decoding.drafters.eagle3_head import Eagle3Head
from pytest_specdec.decoding.layer_states import captured_states
from pytest_specdec.decoding.replay import DrafterPlan, text_scores

PYTHON = ROOT / ".venv-engines" / "speculators" / "bin" / "python"
SCRIPT = ROOT / "tests" / "helpers" / "speculators_heads.py"
LENGTH, TEXTS = 40, 3
TOLERANCE = 1e-5

if not PYTHON.is_file():
    pytest.skip(
        "speculators is not installed here; make speculators-parity runs this",
        allow_module_level=True,
    )


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Target:
    return make_targets(tmp_path_factory.mktemp("targets"))["llama"]


@pytest.fixture(scope="module")
def given(target: Target, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Texts, and the target's own states on them."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(2, 32, (TEXTS, LENGTH), generator=generator)
    numbers = range(LAYERS + 1)
    with torch.no_grad(), captured_states(target.single, numbers) as states:
        target.single.model(ids)
    path = tmp_path_factory.mktemp("given") / "given.safetensors"
    save_file({"ids": ids, "states": torch.stack([states[number] for number in numbers])}, path)
    return path


@pytest.fixture(scope="module")
def heads(target: Target, given: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Heads and their distributions, by speculators."""
    folder = tmp_path_factory.mktemp("heads")
    in_environment(target.folder, given, folder)
    return folder


def in_environment(*arguments: str | Path) -> None:
    """Run the script with speculators' own environment."""
    without_us = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    subprocess.run(
        [PYTHON, SCRIPT, *arguments],
        check=True,
        env=without_us | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        timeout=600,
    )


def apart(target: Target, given: Path, head: Path, theirs: torch.Tensor) -> float:
    """The largest difference between two probabilities, over all texts, starts, steps and tokens
    of the target.
    """
    files, texts = checked_head(target.single.checkpoint, head), load_file(given)
    network = Eagle3Head.of(files, target.single)
    joined = torch.cat([texts["states"][number] for number in files.aux_layers], -1)
    with torch.no_grad():
        steps = list(teacher_forced_states(network, texts["ids"], joined, STEPS))
        ours = [network.logits(state).softmax(-1) for state in steps]
    assert [computed.shape[1] for computed in ours] == [LENGTH - 2 - step for step in range(STEPS)]
    return max(
        float((computed - theirs[:, step, : computed.shape[1]]).abs().max())
        for step, computed in enumerate(ours)
    )


def probabilities_of(heads: Path, name: str) -> torch.Tensor:
    theirs = load_file(heads / f"{name}.safetensors")["probabilities"]
    assert theirs.shape == (TEXTS, STEPS, LENGTH - 1, 32)
    torch.testing.assert_close(theirs.sum(-1), torch.ones(theirs.shape[:-1]))
    return theirs


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_every_probability_is_that_of_speculators(
    target: Target, given: Path, heads: Path, name: str
) -> None:
    assert apart(target, given, heads / name, probabilities_of(heads, name)) < TOLERANCE


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_replay_reads_such_a_folder_and_scores_the_texts_alike(
    target: Target, given: Path, heads: Path, name: str
) -> None:
    """By the path of a user: the folder's name, the target's own pass, the texts' own tokens."""
    ids = load_file(given)["ids"].tolist()
    texts = texts_from_ids(ids, [1] * TEXTS)
    plan = DrafterPlan(str(heads / name), 0, STEPS)
    (scores,) = text_scores(target.single, [plan], texts, Sampling(1.0))
    theirs = probabilities_of(heads, name)
    for row, tokens in enumerate(ids):
        for step in range(STEPS):
            for at in range(2 + step, LENGTH):
                expected = float(theirs[row, step, at - 2 - step, tokens[at]])
                ours = math.exp(scores.draft[row, step, at])
                assert ours == pytest.approx(expected, abs=TOLERANCE)


MUTATIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "residual": ("plain", {"norm_before_residual": True}),
    "no residual": ("norm_before_residual", {"norm_before_residual": False}),
    "state handed on": ("plain", {"norm_output": True}),
    "no state handed on": ("eagle-3.1", {"norm_output": False}),
    "states": ("plain", {"eagle_aux_hidden_state_layer_ids": [1, 4, 5]}),
    "order of states": ("four-states", {"eagle_aux_hidden_state_layer_ids": [1, 3, 7, 6]}),
    "base": ("another-base", {"rope_parameters": {"rope_theta": 10000.0}}),
    "scaled rotation": ("llama3-rope", {"rope_parameters": {"rope_theta": 500000.0}}),
    "eps": ("plain", {"rms_norm_eps": 1e-2}),
}


@pytest.mark.parametrize(("name", "fields"), MUTATIONS.values(), ids=MUTATIONS)
def test_a_changed_field_is_another_head(
    target: Target, given: Path, heads: Path, tmp_path: Path, name: str, fields: dict[str, Any]
) -> None:
    changed = shutil.copytree(heads / name, tmp_path / "head")
    config = json.loads((changed / "config.json").read_text())
    for field, value in fields.items():
        holder = config if field in config else config["transformer_layer_config"]
        assert holder[field] != value
        holder[field] = value
    (changed / "config.json").write_text(json.dumps(config))
    assert apart(target, given, changed, probabilities_of(heads, name)) > 100 * TOLERANCE


SUITE = """
import pytest

@pytest.mark.specdec(target={target!r}, drafter={drafter!r}, k=[4], new_tokens=32)
def test_head(specdec_run, specdec_baseline):
    assert specdec_run == specdec_baseline
"""


def test_a_session_gates_a_trained_head_that_it_packed(
    pytester: pytest.Pytester, heads: Path
) -> None:
    """Against the baseline of the same weights in another packaging, and of another head."""
    target, trained = EMBEDDED / "text-target", EMBEDDED / "text-eagle3"
    packed = pytester.path / "packed"
    in_environment("pack", trained, target, packed)
    suite = pytester.mkdir("suite")
    prompts = (EMBEDDED.parent / "text" / "prompts.jsonl").read_text().splitlines()
    (suite / "prompts.jsonl").write_text("\n".join(prompts[:12]))
    (suite / "test_suite.py").write_text(SUITE.format(target=str(target), drafter=str(trained)))
    pytester.runpytest("--specdec-update=new").assert_outcomes(passed=1)
    pytester.runpytest(f"--specdec-draft={packed}").assert_outcomes(passed=1)
    lengths = [length_of(pytester, head) for head in (trained, packed)]
    assert lengths[0] == pytest.approx(lengths[1], abs=1e-4)
    assert lengths[0] > 2
    config = json.loads((packed / "config.json").read_text())
    config["norm_before_residual"] = True
    (packed / "config.json").write_text(json.dumps(config))
    result = pytester.runpytest(f"--specdec-draft={packed}")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*regressed*"])


def length_of(pytester: pytest.Pytester, head: Path) -> float:
    report = pytester.path / "report.json"
    pytester.runpytest(f"--specdec-draft={head}", f"--specdec-report={report}")
    (row,) = json.loads(report.read_text())["cases"]
    length: float = row["acceptance_length"]
    return length
