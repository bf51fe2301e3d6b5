"""EAGLE-3 heads against their definition, written out one start and one step at a time."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.costs import LargestTensor, operations
from helpers.eagle3 import (
    FLAGS,
    LAYERS,
    PACKAGINGS,
    PROMPTS,
    USUAL,
    Target,
    edit_tensors,
    make_targets,
    write_head,
)
from helpers.eagle3_reference import Reference
from helpers.tiers import crossed
from safetensors.torch import load_file

from pytest_specdec.cases.case import Sampling
from pytest_specdec.cases.texts import texts_from_ids
from pytest_specdec.common.errors import RequestError
from pytest_specdec.decoding.decode import decode
from pytest_specdec.decoding.drafters import eagle3_forcing
from pytest_specdec.decoding.drafters.eagle3 import Eagle3Drafter
from pytest_specdec.decoding.drafters.eagle3_cache import Eagle3Chain
from pytest_specdec.decoding.drafters.eagle3_forcing import teacher_forced_states
from pytest_specdec.decoding.drafters.registry import drafter_for
from pytest_specdec.decoding.loading import LoadedModel, load_model
from pytest_specdec.decoding.ragged import Sequences
from pytest_specdec.decoding.replay import DrafterPlan, text_scores

K, NEW = 4, 12
SHAPES: dict[str, dict[str, Any]] = {
    "own embeddings, narrower": {"own_embeddings": True, "width": 24},
    "q and k norms, biases": {"qk_norms": True, "biases": True},
    "all tokens": {"drafted": 32},
    "two layers": {"layers": 2, "norm_output": True},
    "another base": {"rope": {"rope_theta": 300.0}},
    "new rope_parameters": {"rope": {"rope_parameters": {"rope_theta": 300.0}}},
    "neighbours rotated": {"rope": {"rope_theta": 300.0, "rope_interleave": True}},
    "half rotated": {"rope": {"rope_theta": 300.0, "partial_rotary_factor": 0.5}},
    "half rotated, of neighbours, q and k norms": {
        "rope": {
            "rope_parameters": {"rope_theta": 300.0, "partial_rotary_factor": 0.5},
            "rope_interleave": True,
        },
        "qk_norms": True,
    },
}


@pytest.fixture(scope="module")
def targets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Target]:
    return make_targets(tmp_path_factory.mktemp("targets"))


def check_probabilities(
    target: LoadedModel, head: Path, ids: tuple[int, ...], layers: Any = None
) -> None:
    """Every acceptance probability of every round start and step within 1e-5, at temperature 1:
    of the text's own token, and of any draft in its context.
    """
    texts = decode(target, None, PROMPTS[:2], k=0, new_tokens=NEW, seed=5, batch_size=1).texts
    plan = DrafterPlan(str(head), 0, K)
    (scores,) = text_scores(target, [plan], texts, Sampling(1.0), overlaps=True)
    reference = Reference(head, target.model, ids, layers)
    compared = 0
    for row, text in enumerate(texts):
        tokens = list(text.ids)
        with torch.no_grad():
            p = target.model(torch.tensor([tokens])).logits[0].softmax(-1)
        states = reference.states(tokens)
        for anchor in range(text.prompt_length - 1, len(tokens) - 2):
            read = tokens[: min(anchor + 1 + K, len(tokens) - 1)]
            for step, logits in enumerate(reference.logits(states, read, anchor)):
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


CONVENTIONS = {
    "outputs of layers": ("SpecForge", (1, 4, LAYERS)),
    "hidden_states": ("speculators", (0, 3, LAYERS)),
    "hidden_states in a flat file": ("SafeAILab", (1, 4)),
    "the usual ones, SpecForge": ("SpecForge", None),
    "the usual ones, speculators": ("speculators", None),
    "the usual ones, SafeAILab": ("SafeAILab", None),
}


@crossed(name=["llama", "qwen3"], flags=FLAGS, convention=CONVENTIONS)
def test_every_acceptance_probability_is_that_of_the_definition(
    targets: dict[str, Target],
    tmp_path: Path,
    name: str,
    flags: str,
    convention: str,
) -> None:
    target, (packaging, ids) = targets[name], CONVENTIONS[convention]
    head = write_head(
        tmp_path / "head", target.folder, packaging=packaging, ids=ids, **FLAGS[flags]
    )
    check_probabilities(target.double, head, ids or USUAL)


@crossed(shape=SHAPES, packaging=PACKAGINGS)
def test_other_shapes_of_heads_are_those_of_the_definition(
    targets: dict[str, Target], tmp_path: Path, shape: str, packaging: str
) -> None:
    target = targets["llama"]
    head = write_head(tmp_path / "head", target.folder, packaging=packaging, **SHAPES[shape])
    check_probabilities(target.double, head, USUAL)


def test_queries_are_taken_a_few_at_a_time(
    targets: dict[str, Target], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = targets["llama"]
    monkeypatch.setattr(eagle3_forcing, "_SCORES", {"cpu": 300})
    check_probabilities(target.double, write_head(tmp_path / "head", target.folder), USUAL)


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


def test_operations_grow_with_the_steps_and_with_the_square_of_the_length(
    targets: dict[str, Target], tmp_path: Path
) -> None:
    target = targets["llama"].single
    drafter = drafter_for(target, str(write_head(tmp_path / "head", targets["llama"].folder)), 0)
    assert isinstance(drafter, Eagle3Drafter)

    def cost(length: int, steps: int) -> int:
        ids, states = torch.ones(1, length, dtype=torch.long), torch.ones(1, length, 96)
        return operations(lambda: list(teacher_forced_states(drafter.head, ids, states, steps)))

    assert cost(512, 17) - cost(512, 1) < 4.5 * (cost(512, 5) - cost(512, 1))
    assert cost(1024, 5) < 4.2 * cost(512, 5)


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


def test_a_head_of_all_tokens_in_another_order_is_the_same_head(
    targets: dict[str, Target], tmp_path: Path
) -> None:
    target = targets["llama"].single
    vocabulary = target.checkpoint.vocabulary
    assert vocabulary is not None
    whole = write_head(tmp_path / "whole", targets["llama"].folder, drafted=vocabulary)
    mixed = shutil.copytree(whole, tmp_path / "mixed")
    order = torch.randperm(vocabulary, generator=torch.Generator().manual_seed(1))
    lm_head = load_file(whole / "model.safetensors")["lm_head.weight"][order]
    edit_tensors(mixed, d2t=order - torch.arange(vocabulary), **{"lm_head.weight": lm_head})
    texts = decode(target, str(whole), PROMPTS, k=K, new_tokens=NEW).texts
    plans = [DrafterPlan(str(head), 0, K) for head in (whole, mixed)]
    scores, others = text_scores(target, plans, texts, Sampling(1.0))
    np.testing.assert_allclose(others.draft, scores.draft, atol=1e-5)


def test_a_head_in_half_precision_follows_its_target(
    targets: dict[str, Target], tmp_path: Path
) -> None:
    head = write_head(tmp_path / "head", targets["llama"].folder)
    target = load_model(str(targets["llama"].folder), "cpu", "bfloat16")
    decoded = decode(target, str(head), PROMPTS, k=K, new_tokens=NEW)
    assert decoded.counts.drafted.sum() > 0
    ((_, loaded),) = target.registered_drafters.values()
    assert {tensor.dtype for tensor in loaded.head.state_dict().values()} == {torch.bfloat16}


def test_its_fingerprint_is_that_of_its_files(targets: dict[str, Target], tmp_path: Path) -> None:
    target = targets["llama"]
    prints = {}
    for name, seed, flags in (
        ("a", 0, {}),
        ("b", 0, {}),
        ("c", 1, {}),
        ("d", 0, FLAGS["norm_before_residual"]),
    ):
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


def test_weights_that_are_not_finite_are_refused_by_name(
    targets: dict[str, Target], tmp_path: Path
) -> None:
    head = write_head(tmp_path / "head", targets["llama"].folder)
    fc = load_file(head / "model.safetensors")["fc.weight"].clone()
    fc[0, 0] = torch.nan
    edit_tensors(head, **{"fc.weight": fc})
    with pytest.raises(RequestError, match=f"fc.weight of {head} holds NaN or infinite numbers"):
        drafter_for(targets["llama"].single, str(head), 0)


def test_rotary_parameters_that_lack_some_are_refused(
    targets: dict[str, Target], tmp_path: Path
) -> None:
    rope = {"rope_theta": 10000.0, "rope_scaling": {"rope_type": "llama3"}}
    head = write_head(tmp_path / "head", targets["llama"].folder, rope=rope)
    with pytest.raises(RequestError, match="says rope_type: 'llama3' without factor; add it"):
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
