"""Rounds with block drafters: replay's expectation against enumeration and against counted rounds."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.block_reference import BlockReference
from helpers.blocks import KINDS, write_block
from helpers.eagle3 import PROMPTS, Target, make_targets

from pytest_specdec import replay
from pytest_specdec.cases.case import Sampling
from pytest_specdec.cases.texts import texts_from_ids
from pytest_specdec.decoding.decode import decode
from pytest_specdec.decoding.replay import DrafterPlan, text_scores

pytestmark = pytest.mark.slow

IDS = (1, 4)
FORMS = ("DFlash, z-lab", "DSpark, DeepSpec", "DSpark, SpecForge, rnn", "Domino, shifted")


@pytest.fixture(scope="module")
def targets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Target]:
    return make_targets(tmp_path_factory.mktemp("targets"))


@pytest.mark.parametrize("form", FORMS)
def test_survival_is_the_sum_over_all_texts(
    targets: dict[str, Target], tmp_path: Path, form: str
) -> None:
    """The chance that a round of two drafts has one and both accepted, summed over every draft that
    the drafter can make, is the mean of replay's over every text that the target can write.
    """
    target = targets["llama"].double
    folder = write_block(tmp_path / "head", targets["llama"].folder, *KINDS[form])
    prompt, vocabulary = [0, 5, 6, 7], 32  # its last token stands for the first new one
    tokens = torch.arange(vocabulary)
    ids = [[*prompt, one, two] for one, two in itertools.product(range(vocabulary), repeat=2)]
    with torch.no_grad():
        first = target.model(torch.tensor([prompt])).logits[0, -1].softmax(-1)
        pairs = torch.cat([torch.tensor(prompt).expand(vocabulary, -1), tokens[:, None]], 1)
        second = target.model(pairs).logits[:, -1].softmax(-1)
    reference = BlockReference(folder, target.model, IDS)
    states = reference.states(prompt)
    q = reference.logits(states, prompt, 3, 2, []).softmax(-1)
    alive = torch.minimum(first, q)
    both = 0.0
    for token in range(vocabulary):
        after = reference.logits(states, prompt, 3, 2, [token]).softmax(-1)
        both += float(alive[token] * torch.minimum(second[token], after).sum())

    texts = texts_from_ids(ids, [3] * len(ids))
    (scores,) = text_scores(target, [DrafterPlan(str(folder), 0, 2)], texts, Sampling(1.0))
    accept = scores.field("rejection").accept  # (texts, drafts, position)
    weights = (first[:, None] * second).flatten().numpy()
    assert (weights * accept[:, 0, 4]).sum() == pytest.approx(float(alive.sum()), abs=1e-6)
    assert (weights * accept[:, 0, 4] * accept[:, 1, 5]).sum() == pytest.approx(both, abs=1e-6)


@pytest.mark.parametrize("form", FORMS)
def test_at_temperature_1_counts_agree_with_replay(
    targets: dict[str, Target], tmp_path: Path, form: str
) -> None:
    """What rounds accepted less what replay expects on the texts that they emitted has mean 0 in
    each text: within three standard errors of the sum over texts, at each position.
    """
    target = targets["llama"].single
    folder = write_block(tmp_path / "head", targets["llama"].folder, *KINDS[form])
    decoded = decode(target, str(folder), PROMPTS * 15, k=3, new_tokens=24, seed=3, batch_size=60)
    expected = replay(target, str(folder), decoded.texts, k=3)
    apart = decoded.counts.accepted - expected.accepted
    assert decoded.counts.total_rounds > 700
    errors = np.sqrt((apart**2).sum(0))
    assert (abs(apart.sum(0)) <= 3 * errors).all()
