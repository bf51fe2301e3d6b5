"""EAGLE-3 heads against their definition, written out one start and one step at a time."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

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
from helpers.eagle3 import PACKAGINGS, qwen3, write_head
from helpers.eagle3_reference import Reference
from helpers.support import LETTERS, llama
from safetensors.torch import load_file, save_file
from torch.overrides import TorchFunctionMode

from pytest_specdec import replay
from pytest_specdec.acceptance.rounds import Round
from pytest_specdec.cases.case import Sampling
from pytest_specdec.cases.texts import texts_from_ids
from pytest_specdec.common.errors import RequestError
from pytest_specdec.decoding.decode import decode
from pytest_specdec.decoding.drafters import eagle3_forcing
from pytest_specdec.decoding.drafters.eagle3 import Eagle3Drafter
from pytest_specdec.decoding.drafters.eagle3_cache import Eagle3Chain
from pytest_specdec.decoding.drafters.eagle3_forcing import teacher_forced_states
from pytest_specdec.decoding.drafters.registry import drafter_for
from pytest_specdec.decoding.layer_states import captured_states
from pytest_specdec.decoding.loading import LoadedModel, load_model
from pytest_specdec.decoding.ragged import Sequences
from pytest_specdec.decoding.replay import DrafterPlan, text_scores

LAYERS, K, NEW = 8, 4, 12
USUAL = (2, 4, 5)
PROMPTS = [[0, 2, 3, 4], [0, 5, 6], [0, 7, 8, 9, 10], [0, 11]]
FILTERED = Sampling(0.8, 12, 0.9)
NORMED = {"norm_before_residual": True}
FLAGS: dict[str, dict[str, bool]] = {
    "plain": {},
    "norm_before_residual": {"norm_before_residual": True},
    "norm_before_fc": {"norm_before_fc": True, "norm_before_residual": True},
    "fc_norm, norm_output": {"fc_norm": True, "norm_output": True},
}
SHAPES: dict[str, dict[str, Any]] = {
    "own embeddings, narrower": {"own_embeddings": True, "width": 24},
    "q and k norms, biases": {"qk_norms": True, "biases": True},
    "all tokens": {"drafted": 32},
    "two layers": {"layers": 2, "norm_output": True},
    "another base": {"rope": {"rope_theta": 300.0}},
    "new rope_parameters": {"rope": {"rope_parameters": {"rope_theta": 300.0}}},
}


@dataclasses.dataclass(frozen=True)
class Target:
    """A tiny target in both number formats, and transformers' own model of it."""

    folder: Path
    single: LoadedModel
    double: LoadedModel


@pytest.fixture(scope="module")
def targets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Target]:
    folder = tmp_path_factory.mktemp("targets")
    made = {
        "llama": llama(folder / "llama", seed=3, layers=LAYERS, mtp_layers=0),
        "qwen3": qwen3(folder / "qwen3", seed=4, layers=LAYERS),
    }
    return {
        name: Target(
            path, load_model(str(path), "cpu"), load_model(str(path), "cpu", dtype="float64")
        )
        for name, path in made.items()
    }


def check_probabilities(target: Target, head: Path, ids: tuple[int, ...]) -> None:
    """Every acceptance probability of every round start and step within 1e-5, at temperature 1:
    of the text's own token, and of any draft in its context.
    """
    texts = decode(target.double, None, PROMPTS[:2], k=0, new_tokens=NEW, seed=5).texts
    plan = DrafterPlan(str(head), 0, K)
    (scores,) = text_scores(target.double, [plan], texts, Sampling(1.0), overlaps=True)
    reference = Reference(head, target.double.model, ids)
    compared = 0
    for row, text in enumerate(texts):
        tokens = list(text.ids)
        with torch.no_grad():
            p = target.double.model(torch.tensor([tokens])).logits[0].softmax(-1)
        states = reference.states(tokens)
        for anchor in range(text.prompt_length - 1, len(tokens) - 2):
            read = tokens[: min(anchor + 1 + K, len(tokens) - 1)]
            for step, logits in enumerate(reference.laws(states, read, anchor)):
                at = anchor + 2 + step
                q = logits.softmax(-1)
                overlap = float(torch.minimum(q, p[at - 1]).sum())
                assert scores.overlaps["rejection"][row, step, at] == pytest.approx(
                    overlap, abs=1e-5
                )
                expected = min(1.0, float(q[tokens[at]] / p[at - 1, tokens[at]]))
                apart = float(scores.draft[row, step, at] - scores.target[row, at])
                assert min(1.0, math.exp(apart)) == pytest.approx(expected, abs=1e-5)
                compared += 1
    assert compared == sum(min(K, NEW - 1 - start) for start in range(NEW)) * len(texts)


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
    target.registered_drafters.clear()
    return folder


CONVENTIONS = {
    "outputs of layers": ("SpecForge", (1, 4, LAYERS)),
    "hidden_states": ("speculators", (0, 3, LAYERS)),
    "hidden_states in a flat file": ("SafeAILab", (1, 4)),
    "the usual ones, SpecForge": ("SpecForge", None),
    "the usual ones, speculators": ("speculators", None),
    "the usual ones, SafeAILab": ("SafeAILab", None),
}


@pytest.mark.parametrize(("packaging", "ids"), CONVENTIONS.values(), ids=CONVENTIONS)
@pytest.mark.parametrize("flags", FLAGS.values(), ids=FLAGS)
@pytest.mark.parametrize("name", ["llama", "qwen3"])
def test_every_acceptance_probability_is_that_of_the_definition(
    targets: dict[str, Target],
    tmp_path: Path,
    name: str,
    flags: dict[str, bool],
    packaging: str,
    ids: tuple[int, ...] | None,
) -> None:
    target = targets[name]
    head = write_head(tmp_path / "head", target.folder, packaging=packaging, ids=ids, **flags)
    check_probabilities(target, head, ids or USUAL)


@pytest.mark.parametrize("packaging", PACKAGINGS)
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_other_shapes_of_heads_are_those_of_the_definition(
    targets: dict[str, Target], tmp_path: Path, shape: dict[str, Any], packaging: str
) -> None:
    target = targets["llama"]
    head = write_head(tmp_path / "head", target.folder, packaging=packaging, **shape)
    check_probabilities(target, head, USUAL)


def test_queries_are_taken_a_few_at_a_time(
    targets: dict[str, Target], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = targets["llama"]
    monkeypatch.setattr(eagle3_forcing, "_SCORES", {"cpu": 300})
    check_probabilities(target, write_head(tmp_path / "head", target.folder), USUAL)


class LargestTensor(TorchFunctionMode):
    """Records how many numbers the largest tensor has that is computed."""

    numbers = 0

    def __torch_function__(
        self, function: Any, types: Any, arguments: Any = (), named: Any = None
    ) -> Any:
        result = function(*arguments, **(named or {}))
        if isinstance(result, torch.Tensor):
            self.numbers = max(self.numbers, result.numel())
        return result


def test_memory_grows_with_the_length_and_not_with_its_square(
    targets: dict[str, Target], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, length, scores = targets["llama"].single, 600, 60_000
    monkeypatch.setattr(eagle3_forcing, "_SCORES", {"cpu": scores})
    drafter = drafter_for(target, str(write_head(tmp_path / "head", targets["llama"].folder)), 0)
    assert isinstance(drafter, Eagle3Drafter)
    ids, states = torch.ones(1, length, dtype=torch.long), torch.ones(1, length, 96)
    with LargestTensor() as largest:
        assert len(list(teacher_forced_states(drafter.head, ids, states, 5))) == 5
    assert largest.numbers < 1.1 * scores < length**2


def test_a_row_drafts_as_alone_whatever_its_padding_holds(
    targets: dict[str, Target], tmp_path: Path
) -> None:
    target = targets["llama"].single
    drafter = drafter_for(target, str(write_head(tmp_path / "head", targets["llama"].folder)), 0)
    assert isinstance(drafter, Eagle3Drafter)
    texts, states = [[0, 5, 6], [0, 7, 8, 9, 10, 11]], torch.randn(2, 5, 96)
    states[0, :3] = torch.nan  # the shorter text has states at its last two columns
    together = drafts_of(drafter, texts, states)
    alone = drafts_of(drafter, texts[:1], states[:1, 3:])
    assert together[0].isfinite().any(-1).all()
    torch.testing.assert_close(together[:1], alone, rtol=1e-5, atol=1e-5)


def drafts_of(drafter: Eagle3Drafter, texts: list[list[int]], states: torch.Tensor) -> torch.Tensor:
    """(rows, 3, vocabulary): logits of three drafts, each the arg-max."""
    sequences, chain = Sequences(texts, 4, torch.device("cpu")), Eagle3Chain(drafter.head)
    chain.begin(sequences, states)
    steps = []
    for step in range(3):
        steps.append(chain.step())
        sequences.put(step, steps[-1].argmax(-1))
    return torch.stack(steps, 1)


def serial_rounds(
    target: Target, reference: Reference, prompt: list[int], new: int
) -> tuple[list[int], list[Round]]:
    """Greedy speculative decoding of one text by whole passes of the target and the definition."""

    def choices(ids: list[int]) -> list[int]:
        with torch.no_grad():
            found: list[int] = (
                target.double.model(torch.tensor([ids])).logits[0].argmax(-1).tolist()
            )
        return found

    ids, limit, rounds = [*prompt, choices(prompt)[-1]], len(prompt) + new, []
    while (left := limit - len(ids)) > 0:
        states, drafts = reference.states(ids), []
        while len(drafts) < (K if left >= K else left - 1):
            laws = reference.laws(states, [*ids, *drafts], len(ids) - 2)
            drafts.append(int(laws[-1].argmax()))
        verified = choices([*ids, *drafts])[len(ids) - 1 :]
        accepted = 0
        while accepted < len(drafts) and drafts[accepted] == verified[accepted]:
            accepted += 1
        rounds.append(Round(len(ids), len(drafts), accepted))
        ids += verified[: accepted + 1]
    return ids[:limit], rounds


@pytest.mark.parametrize("name", ["llama", "qwen3"])
@pytest.mark.parametrize("flags", FLAGS.values(), ids=FLAGS)
def test_at_temperature_0_decode_and_replay_are_serial_decoding(
    targets: dict[str, Target], tmp_path: Path, name: str, flags: dict[str, bool]
) -> None:
    target, new = targets[name], 16
    head = str(write_head(tmp_path / "head", target.folder, **flags))
    reference = Reference(Path(head), target.double.model, USUAL)
    serial = [serial_rounds(target, reference, prompt, new) for prompt in PROMPTS]
    options = {"k": K, "temperature": 0}
    for batch_size in (1, len(PROMPTS)):
        decoded = decode(
            target.double, head, PROMPTS, new_tokens=new, batch_size=batch_size, **options
        )
        assert [list(text.ids) for text in decoded.texts] == [ids for ids, _ in serial]
        assert [list(rounds) for rounds in decoded.rounds] == [rounds for _, rounds in serial]
        counts = replay(target.double, head, decoded.texts, **options)
        for field in ("rounds", "drafted", "accepted"):
            assert np.array_equal(getattr(counts, field), getattr(decoded.counts, field)), field


@pytest.mark.parametrize("rule", ["rejection", "sample-match", "block"])
@pytest.mark.parametrize("sampling", [Sampling(1.0), FILTERED], ids=lambda given: given.suffix)
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


def test_a_token_that_the_head_does_not_have_is_never_drafted(
    targets: dict[str, Target], tmp_path: Path
) -> None:
    target = targets["llama"]
    head = write_head(tmp_path / "head", target.folder)
    tokens = [0, *range(2, 32), *range(31, 1, -1)]
    texts = texts_from_ids([tokens], [3])
    (scores,) = text_scores(target.single, [DrafterPlan(str(head), 0, K)], texts, Sampling(1.0))
    drafted = set(torch.nonzero(load_file(head / "model.safetensors")["t2d"])[:, 0].tolist())
    for at in range(8, len(tokens)):
        assert all(np.isfinite(scores.draft[0, :, at])) == (tokens[at] in drafted)
        assert all(np.isneginf(scores.draft[0, :, at])) == (tokens[at] not in drafted)


def test_a_head_in_half_precision_follows_its_target(
    targets: dict[str, Target], tmp_path: Path
) -> None:
    head = write_head(tmp_path / "head", targets["llama"].folder)
    target = load_model(str(targets["llama"].folder), "cpu", "bfloat16")
    decoded = decode(target, str(head), PROMPTS, k=K, new_tokens=NEW)
    assert decoded.counts.drafted.sum() > 0
    (loaded,) = target.registered_drafters.values()
    assert {tensor.dtype for tensor in loaded.head.state_dict().values()} == {torch.bfloat16}


def test_its_fingerprint_is_that_of_its_files(targets: dict[str, Target], tmp_path: Path) -> None:
    target = targets["llama"]
    prints = {}
    for name, seed, flags in (("a", 0, {}), ("b", 0, {}), ("c", 1, {}), ("d", 0, NORMED)):
        head = write_head(tmp_path / name, target.folder, seed=seed, **flags)
        drafter = drafter_for(target.single, str(head), 0)
        prints[name] = drafter.fingerprint()
    assert prints["a"] == prints["b"]
    assert len(set(prints.values())) == 3


@pytest.mark.parametrize(
    ("named", "depth", "message"),
    [
        ("eagle3", 0, "eagle3 drafts with a head's files; name its folder: eagle3:FOLDER"),
        ("HEAD", 2, "depth 2: an EAGLE-3 head has no MTP layers; use --specdec-depth=0"),
    ],
)
def test_what_a_head_cannot_do_is_refused_before_the_target_is_loaded(
    targets: dict[str, Target],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    named: str,
    depth: int,
    message: str,
) -> None:
    folder = targets["llama"].folder
    drafter = named.replace("HEAD", str(write_head(tmp_path / "head", folder)))
    monkeypatch.setattr(
        "pytest_specdec.decoding.loading.load_model", lambda *arguments: pytest.fail("loaded")
    )
    with pytest.raises(RequestError, match=message):
        decode(str(folder), drafter, PROMPTS, k=K, depth=depth)


def test_a_head_as_the_target_is_refused(targets: dict[str, Target], tmp_path: Path) -> None:
    head = write_head(tmp_path / "head", targets["llama"].folder)
    with pytest.raises(RequestError, match=f"name it as the drafter: --specdec-draft={head}"):
        load_model(str(head))


def test_rotary_parameters_that_transformers_does_not_take_are_refused(
    targets: dict[str, Target], tmp_path: Path
) -> None:
    rope = {"rope_theta": 10000.0, "rope_scaling": {"rope_type": "llama3"}}
    head = write_head(tmp_path / "head", targets["llama"].folder, rope=rope)
    with pytest.raises(RequestError, match=r"names rotary parameters that .*; correct them"):
        drafter_for(targets["llama"].single, str(head), 0)


def test_a_scaled_rotation_is_that_of_transformers(
    targets: dict[str, Target], tmp_path: Path
) -> None:
    scaled = {"rope_type": "linear", "factor": 4.0}
    head = write_head(
        tmp_path / "head",
        targets["llama"].folder,
        rope={"rope_theta": 300.0, "rope_scaling": scaled},
    )
    drafter = drafter_for(targets["llama"].single, str(head), 0)
    assert isinstance(drafter, Eagle3Drafter)
    positions = torch.arange(8)[None]
    cos, _ = drafter.head._rotary(torch.zeros(1), position_ids=positions)
    pairs = 300.0 ** (-torch.arange(4) / 4)
    expected = (positions[0, :, None] / 4.0 * pairs).cos()
    torch.testing.assert_close(cos[0], torch.cat([expected, expected], -1))


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
