"""The oracle: a right engine agrees with its models, a broken one is found on its own texts,
without any baseline.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.support import EMBEDDED, add_noise
from helpers.tiers import crossed, exhaustive
from transformers.generation import candidate_generator, utils

from pytest_specdec.acceptance.counts import Counts
from pytest_specdec.acceptance.renewal import AcceptanceField, sample_rounds
from pytest_specdec.acceptance.rounds import Round
from pytest_specdec.acceptance.sum_distribution import SumDistribution, sum_distribution
from pytest_specdec.cases.case import Case, TextKey
from pytest_specdec.cases.drafter import parse_drafter
from pytest_specdec.common.errors import RequestError, SpecdecError
from pytest_specdec.engines.adapter_api import (
    CountingConvention,
    EngineSetup,
    Reported,
    ReportedRound,
    Totals,
)
from pytest_specdec.engines.adapters.transformers import TransformersAdapter
from pytest_specdec.engines.counting import deviations
from pytest_specdec.engines.counting import oracle as judged
from pytest_specdec.engines.counting.deviations import Deviation, deviations_of
from pytest_specdec.engines.counting.normalise import Definition
from pytest_specdec.engines.counting.oracle import Agreement
from pytest_specdec.engines.counting.possible_rounds import CountedRun, Walk
from pytest_specdec.engines.external import ExternalEngine
from pytest_specdec.engines.model_checks import conformance, oracle
from pytest_specdec.engines.models import ModelPool
from pytest_specdec.engines.own.decode_engine import DecodeEngine

PROMPTS = EMBEDDED.parent / "engines" / "prompts.jsonl"
DRAFT = str(EMBEDDED / "text-draft")
ALPHA = 1e-3


def case(
    drafter: str = DRAFT,
    k: int = 3,
    temperature: float = 1.0,
    engine: str = "transformers",
    prompts: int = 8,
) -> Case:
    texts = TextKey("engines", str(EMBEDDED / "text-target"), PROMPTS, prompts, 64, temperature, 0)
    rule = "rejection" if temperature else "greedy"
    return Case(
        texts=texts,
        drafter=parse_drafter(drafter),
        label="draft",
        k=k,
        depth=3 if drafter == "mtp" else 0,
        rule=rule,
        margin=0.005,
        engine=engine,
    )


@pytest.fixture(scope="module")
def engine() -> ExternalEngine:
    return ExternalEngine("transformers", ModelPool("cpu"))


@pytest.fixture(scope="module")
def worse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The draft with one perturbed tensor, as a bad conversion or a stale file would give."""
    folder = tmp_path_factory.mktemp("perturbed") / "worse"
    return add_noise(Path(DRAFT), folder, 1.0, only="layers.0.mlp.down_proj")


@pytest.fixture(scope="module")
def perturbed(engine: ExternalEngine, worse: Path) -> ExternalEngine:
    """An engine that drafts with it; its runs are kept for all tests."""
    return with_draft(engine, worse)


def with_draft(engine: ExternalEngine, draft: Path) -> ExternalEngine:
    """An engine that drafts with other weights than it says."""
    broken = ExternalEngine("transformers", engine.models)
    load = lambda name: engine.models.model(str(draft) if name == DRAFT else name)  # noqa: E731
    broken.adapter = TransformersAdapter(EngineSetup(device="cpu", model=load))
    return broken


@crossed(
    drafting=[(DRAFT, 3), ("mtp", 3), (DRAFT, 5), ("prompt-lookup", 4)],
    temperature=[0.0, 1.0],
    ids=str,
)
def test_transformers_counts_what_its_models_imply(
    engine: ExternalEngine, drafting: tuple[str, int], temperature: float
) -> None:
    drafter, k = drafting
    measured = case(Path(drafter).name if drafter != DRAFT else DRAFT, k, temperature)
    agreement = oracle(engine, measured, ALPHA)
    assert agreement.agrees, agreement.message
    assert agreement.exact == (temperature == 0 or drafter == "prompt-lookup")
    assert agreement.rounds > 50
    if agreement.exact:
        assert (agreement.z, agreement.p_value, agreement.differences) == (0, 1, ())
    assert conformance(engine, measured, ALPHA).conforms


@pytest.mark.parametrize("drafter", [DRAFT, "mtp"])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_our_own_decoder_does_too(drafter: str, temperature: float) -> None:
    measured = case(drafter, 3, temperature, "decode")
    agreement = oracle(DecodeEngine(ModelPool("cpu")), measured, ALPHA)
    assert agreement.agrees, agreement.message


@pytest.mark.parametrize("temperature", [exhaustive(0.0), 1.0])
def test_a_draft_with_one_perturbed_tensor_is_found(
    perturbed: ExternalEngine, temperature: float
) -> None:
    """The engine's draft, not the oracle's."""
    agreement = oracle(perturbed, case(temperature=temperature, prompts=20), ALPHA)
    assert not agreement.agrees
    assert "below its models" in agreement.message or agreement.exact or agreement.worst.impossible
    assert "check that the engine's drafter holds the weights named here" in agreement.message
    assert conformance(
        perturbed, case(temperature=temperature, prompts=20), ALPHA
    ).conforms  # its texts are right all the same


@pytest.mark.parametrize("temperature", [0.0, exhaustive(1.0)])
def test_heads_that_draft_from_stale_hidden_states_are_found(
    monkeypatch: pytest.MonkeyPatch, temperature: float
) -> None:
    heads = candidate_generator.MTPCandidateGenerator
    whole: Callable[..., Any] = heads.get_candidates

    def stale(self: Any, input_ids: torch.Tensor, *, model_outputs: Any = None, **rest: Any) -> Any:
        if model_outputs is not None:
            states = model_outputs.hidden_states
            model_outputs.hidden_states = tuple(
                state if state is None else state.roll(1, dims=1) for state in states
            )
        return whole(self, input_ids, model_outputs=model_outputs, **rest)

    monkeypatch.setattr(heads, "get_candidates", stale)
    agreement = oracle(
        ExternalEngine("transformers", ModelPool("cpu")),
        case("mtp", 3, temperature, prompts=20 if temperature else 8),
        ALPHA,
    )
    assert not agreement.agrees
    assert agreement.counted < agreement.expected


def test_an_acceptance_test_that_lets_too_much_pass_is_found(
    engine: ExternalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its uniform draws are squared: a draft passes with the square root of its chance. Bugs can
    raise acceptance, too.
    """
    uniform = torch.rand_like
    monkeypatch.setattr(
        utils.torch, "rand_like", lambda *given, **named: uniform(*given, **named) ** 2
    )
    broken = with_draft(engine, Path(DRAFT))
    agreement = oracle(broken, case(prompts=20), ALPHA)
    assert not agreement.agrees
    assert agreement.z > 3
    assert "above its models; check that its drafts are drawn from the q" in agreement.message


def test_sums_alone_are_judged_too(
    engine: ExternalEngine, perturbed: ExternalEngine, worse: Path
) -> None:
    """What llama.cpp's timings or a server's counters give: fewer facts, the same judgement."""
    for maker, agrees, prompts in ((engine, True, 8), (perturbed, False, 20)):
        for temperature in (0.0, 1.0):
            measured = case(temperature=temperature, prompts=prompts)
            maker._latest(measured)
            summed = with_draft(engine, worse)
            summed._runs[measured] = dataclasses.replace(
                maker._runs[measured],
                reported=[sums(text) for text in maker._runs[measured].reported],
            )
            agreement = oracle(summed, measured, ALPHA)
            assert agreement.agrees == agrees, agreement.message


def sums(text: Reported) -> Reported:
    assert text.rounds is not None
    totals = Totals(
        rounds=len(text.rounds),
        drafted=sum(one_round.drafted for one_round in text.rounds),
        accepted=sum(one_round.accepted for one_round in text.rounds),
    )
    return dataclasses.replace(text, rounds=None, totals=totals)


def test_the_first_round_that_differs_is_named(engine: ExternalEngine) -> None:
    measured = case(temperature=0.0)
    run = engine._latest(measured)
    first = run.reported[2]
    assert first.rounds is not None
    at = next(
        number
        for number, one_round in enumerate(first.rounds)
        if one_round.accepted == 2 and first.rounds[number + 1].drafted == 3
    )
    moved = list(first.rounds)
    moved[at], moved[at + 1] = (
        moved[at]._replace(accepted=1),
        moved[at + 1]._replace(accepted=moved[at + 1].accepted),
    )
    wrong = dataclasses.replace(first, rounds=tuple(moved))
    broken = ExternalEngine("transformers", engine.models)
    broken._runs[measured] = dataclasses.replace(
        run, reported=[*run.reported[:2], wrong, *run.reported[3:]]
    )
    agreement = oracle(broken, measured, ALPHA)
    assert agreement.differences[0].round == at
    assert f"round {at} of prompt {first.key}" in agreement.message
    assert "accepts 1 tokens and not 2" in agreement.message


def test_a_close_call_is_no_difference(
    perturbed: ExternalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two drafts within a logit's precision: another order of summation may take the other one."""
    monkeypatch.setattr(judged, "TOLERANCES", {torch.float32: 1e6, torch.bfloat16: 1e6})
    agreement = oracle(perturbed, case(temperature=0.0, prompts=20), ALPHA)
    assert agreement.agrees
    assert agreement.ties > 0
    assert f"{agreement.ties} within rounding" in agreement.message


def test_a_synthetic_mode_is_named_and_refused(engine: ExternalEngine) -> None:
    measured = case(temperature=0.0)
    run = engine._latest(measured)
    faked = ExternalEngine("transformers", engine.models)
    altered = [
        dataclasses.replace(text, altered="synthetic acceptance 0.8") for text in run.reported
    ]
    faked._runs[measured] = faked._uncounted[measured] = dataclasses.replace(run, reported=altered)
    for judge in (oracle, conformance):
        with pytest.raises(
            RequestError,
            match=r"runs synthetic acceptance 0\.8, so its texts and counts .*; turn that off, or "
            r"leave",
        ):
            judge(faked, measured, ALPHA)
    assert faked.measure(measured).altered == "synthetic acceptance 0.8"


def test_texts_without_token_ids_cannot_be_replayed(engine: ExternalEngine) -> None:
    measured = case(temperature=0.0)
    run = engine._latest(measured)
    silent = ExternalEngine("transformers", engine.models)
    without_ids = [
        dataclasses.replace(text, new_ids=(), emitted=text.tokens) for text in run.reported
    ]
    silent._runs[measured] = dataclasses.replace(run, reported=without_ids)
    with pytest.raises(
        SpecdecError, match="comes without token ids, and only these can be replayed"
    ):
        oracle(silent, measured, ALPHA)


LENGTH, FIRST = 48, 4


def played_text(row: int, rounds: list[tuple[int, int]], k: int, end: str) -> Reported:
    """An engine's report of rounds (start, accepted) played on a text of fixed length."""
    reported_rounds = tuple(
        ReportedRound(min(k, LENGTH - start - 1) if end == "clip" else k, taken)
        for start, taken in rounds
    )
    convention = CountingConvention(end="clipped" if end == "clip" else "full", counts_empty=True)
    return Reported(
        key=str(row),
        prompt_ids=(1,) * (FIRST - 1),
        new_ids=(2,) * (LENGTH - FIRST + 1),
        convention=convention,
        rounds=reported_rounds,
    )


def counts_of(runs: list[list[tuple[int, int]]], names: tuple[str, ...], k: int) -> Counts:
    rounds = np.array([len(played) for played in runs], dtype=float)
    accepted = np.array(
        [[sum(taken > step for _, taken in played) for step in range(k)] for played in runs],
        dtype=float,
    )
    return Counts(names, names, rounds, accepted, accepted)


@pytest.fixture(scope="module", params=["inside", "clip"])
def fixed_texts(request: pytest.FixtureRequest) -> tuple[AcceptanceField, str]:
    """Acceptance of six texts, and how their ends are counted."""
    accept = np.random.default_rng(3).beta(1.2, 0.8, (6, 1, LENGTH))
    names = tuple(map(str, range(6)))
    return AcceptanceField(
        names, ("all",) * 6, accept, np.full(6, FIRST), np.full(6, LENGTH)
    ), request.param


def judged_play(
    field: AcceptanceField, end: str, runs: list[list[tuple[int, int]]], k: int = 3
) -> Agreement:
    """What the oracle says of rounds that were played on the texts of a field."""
    counted, proposed = field.rounds_at(k, end)
    walk = Walk(
        field=field,
        proposed=proposed,
        survival=field.survival(proposed, k),
        played=counted,
        counted=counted,
    )
    reported = [played_text(row, played, k, end) for row, played in enumerate(runs)]
    judged = CountedRun(
        case=case(k=k),
        reported=reported,
        categories=["all"] * 6,
        definition=Definition(end=end),
        counts=counts_of(runs, field.prompts, k),
    )
    return Agreement(
        engine="mine",
        alpha=0.01,
        texts=6,
        rounds=0,
        counted=2.0,
        expected=2.0,
        deviations=deviations_of(judged, walk),
    )


def test_a_right_engine_disagrees_as_often_as_it_may(
    fixed_texts: tuple[AcceptanceField, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rounds played at random on fixed texts, whose sums have one distribution in all runs; the
    level holds for the sum, each position and all together.
    """
    kept: dict[tuple[bytes, ...], SumDistribution] = {}

    def once(*arrays: np.ndarray) -> SumDistribution:
        key = tuple(array.tobytes() for array in arrays)
        return kept[key] if key in kept else kept.setdefault(key, sum_distribution(*arrays))

    monkeypatch.setattr(deviations, "sum_distribution", once)
    field, end = fixed_texts
    rng = np.random.default_rng(3)
    agreements = [judged_play(field, end, sample_rounds(field, 3, rng, end)) for _ in range(150)]
    z = np.array([agreement.z for agreement in agreements])
    assert abs(z.mean()) < 0.2
    assert abs(z.std() - 1) < 0.15
    for level in (0.05, 0.2):
        most = level + 3 * math.sqrt(level / len(agreements))
        assert np.mean([agreement.p_value <= level for agreement in agreements]) <= most
        for number, share in enumerate((0.625, 0.125, 0.125, 0.125)):
            judged_alone = [agreement.deviations[number] for agreement in agreements]
            assert [agreement.share for agreement in judged_alone] == pytest.approx(
                [share] * len(judged_alone)
            )
            assert np.mean([agreement.p_value <= level for agreement in judged_alone]) <= most


def test_opposite_errors_at_two_positions_are_found(
    fixed_texts: tuple[AcceptanceField, str],
) -> None:
    """The first position accepts too much and the second too little, so that the length is about
    right.
    """
    field, end = fixed_texts
    flat = dataclasses.replace(field, accept=np.full_like(field.accept, 0.6))
    rng = np.random.default_rng(5)

    def play(chances: tuple[float, ...]) -> list[list[tuple[int, int]]]:
        counted, proposed = flat.rounds_at(3, end)
        runs = []
        for row in range(6):
            start, rounds = FIRST, []
            while start < LENGTH and counted[row, start]:
                coins = rng.random(3) < np.array(chances)
                taken = min(int(coins.cumprod().sum()), int(proposed[row, start]))
                rounds.append((start, taken))
                start += taken + 1
            runs.append(rounds)
        return runs

    right, wrong = (
        judged_play(flat, end, play((0.6, 0.6, 0.6))),
        judged_play(flat, end, play((0.9, 0.25, 0.6))),
    )
    assert right.agrees
    assert not wrong.agrees
    assert wrong.deviations[0].adjusted > wrong.alpha  # the sum alone sees nothing
    assert wrong.worst.position in (1, 2)
    assert f"draft position {wrong.worst.position}" in wrong.message


def test_the_exact_distribution_decides_earlier_than_a_bound() -> None:
    """At level 0.00125, as in a suite of eight cases; tokens that are needed grow with the square
    of z.
    """
    field = AcceptanceField(
        tuple(map(str, range(20))),
        ("all",) * 20,
        np.full((20, 1, 64), 0.7),
        np.full(20, 1),
        np.full(20, 64),
    )
    counted, proposed = field.rounds_at(3, "clip")
    rounds = np.ones((20, 64, 4), dtype=int)
    distribution = sum_distribution(field.survival(proposed, 3), field.starts, counted, rounds)
    sums = distribution.least + np.arange(len(distribution.chances)) - distribution.mean
    tilts = np.linspace(0, 1, 400)[:, None]
    chernoff = np.log(
        np.exp(tilts * sums) @ distribution.chances
    )  # log of the moment generating function, by tilt
    bounds = [2 * math.exp(float((chernoff - tilts[:, 0] * excess).min())) for excess in sums]
    exact = [distribution.p_value(round(distribution.mean + excess)) for excess in sums]
    needed = [
        min(
            z
            for z, p in zip(sums / distribution.deviation, p_values, strict=True)
            if z > 0 and p <= 0.00125
        )
        for p_values in (exact, bounds)
    ]
    assert needed[0] < 3.4
    assert needed[1] / needed[0] > 1.1


def test_an_agreement_says_what_it_found() -> None:
    sum_alone = Deviation(position=None, z=-3.5, p_value=0.00025, share=0.5)
    agreement = Agreement(
        engine="mine",
        alpha=0.01,
        texts=4,
        rounds=100,
        counted=1.9,
        expected=2.1,
        deviations=(sum_alone,),
    )
    assert not agreement.agrees
    assert agreement.message.startswith(
        "mine counts an acceptance length of 1.9000 where its models imply 2.1000 on the same "
        "texts "
        "(z -3.5, p 0.0005), so it is below its models; check that"
    )
    second = Deviation(position=2, z=4.0, p_value=0.00003, share=0.25, counted=0.6, expected=0.5)
    both = dataclasses.replace(
        agreement, deviations=(dataclasses.replace(sum_alone, p_value=0.5, z=-0.7), second)
    )
    assert both.message.startswith(
        "mine counts an acceptance length of 1.9000 where its models imply 2.1000 on the same "
        "texts (z -0.7), and draft "
        "position 2 accepts 60.00% of its drafts and not 50.00%, is above its models (z +4.0, p "
        "0.0001); check that"
    )
    assert dataclasses.replace(
        agreement, deviations=(dataclasses.replace(sum_alone, p_value=0.01),)
    ).agrees


def test_a_rejection_of_what_q_makes_likelier_than_p_is_found(
    fixed_texts: tuple[AcceptanceField, str],
) -> None:
    """One may be rounding, several are a wrong residual; a last token that is called rejected is
    none.
    """
    field, end = fixed_texts
    sure = np.zeros(field.accept.shape, dtype=bool)
    sure[0, 0, [8, 12, 16, LENGTH - 1]] = True
    runs = sample_rounds(field, 3, np.random.default_rng(1), end)
    counted, proposed = field.rounds_at(3, end)
    walk = Walk(
        field=field,
        proposed=proposed,
        survival=field.survival(proposed, 3),
        played=counted,
        counted=counted,
        sure=sure,
    )

    def deviation_of(rejected: list[int]) -> Deviation:
        rounds = [(start, 0) for start in rejected]
        reported = [
            played_text(row, rounds if row == 0 else mismatch, 3, end)
            for row, mismatch in enumerate(runs)
        ]
        starts = iter(rejected)
        with (
            pytest.MonkeyPatch.context() as patch
        ):  # rounds of the first text stand where they are put
            whole = deviations.starts_of
            patch.setattr(
                deviations,
                "starts_of",
                lambda mismatch: (
                    [Round(next(starts), 3, 0) for _ in rounds]
                    if mismatch.key == "0"
                    else whole(mismatch)
                ),
            )
            return deviations._impossible(
                CountedRun(
                    case=case(),
                    reported=reported,
                    categories=["all"] * 6,
                    definition=Definition(end=end),
                    counts=counts_of(runs, field.prompts, 3),
                ),
                walk,
                sure,
            )

    assert deviation_of([10, 20]).impossible == ()
    assert deviation_of([10, 20]).p_value == 1
    assert deviation_of([8, LENGTH - 1]).adjusted > 0.001
    impossible = deviation_of([8, 12, 16])
    assert [mismatch.position for mismatch in impossible.impossible] == [8, 12, 16]
    assert impossible.adjusted < 1e-6
    message = Agreement(
        engine="mine",
        alpha=0.01,
        texts=6,
        rounds=9,
        counted=2.0,
        expected=2.1,
        deviations=(Deviation(None, -1.0, 0.3, 0.8), impossible),
    ).message
    assert (
        "rejects 3 drafts where the text goes on with a token that q makes at least as likely as p"
        in message
    )
    assert "first in round 0 of prompt 0, at position 8" in message
