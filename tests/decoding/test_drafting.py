"""Drafts drawn in another way than the target's tokens: decode and replay both do so, and the
text stays the target's.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from decoding.test_sampled_distribution import (
    FLOOR,
    PLAIN,
    PROMPT,
    RUNS,
    exact_distribution,
    p_value,
    tokens_first,
)
from helpers.residual_heads import write_medusa
from helpers.serial_drafting import PROMPTS, check_sampled_rounds
from helpers.support import add_noise, llama
from helpers.tiers import crossed

from pytest_specdec import replay
from pytest_specdec.acceptance.renewal import sample_rounds
from pytest_specdec.cases.case import Sampling
from pytest_specdec.cases.drafting import parse_drafting
from pytest_specdec.decoding.decode import decode
from pytest_specdec.decoding.loading import LoadedModel, load_model
from pytest_specdec.decoding.replay import DrafterPlan, text_scores

pytestmark = pytest.mark.slow

WAYS = ("argmax", "unfiltered", "temperature=0.4", "temperature=2,unfiltered")
FILTERED = Sampling(0.8, 12, 0.9)
OPTIONS = {"temperature": FILTERED.temperature, "top_k": FILTERED.top_k, "top_p": FILTERED.top_p}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return llama(tmp_path_factory.mktemp("models") / "target", seed=3, mtp_layers=0)


@pytest.fixture(scope="module")
def target(folder: Path) -> LoadedModel:
    return load_model(str(folder), "cpu")


@pytest.fixture(scope="module")
def draft(folder: Path) -> LoadedModel:
    return load_model(str(add_noise(folder, folder.parent / "draft", 0.4)), "cpu")


def written_out(logits: torch.Tensor, way: str) -> torch.Tensor:
    """q (..., vocabulary) by the definition; p where the way is `target`."""
    if way == "argmax":
        return torch.nn.functional.one_hot(logits.argmax(-1), logits.shape[-1]).double()
    temperature = {"unfiltered": 0.8, "target": 0.8, "temperature=0.4": 0.4}.get(way, 2.0)
    q = (logits.double() / temperature).softmax(-1)
    if "unfiltered" in way:
        return q
    best = q.topk(FILTERED.top_k).indices
    q = torch.zeros_like(q).scatter(-1, best, q.gather(-1, best))
    q = q / q.sum(-1, keepdim=True)
    order = q.sort(descending=True)
    kept = order.values.cumsum(-1) - order.values < FILTERED.top_p
    q = torch.zeros_like(q).scatter(-1, order.indices, order.values * kept)
    return q / q.sum(-1, keepdim=True)


@pytest.mark.parametrize("way", WAYS)
def test_replay_scores_the_drafts_of_the_definition(
    target: LoadedModel, draft: LoadedModel, way: str
) -> None:
    texts = decode(target, None, PROMPTS, k=0, new_tokens=12, **OPTIONS).texts
    plan = DrafterPlan(draft, 0, 3, drafting=parse_drafting(way))
    (scores,) = text_scores(target, [plan], texts, FILTERED, overlaps=True)
    for row, text in enumerate(texts):
        ids = torch.tensor([text.ids])
        with torch.no_grad():
            q = written_out(draft.model(ids).logits[0, :-1], way)
            p = written_out(target.model(ids).logits[0, :-1], "target")
        for at in range(text.prompt_length, len(text.ids)):
            token = text.ids[at]
            assert np.exp(scores.draft[row, 0, at]) == pytest.approx(
                float(q[at - 1, token]), abs=1e-5
            )
            overlap = float(torch.minimum(p[at - 1], q[at - 1]).sum())
            assert scores.overlaps["rejection"][row, 0, at] == pytest.approx(overlap, abs=1e-5)


@crossed(way=WAYS, rule=["rejection", "sample-match", "block"])
def test_decoded_rounds_are_those_that_replay_expects(
    target: LoadedModel, draft: LoadedModel, way: str, rule: str
) -> None:
    check_sampled_rounds(target, draft, 3, texts=120, rule=rule, drafting=way, **OPTIONS)


def test_heads_draft_so_too(target: LoadedModel, folder: Path, tmp_path: Path) -> None:
    heads = write_medusa(tmp_path / "heads", folder)
    check_sampled_rounds(target, str(heads), 3, drafting="argmax", temperature=0.5)


def test_with_certain_drafts_the_text_decides_the_rounds(
    target: LoadedModel, draft: LoadedModel
) -> None:
    options = {"k": 3, "drafting": "argmax", "temperature": 1.0}
    decoded = decode(target, draft, PROMPTS * 4, new_tokens=20, seed=3, **options)
    plan = DrafterPlan(draft, 0, 3, drafting=parse_drafting("argmax"))
    (scores,) = text_scores(target, [plan], decoded.texts, Sampling(1.0))
    expected = sample_rounds(scores.field("rejection"), 3, np.random.default_rng(0), "clip")
    found = [
        [(played.start, played.accepted) for played in rounds if played.drafted]
        for rounds in decoded.rounds
    ]
    assert found == [
        [pair for pair in rounds if pair[0] < len(text.ids)]
        for rounds, text in zip(expected, decoded.texts, strict=True)
    ]


def test_each_way_gives_another_acceptance_and_as_the_target_none(
    target: LoadedModel, draft: LoadedModel
) -> None:
    texts = decode(target, None, PROMPTS * 8, k=0, new_tokens=20, **OPTIONS).texts
    lengths = [
        replay(target, draft, texts, k=3, drafting=way, **OPTIONS).acceptance_length
        for way in (None, *WAYS)
    ]
    assert len({round(length, 3) for length in lengths}) == len(lengths)
    same = replay(target, draft, texts, k=3, drafting="temperature=0.8", **OPTIONS)
    assert same.acceptance_length == lengths[0]


@pytest.mark.slow
@pytest.mark.parametrize("way", ["argmax", "temperature=2,unfiltered"])
def test_the_text_stays_the_targets(tmp_path: Path, way: str) -> None:
    folder = llama(
        tmp_path / "narrow", seed=5, vocabulary=7, width=16, layers=1, context=32, mtp_layers=0
    )
    target = load_model(str(folder), "cpu")
    draft = load_model(str(add_noise(folder, tmp_path / "draft", 1.0)), "cpu")
    seen = tokens_first(
        decode(
            target,
            draft,
            [PROMPT] * RUNS,
            k=2,
            new_tokens=5,
            batch_size=2500,
            seed=11,
            drafting=way,
        )
    )
    assert p_value(seen, exact_distribution(target, PLAIN)) > FLOOR
