"""The oracle: a right engine agrees with its models, a broken one is found on its own texts, without any baseline."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support import EMBEDDED, add_noise
from transformers.generation import candidate_generator, utils

from pytest_specdec.acceptance.case import Case, TextKey
from pytest_specdec.acceptance.counts import Counts
from pytest_specdec.acceptance.renewal import AcceptanceField, sample_rounds
from pytest_specdec.engines import oracle
from pytest_specdec.engines.decode import DecodeEngine
from pytest_specdec.engines.foreign import ForeignEngine
from pytest_specdec.engines.normalise import Definition
from pytest_specdec.engines.oracle import Agreement, Judged
from pytest_specdec.engines.reported import Manner, Reported, Setup, Totals
from pytest_specdec.engines.transformers import TransformersAdapter
from pytest_specdec.errors import RequestError, SpecdecError

PROMPTS = EMBEDDED.parent / "engines" / "prompts.jsonl"
DRAFT = str(EMBEDDED / "text-draft")
ALPHA = 1e-3


def case(drafter: str = DRAFT, k: int = 3, temperature: float = 1.0, engine: str = "transformers", prompts: int = 8) -> Case:
    texts = TextKey("engines", str(EMBEDDED / "text-target"), PROMPTS, prompts, 64, temperature, 0)
    rule = "rejection" if temperature else "greedy"
    return Case(texts, drafter, "draft", k, 3 if drafter == "mtp" else 0, rule, 0.005, engine=engine)


@pytest.fixture(scope="module")
def engine() -> ForeignEngine:
    return ForeignEngine("transformers", device="cpu")


def with_draft(engine: ForeignEngine, draft: Path) -> ForeignEngine:
    """An engine that drafts with other weights than it says."""
    broken = ForeignEngine("transformers", device="cpu")
    broken.local = engine.local
    load = lambda name: engine.model(str(draft) if name == DRAFT else name)  # noqa: E731
    broken.adapter = TransformersAdapter(Setup(device="cpu", model=load))
    return broken


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize(("drafter", "k"), [(DRAFT, 3), (DRAFT, 5), ("mtp", 3), ("prompt-lookup", 4)], ids=str)
def test_transformers_counts_what_its_models_imply(engine: ForeignEngine, drafter: str, k: int, temperature: float) -> None:
    own = case(Path(drafter).name if drafter != DRAFT else DRAFT, k, temperature)
    found = engine.oracle(own, ALPHA)
    assert found.agrees, found.message
    assert found.exact == (temperature == 0 or drafter == "prompt-lookup")
    assert found.rounds > 50
    if found.exact:
        assert (found.z, found.p_value, found.differences) == (0, 1, ())
    assert engine.conformance(own, ALPHA).conforms


@pytest.mark.parametrize("drafter", [DRAFT, "mtp"])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_our_own_decoder_does_too(drafter: str, temperature: float) -> None:
    own = case(drafter, 3, temperature, "decode")
    found = DecodeEngine([own], device="cpu").oracle(own, ALPHA)
    assert found.agrees, found.message


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_draft_with_one_perturbed_tensor_is_found(engine: ForeignEngine, tmp_path: Path, temperature: float) -> None:
    """The engine's draft, not the oracle's: as a bad conversion or a stale file would give."""
    worse = add_noise(Path(DRAFT), tmp_path / "worse", 1.0, only="layers.0.mlp.down_proj")
    broken = with_draft(engine, worse)
    found = broken.oracle(case(temperature=temperature, prompts=20), ALPHA)
    assert not found.agrees
    assert "below its models" in found.message or found.exact
    assert "check that the engine's drafter holds the weights named here" in found.message
    assert broken.conformance(case(temperature=temperature, prompts=20), ALPHA).conforms  # its texts are right all the same


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_heads_that_draft_from_stale_hidden_states_are_found(monkeypatch: pytest.MonkeyPatch, temperature: float) -> None:
    heads = candidate_generator.MTPCandidateGenerator
    whole: Callable[..., Any] = heads.get_candidates

    def stale(self: Any, input_ids: torch.Tensor, *, model_outputs: Any = None, **rest: Any) -> Any:
        if model_outputs is not None:
            states = model_outputs.hidden_states
            model_outputs.hidden_states = tuple(state if state is None else state.roll(1, dims=1) for state in states)
        return whole(self, input_ids, model_outputs=model_outputs, **rest)

    monkeypatch.setattr(heads, "get_candidates", stale)
    found = ForeignEngine("transformers", device="cpu").oracle(case("mtp", 3, temperature, prompts=20), ALPHA)
    assert not found.agrees
    assert found.counted < found.expected


def test_an_acceptance_test_that_lets_too_much_pass_is_found(engine: ForeignEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its uniform draws are squared: a draft passes with the square root of its chance. Bugs can raise acceptance, too."""
    uniform = torch.rand_like
    monkeypatch.setattr(utils.torch, "rand_like", lambda *given, **named: uniform(*given, **named) ** 2)
    broken = with_draft(engine, Path(DRAFT))
    found = broken.oracle(case(prompts=20), ALPHA)
    assert not found.agrees
    assert found.z > 4
    assert "above its models; check that its drafts are drawn from the q" in found.message


def test_sums_alone_are_judged_too(engine: ForeignEngine, tmp_path: Path) -> None:
    """What llama.cpp's timings or a server's counters give: fewer facts, the same judgement."""
    worse = add_noise(Path(DRAFT), tmp_path / "worse", 1.0, only="layers.0.mlp.down_proj")
    for maker, agrees in ((engine, True), (with_draft(engine, worse), False)):
        for temperature in (0.0, 1.0):
            own = case(temperature=temperature, prompts=20)
            maker._latest(own)
            summed = with_draft(engine, worse)
            summed._made[own] = dataclasses.replace(maker._made[own], reported=[sums(one) for one in maker._made[own].reported])
            found = summed.oracle(own, ALPHA)
            assert found.agrees == agrees, found.message


def sums(one: Reported) -> Reported:
    assert one.rounds is not None
    totals = Totals(len(one.rounds), sum(own.drafted for own in one.rounds), sum(own.accepted for own in one.rounds))
    return dataclasses.replace(one, rounds=None, totals=totals)


def test_the_first_round_that_differs_is_named(engine: ForeignEngine) -> None:
    own = case(temperature=0.0)
    run = engine._latest(own)
    first = run.reported[2]
    assert first.rounds is not None
    at = next(number for number, one in enumerate(first.rounds) if one.accepted == 2 and first.rounds[number + 1].drafted == 3)
    moved = list(first.rounds)
    moved[at], moved[at + 1] = moved[at]._replace(accepted=1), moved[at + 1]._replace(accepted=moved[at + 1].accepted)
    wrong = dataclasses.replace(first, rounds=tuple(moved))
    broken = ForeignEngine("transformers", device="cpu")
    broken.local = engine.local
    broken._made[own] = dataclasses.replace(run, reported=[*run.reported[:2], wrong, *run.reported[3:]])
    found = broken.oracle(own, ALPHA)
    assert found.differences[0].round == at
    assert f"round {at} of prompt {first.key}" in found.message
    assert "accepts 1 tokens and not 2" in found.message


def test_a_close_call_is_no_difference(engine: ForeignEngine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Two drafts within a logit's precision: another order of summation may take the other one."""
    worse = add_noise(Path(DRAFT), tmp_path / "worse", 1.0, only="layers.0.mlp.down_proj")
    monkeypatch.setattr(oracle, "TOLERANCES", {torch.float32: 1e6, torch.bfloat16: 1e6})
    found = with_draft(engine, worse).oracle(case(temperature=0.0), ALPHA)
    assert found.agrees
    assert found.ties > 0
    assert f"{found.ties} within rounding" in found.message


def test_a_synthetic_mode_is_named_and_refused(engine: ForeignEngine) -> None:
    own = case(temperature=0.0)
    run = engine._latest(own)
    faked = ForeignEngine("transformers", device="cpu")
    faked.local = engine.local
    altered = [dataclasses.replace(one, altered="synthetic acceptance 0.8") for one in run.reported]
    faked._made[own] = faked._uncounted[own] = dataclasses.replace(run, reported=altered)
    for judge in (faked.oracle, faked.conformance):
        with pytest.raises(
            RequestError, match=r"runs synthetic acceptance 0\.8, so neither its texts .*; turn that off, or leave"
        ):
            judge(own, ALPHA)
    assert faked.measure(own).altered == "synthetic acceptance 0.8"


def test_texts_without_token_ids_cannot_be_replayed(engine: ForeignEngine) -> None:
    own = case(temperature=0.0)
    run = engine._latest(own)
    silent = ForeignEngine("transformers", device="cpu")
    silent.local = engine.local
    told = [dataclasses.replace(one, new_ids=(), emitted=one.tokens) for one in run.reported]
    silent._made[own] = dataclasses.replace(run, reported=told)
    with pytest.raises(SpecdecError, match="comes without token ids, and only these can be replayed"):
        silent.oracle(own, ALPHA)


def test_z_is_about_standard_normal() -> None:
    """Rounds played at random on fixed texts, judged by both kinds of counts."""
    rng, k, texts, length = np.random.default_rng(3), 3, 6, 48
    accept = rng.beta(1.2, 0.8, (texts, 1, length))
    names = tuple(map(str, range(texts)))
    field = AcceptanceField(names, ("all",) * texts, accept, np.full(texts, 4), np.full(texts, length))
    found: dict[str, list[float]] = {}
    for end in ("inside", "clip"):
        counted, proposed = field.rounds_at(k, end)
        walk = oracle._Walk(field, proposed, field.survival(proposed, k), counted, counted)
        moments = walk.moments()
        definition = Definition(end)
        for _ in range(600):
            played = sample_rounds(field, k, rng, end)
            rounds = np.array([len(one) for one in played], dtype=float)
            accepted = np.array([[sum(taken > step for _, taken in one) for step in range(k)] for one in played], dtype=float)
            counts = Counts(names, names, rounds, accepted, accepted)
            one = Judged(case(), [Reported("0", (1,), (2,), Manner())], ["all"], definition, counts)
            z, chance = oracle._excess(one, walk, moments)
            found.setdefault(end, []).append(z)
            # The bound is a little above the normal tail, and never far below it.
            assert chance >= 0.5 * math.erfc(abs(z) / math.sqrt(2))
    for end, values in found.items():
        z = np.array(values)
        assert abs(z.mean()) < 0.1, end
        assert abs(z.std() - 1) < 0.12, end
        assert np.mean(abs(z) > 2.576) < 0.03, end


def test_an_agreement_says_what_it_found() -> None:
    found = Agreement("mine", 0.01, 4, 100, 1.9, 2.1, z=-3.5, chance=0.0005)
    assert not found.agrees
    assert found.message.startswith(
        "mine counts an acceptance length of 1.9000 where its models imply 2.1000 on the same texts "
        "(z -3.5, p 0.0005), so it is below its models; check that"
    )
    assert dataclasses.replace(found, chance=0.02).agrees
