"""P-EAGLE heads against their definition, written out one start and one step at a time."""

from __future__ import annotations

import math
from collections.abc import Generator
from pathlib import Path

import pytest
import torch
from helpers.eagle3 import (
    PROMPTS,
    USUAL,
    Target,
    edit_tensors,
    make_targets,
    write_masked_head,
)
from helpers.eagle3_reference import Reference

from pytest_specdec import replay
from pytest_specdec.cases.case import Sampling
from pytest_specdec.common.errors import RequestError
from pytest_specdec.decoding.decode import decode
from pytest_specdec.decoding.replay import DrafterPlan, text_scores

K, NEW = 3, 7


class MaskedReference(Reference):
    """Every draft step after the first reads the mask and its learnt state."""

    def steps(
        self, states: torch.Tensor, tokens: list[int], anchor: int
    ) -> Generator[torch.Tensor, int, None]:
        mask = self.fused(self.weights["mask_hidden"][0, 0])
        chain = [(tokens[anchor + 1], self.fused(states[anchor]), anchor)]
        targets = torch.arange(len(self.weights["lm_head.weight"])) + self.weights["d2t"]
        while True:
            state = self.decoded(states, tokens, anchor, chain)
            logits = torch.full((self.vocabulary,), -torch.inf, dtype=torch.float64)
            logits[targets] = self.linear("lm_head", self.norm("norm", state))
            yield logits
            chain.append((self.config["mask_token_id"], mask, anchor + len(chain)))


@pytest.fixture(scope="module")
def targets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Target]:
    return make_targets(tmp_path_factory.mktemp("targets"))


def write_masked(folder: Path, target: Target, packaging: str, **fields: object) -> Path:
    return write_masked_head(folder, target.folder, packaging, **fields)


@pytest.mark.parametrize("packaging", ["SpecForge", "speculators"])
def test_every_acceptance_probability_is_that_of_the_definition(
    targets: dict[str, Target], tmp_path: Path, packaging: str
) -> None:
    target = targets["llama"].double
    head = write_masked(tmp_path / "head", targets["llama"], packaging)
    texts = decode(target, None, PROMPTS[:2], k=0, new_tokens=NEW, seed=5, batch_size=1).texts
    (scores,) = text_scores(target, [DrafterPlan(str(head), 0, K)], texts, Sampling(1.0))
    reference = MaskedReference(head, target.model, USUAL)
    for row, text in enumerate(texts):
        tokens = list(text.ids)
        states = reference.states(tokens)
        for anchor in range(text.prompt_length - 1, len(tokens) - 2):
            steps = reference.steps(states, tokens, anchor)
            for step in range(min(K, len(tokens) - 2 - anchor)):
                at = anchor + 2 + step
                q = float(next(steps).softmax(-1)[tokens[at]])
                assert math.exp(scores.draft[row, step, at]) == pytest.approx(q, abs=1e-5)


def test_decode_drafts_what_replay_scores_at_temperature_0(
    targets: dict[str, Target], tmp_path: Path
) -> None:
    target = targets["llama"].double
    head = write_masked(tmp_path / "head", targets["llama"], "speculators")
    for batch_size in (1, len(PROMPTS)):
        decoded = decode(
            target, str(head), PROMPTS, k=K, temperature=0, new_tokens=20, batch_size=batch_size
        )
        counts = replay(target, str(head), decoded.texts, k=K, temperature=0)
        assert counts.accepted.tolist() == decoded.counts.accepted.tolist()
        assert counts.rounds.tolist() == decoded.counts.rounds.tolist()


def test_a_smaller_k_is_a_prefix(targets: dict[str, Target], tmp_path: Path) -> None:
    target = targets["llama"].single
    head = write_masked(tmp_path / "head", targets["llama"], "speculators")
    texts = decode(target, None, PROMPTS, k=0, new_tokens=10).texts
    plans = [DrafterPlan(str(head), 0, k) for k in (2, 4)]
    small, large = text_scores(target, plans, texts, Sampling(1.0))
    assert (small.draft == large.draft[:, :2]).all()


REFUSED = {
    "no mask token": ({"mask_token_id": None}, "names the mask token as {}"),
    "two mask tokens": ({"pard_token": 3}, "names the mask token as"),
    "a mask without an embedding": ({"mask_token_id": 32}, "the mask has no embedding"),
    "EAGLE-3 by the algorithm": (
        {"speculators_config": {"algorithm": "eagle3"}},
        "'eagle3' of a P-EAGLE head",
    ),
}


@pytest.mark.parametrize(("fields", "message"), REFUSED.values(), ids=REFUSED)
def test_heads_that_do_not_say_what_they_read_are_refused(
    targets: dict[str, Target], tmp_path: Path, fields: dict[str, object], message: str
) -> None:
    head = write_masked(tmp_path / "head", targets["llama"], "speculators", **fields)
    with pytest.raises(RequestError, match=message):
        decode(targets["llama"].single, str(head), PROMPTS, k=2, new_tokens=4)


def test_more_drafts_than_trained_and_a_missing_state_are_refused(
    targets: dict[str, Target], tmp_path: Path
) -> None:
    target = targets["llama"].single
    head = write_masked(tmp_path / "head", targets["llama"], "speculators")
    with pytest.raises(RequestError, match="trained to draft 5 tokens"):
        decode(target, str(head), PROMPTS, k=6, new_tokens=12)
    edit_tensors(head, mask_hidden=None)
    with pytest.raises(RequestError, match="lacks the tensor mask_hidden"):
        decode(target, str(head), PROMPTS, k=5, new_tokens=12)
