"""Both engines of this process: one replay pass for all cases, texts reused or sampled; decoding
that counts its own.
"""

from __future__ import annotations

import dataclasses
import gc
import itertools
import json
import shutil
import weakref
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from acceptance.test_interleaved import brute_force
from helpers.support import edit_config, letter_tokenizer, llama
from transformers import PreTrainedModel, TopKLogitsWarper, TopPLogitsWarper

from pytest_specdec.acceptance.lookup import LookupIndex
from pytest_specdec.acceptance.renewal import AcceptanceField, expected_counts
from pytest_specdec.acceptance.text_origin import Origin
from pytest_specdec.cases.case import LOOKUP, OWN_HEADS, Case, JudgedRange, TextKey
from pytest_specdec.cases.prompts import read_prompts
from pytest_specdec.checkpoints import checkpoint
from pytest_specdec.common.errors import MeasurementError, RequestError
from pytest_specdec.decoding import loading, timing
from pytest_specdec.decoding.decode import Decoded, decode
from pytest_specdec.decoding.loading import LoadedModel, load_model
from pytest_specdec.engines.external import ExternalEngine
from pytest_specdec.engines.fingerprints import template_of
from pytest_specdec.engines.model_checks import conformance
from pytest_specdec.engines.models import ModelPool
from pytest_specdec.engines.own import replay_engine as replay
from pytest_specdec.engines.own.decode_engine import DecodeEngine
from pytest_specdec.engines.own.replay_engine import ReplayEngine
from pytest_specdec.engines.protocol import Measurement
from pytest_specdec.gate.comparability import incomparable
from pytest_specdec.judging.comparison import Run
from pytest_specdec.lossless.texts import conformance as texts_judged
from pytest_specdec.records.text_set import TextSet

WORDS = ("apple", "banana", "cherry", "elder")


@pytest.fixture
def case(tiny_target: Path, tiny_draft: Path, tmp_path: Path) -> Case:
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text(
        "".join(json.dumps({"category": "fruit", "prompt": word}) + "\n" for word in WORDS)
    )
    texts = TextKey("suite", str(tiny_target), prompts, None, 24, 1.0, 0)
    return Case(
        texts=texts,
        drafter=str(tiny_draft),
        label="draft",
        k=4,
        depth=0,
        rule="rejection",
        margin=0.01,
    )


@pytest.fixture
def made_up_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Accept texts of a pattern that the target would not emit: what counts here is which positions
    are judged.
    """
    monkeypatch.setattr(Origin, "check", lambda self: None)


def grid(case: Case, *cells: tuple[int, int]) -> list[Case]:
    return [dataclasses.replace(case, k=k, depth=depth) for k, depth in cells]


def test_one_pass_serves_every_k_and_depth(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    passes = []
    measure = replay.text_scores
    monkeypatch.setattr(
        replay,
        "text_scores",
        lambda *args, **options: passes.append(args) or measure(*args, **options),
    )
    cases = grid(case, (4, 0), (4, 2), (8, 0), (8, 2))
    engine = ReplayEngine(cases, ModelPool("cpu"))
    lengths = [engine.measure(variant).counts.acceptance_length for variant in cases]
    assert len(passes) == 1
    assert len(set(lengths)) == 4


def test_a_case_measures_the_same_alone_and_in_a_grid(case: Case) -> None:
    cases = grid(case, (4, 0), (4, 2), (8, 0), (8, 2))
    together = ReplayEngine(cases, ModelPool("cpu"))
    for variant in cases:
        alone = ReplayEngine([variant], ModelPool("cpu")).measure(variant)
        np.testing.assert_allclose(
            alone.counts.accepted, together.measure(variant).counts.accepted, atol=1e-5
        )


def test_own_heads_share_the_texts_and_reuse_their_last_layer(case: Case) -> None:
    heads = dataclasses.replace(case, drafter="mtp", label="mtp", depth=2)
    cases = [*grid(case, (4, 0)), *grid(heads, (2, 2), (6, 2))]
    engine = ReplayEngine(cases, ModelPool("cpu"))
    short, long = (engine.measure(variant) for variant in cases[1:])
    assert short.text_fingerprints == engine.measure(cases[0]).text_fingerprints
    assert long.counts.acceptance_length > short.counts.acceptance_length


def stored(case: Case) -> TextSet:
    return ReplayEngine([case], ModelPool("cpu")).measure(case).texts


def test_stored_texts_are_used_as_they_are(case: Case) -> None:
    texts = stored(case)
    first = next(iter(texts.texts))
    kept = msgspec.structs.replace(texts, texts={**texts.texts, first: tuple(range(2, 26))})
    used = ReplayEngine([case], ModelPool("cpu"), stored_texts=lambda key: kept).measure(case)
    assert used.texts.fits(kept)
    assert used.texts.texts == kept.texts
    assert {key: len(values) for key, values in used.texts.logprobs.items()} == {
        key: len(new) for key, new in kept.texts.items()
    }


def test_only_missing_texts_are_sampled(case: Case) -> None:
    texts = stored(case)
    keys = sorted(texts.texts)
    part = msgspec.structs.replace(texts, texts={key: texts.texts[key] for key in keys[:3]})
    used = ReplayEngine([case], ModelPool("cpu"), stored_texts=lambda key: part).measure(case).texts
    assert set(used.texts) == set(keys)
    assert all(used.texts[key] == texts.texts[key] for key in keys[:3])


def test_texts_of_another_target_are_not_used(case: Case, tmp_path: Path) -> None:
    other = llama(tmp_path / "other", seed=9)
    elsewhere = dataclasses.replace(case, texts=dataclasses.replace(case.texts, target=str(other)))
    texts = stored(case)
    used = (
        ReplayEngine([elsewhere], ModelPool("cpu"), stored_texts=lambda key: texts)
        .measure(elsewhere)
        .texts
    )
    assert used.target != texts.target
    assert used.texts != texts.texts


def test_a_bad_drafter_fails_alone(case: Case, tmp_path: Path) -> None:
    bad = edit_config(llama(tmp_path / "bad", seed=3, mtp_layers=0), num_mtp_layers=2)
    broken = dataclasses.replace(case, drafter=str(bad), label="bad", depth=2)
    engine = ReplayEngine([case, broken], ModelPool("cpu"))
    assert engine.measure(case).counts.total_rounds > 0
    with pytest.raises(RequestError, match="hold none"):
        engine.measure(broken)


def test_a_model_that_cannot_be_had_is_tried_once(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[str] = []

    def unreachable(name: str, device: str, dtype: str) -> LoadedModel:
        tried.append(name)
        raise RequestError(f"{name!r} is not a folder here; check the name")

    monkeypatch.setattr(loading, "load_model", unreachable)
    engine = ReplayEngine([case], ModelPool("cpu"))
    for k in (2, 3):
        with pytest.raises(RequestError, match="is not a folder here; check the name"):
            engine.measure(dataclasses.replace(case, k=k))
    assert tried == [case.target]


def test_texts_too_short_for_a_round_are_an_error(case: Case) -> None:
    (long,) = grid(case, (40, 0))
    with pytest.raises(MeasurementError, match=r"raise --specdec-new-tokens"):
        ReplayEngine([long], ModelPool("cpu")).measure(long)


def with_texts(case: Case, **changes: object) -> Case:
    return dataclasses.replace(case, texts=dataclasses.replace(case.texts, **changes))


def prompt_ids() -> list[list[int]]:
    return [letter_tokenizer()(word)["input_ids"] for word in WORDS]


def whole_texts(measured: Measurement) -> list[list[int]]:
    """The replayed texts, prompts in the order of the counts."""
    assert measured.texts is not None
    return [
        [*ids, *measured.texts.texts[key]]
        for ids, key in zip(prompt_ids(), measured.counts.prompts, strict=True)
    ]


@torch.inference_mode()
def next_distributions(model: PreTrainedModel, text: Sequence[int], key: TextKey) -> torch.Tensor:
    """The distribution of each token of a text but the first, by transformers' own filters."""
    ids = torch.tensor([text])
    logits = model(ids).logits[0, :-1] / key.temperature
    if key.top_k:
        logits = TopKLogitsWarper(key.top_k)(ids, logits)
    if key.top_p < 1:
        logits = TopPLogitsWarper(key.top_p)(ids, logits)
    return logits.double().softmax(-1)


SAMPLINGS = [{}, {"top_k": 4}, {"top_p": 0.6, "temperature": 0.8}]


@pytest.mark.parametrize(
    "sampling", SAMPLINGS, ids=lambda sampling: "-".join(sampling) or "unfiltered"
)
@pytest.mark.parametrize("rule", ["rejection", "sample-match", "block"])
def test_a_rules_counts_follow_from_p_and_q_of_the_texts(
    case: Case, rule: str, sampling: dict[str, float]
) -> None:
    case = with_texts(dataclasses.replace(case, rule=rule), **sampling)
    measured = ReplayEngine([case], ModelPool("cpu")).measure(case)
    target, draft = (load_model(path, "cpu").model for path in (case.target, case.drafter))
    texts, starts = whole_texts(measured), [len(ids) + 1 for ids in prompt_ids()]
    accept = np.zeros((len(texts), 1, max(map(len, texts))))
    for row, (text, start) in enumerate(zip(texts, starts, strict=True)):
        tokens = torch.tensor(text[start:])[:, None]
        p, q = (
            next_distributions(model, text, case.texts)[start - 1 :].gather(1, tokens)[:, 0].numpy()
            for model in (target, draft)
        )
        assert (p > 0).all()
        accept[row, 0, start : len(text)] = {
            "rejection": np.minimum(q / p, 1),
            "sample-match": q,
            "block": q / p,
        }[rule]
    names, lengths = measured.counts.prompts, np.array(list(map(len, texts)))
    field = AcceptanceField(
        names, ("fruit",) * len(names), accept, np.array(starts), lengths, joint=rule == "block"
    )
    wanted = expected_counts(field, 4)
    np.testing.assert_allclose(measured.counts.accepted, wanted.accepted, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(measured.counts.rounds, wanted.rounds, rtol=1e-4)


def test_rules_share_one_pass_and_are_ordered(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    passes = []
    measure = replay.text_scores
    monkeypatch.setattr(
        replay,
        "text_scores",
        lambda *args, **options: passes.append(args) or measure(*args, **options),
    )
    cases = [
        dataclasses.replace(case, rule=rule) for rule in ("sample-match", "rejection", "block")
    ]
    engine = ReplayEngine(cases, ModelPool("cpu"))
    lengths = [engine.measure(variant).counts.acceptance_length for variant in cases]
    assert len(passes) == 1
    assert lengths == sorted(set(lengths))


def lookup_case(case: Case, **changes: object) -> Case:
    return dataclasses.replace(case, drafter=LOOKUP, label=LOOKUP, **changes)


def looked_up(text: Sequence[int], start: int, k: int) -> tuple[int, list[int], list[int]]:
    """Rounds, drafts and accepted drafts by position, played one by one; nothing is random given
    the text.
    """
    rounds, drafted, accepted = 0, [0] * k, [0] * k
    while start + k <= len(text):
        drafts = LookupIndex(text[:start]).propose(k)
        equal = [draft == token for draft, token in zip(drafts, text[start:], strict=False)]
        taken = equal.index(False) if False in equal else len(equal)
        for step in range(k):
            drafted[step] += step < len(drafts)
            accepted[step] += step < taken
        rounds, start = rounds + 1, start + taken + 1
    return rounds, drafted, accepted


@pytest.mark.parametrize("rule", ["rejection", "sample-match", "block", "greedy"])
def test_prompt_lookup_is_replayed_round_for_round(case: Case, rule: str) -> None:
    """Its drafts are certain, so every lossless rule accepts the text's own tokens and nothing
    else.
    """
    case = with_texts(case, temperature=0.0 if rule == "greedy" else 0.4, new_tokens=60)
    wide, narrow = (lookup_case(case, rule=rule, k=k) for k in (5, 2))
    engine = ReplayEngine([wide, narrow], ModelPool("cpu"))
    for variant in (wide, narrow):
        measured = engine.measure(variant)
        texts = zip(whole_texts(measured), prompt_ids(), strict=True)
        rounds, drafted, accepted = zip(
            *(looked_up(text, len(ids) + 1, variant.k) for text, ids in texts), strict=True
        )
        assert measured.counts.rounds.tolist() == list(rounds)
        assert measured.counts.drafted.tolist() == list(drafted)
        assert measured.counts.accepted.tolist() == list(accepted)
        assert (
            0
            < measured.counts.accepted.sum()
            < measured.counts.drafted.sum()
            < variant.k * measured.counts.total_rounds
        )


def test_prompt_lookup_shares_texts_with_models_and_is_known_by_its_ngram(case: Case) -> None:
    cases = [case, lookup_case(case)]
    engine = ReplayEngine(cases, ModelPool("cpu"))
    model, copied = (engine.measure(variant) for variant in cases)
    assert copied.texts == model.texts
    assert copied.fingerprints.target == model.fingerprints.target
    assert copied.fingerprints.drafter == "prompt-lookup-2"
    assert Run(cases[1], [copied], engine="replay").record.conditions.drafter == LOOKUP


def test_texts_are_sampled_with_the_filter_they_are_scored_with(case: Case) -> None:
    filtered = with_texts(case, top_k=3)
    engine = ReplayEngine([case, filtered], ModelPool("cpu"))
    free, few = engine.measure(case), engine.measure(filtered)
    assert (few.texts.top_k, few.texts.top_p, free.texts.top_k) == (3, 1.0, 0)
    target = engine.models.model(case.target).model
    least = []
    for measured in (few, free):
        distributions = [
            (next_distributions(target, text, filtered.texts), text)
            for text in whole_texts(measured)
        ]
        least.append(
            min(
                distribution[at - 1, text[at]].item()
                for distribution, text in distributions
                for at in range(len(text) - 24, len(text))
            )
        )
    assert least[0] > 0
    assert least[1] == 0


def test_texts_of_another_filter_are_not_used(case: Case) -> None:
    texts = stored(case)
    filtered = with_texts(case, top_p=0.5)
    used = (
        ReplayEngine([filtered], ModelPool("cpu"), stored_texts=lambda key: texts)
        .measure(filtered)
        .texts
    )
    assert used.top_p == 0.5
    assert used.texts != texts.texts
    again = (
        ReplayEngine([filtered], ModelPool("cpu"), stored_texts=lambda key: used)
        .measure(filtered)
        .texts
    )
    assert again == used


def decoding(case: Case, **changes: object) -> Case:
    return dataclasses.replace(case, engine="decode", **changes)


def decoded_by(*cases: Case) -> list[Measurement]:
    engine = DecodeEngine(ModelPool("cpu"))
    return [engine.measure(case) for case in cases]


def heads_case(case: Case) -> Case:
    return dataclasses.replace(case, drafter=OWN_HEADS, label=OWN_HEADS, depth=2)


DRAFTERS = {"draft": lambda case: case, "heads": heads_case, "lookup": lookup_case}


@pytest.mark.parametrize("drafter", DRAFTERS)
def test_decoding_counts_whole_rounds_of_texts_that_it_does_not_keep(
    case: Case, drafter: str
) -> None:
    decoding_case = decoding(DRAFTERS[drafter](case))
    (measured,) = decoded_by(decoding_case)
    counts = measured.counts
    for array in (counts.rounds, counts.drafted, counts.accepted):
        assert (array == array.round()).all()
    assert (counts.drafted <= counts.rounds[:, None]).all()
    assert (counts.drafted == counts.rounds[:, None]).all() == (drafter != "lookup")
    assert 0 < counts.accepted.sum() < counts.drafted.sum()
    assert counts.categories == ("fruit",) * len(WORDS)
    assert measured.texts is None
    assert set(measured.text_fingerprints) == set(counts.prompts)
    assert len(set(measured.text_fingerprints.values())) == len(WORDS)


def test_decoding_takes_time_and_replay_decodes_nothing(case: Case) -> None:
    decoding_case = decoding(case)
    (measured,) = decoded_by(decoding_case)
    times = Run(decoding_case, [measured], engine="decode").times
    assert times == measured.times
    assert min(times.draft_ms, times.verify_ms, times.tokens_per_second) > 0
    assert times.batch_size >= 1
    assert ReplayEngine([case], ModelPool("cpu")).measure(case).times is None


def test_the_seed_decides_what_decoding_counts(case: Case) -> None:
    first, again = (decoded_by(decoding(case))[0] for _ in range(2))
    other = decoded_by(decoding(with_texts(case, seed=1)))[0]
    assert first.text_fingerprints == again.text_fingerprints
    assert (first.counts.accepted == again.counts.accepted).all()
    assert (first.counts.rounds == again.counts.rounds).all()
    assert other.counts.prompts == first.counts.prompts
    assert all(
        other.text_fingerprints[key] != first.text_fingerprints[key]
        for key in first.text_fingerprints
    )


def test_a_case_decodes_the_same_alone_and_beside_others(case: Case) -> None:
    cases = [
        decoding(variant)
        for variant in (*grid(case, (4, 0), (4, 2), (2, 0)), heads_case(case), lookup_case(case))
    ]
    for variant, together in zip(cases, decoded_by(*cases), strict=True):
        (alone,) = decoded_by(variant)
        assert alone.text_fingerprints == together.text_fingerprints
        assert (alone.counts.accepted == together.counts.accepted).all()


@pytest.mark.parametrize("rule", ["rejection", "sample-match", "block", "typical"])
def test_conditions_say_how_it_was_decoded(case: Case, rule: str) -> None:
    decoding_case = with_texts(
        decoding(case, rule=rule, depth=2), top_k=5, top_p=0.9, temperature=0.7
    )
    (measured,) = decoded_by(decoding_case)
    record = Run(decoding_case, [measured], engine=DecodeEngine.name).record
    conditions = record.conditions
    assert (
        conditions.engine,
        conditions.rule,
        conditions.drafter,
        conditions.k,
        conditions.depth,
    ) == (
        "decode",
        rule,
        "draft",
        4,
        2,
    )
    assert (conditions.temperature, conditions.top_k, conditions.top_p, conditions.new_tokens) == (
        0.7,
        5,
        0.9,
        24,
    )
    assert {key: row.text for key, row in record.counts.items()} == measured.text_fingerprints
    assert record.as_counts().total_rounds == measured.counts.total_rounds


def test_what_was_decoded_is_not_compared_with_what_was_replayed(case: Case) -> None:
    """Same models, same fingerprints, other numbers: one is counted and the other expected."""
    decoding_case = decoding(case)
    decoded, replayed = (
        decoded_by(decoding_case)[0],
        ReplayEngine([case], ModelPool("cpu")).measure(case),
    )
    assert decoded.fingerprints == replayed.fingerprints
    assert (decoded.tokenizer, decoded.template) == (replayed.tokenizer, replayed.template)
    now, before = (
        Run(decoding_case, [decoded], engine="decode").measured,
        Run(case, [replayed], engine="replay").measured,
    )
    assert incomparable(now, before) == ["engine was 'replay' in the baseline and is 'decode'"]


def test_the_measured_rounds_are_those_of_decode_itself(case: Case) -> None:
    decoding_case = with_texts(decoding(case, rule="block", depth=2), top_k=5, seed=3)
    engine = DecodeEngine(ModelPool("cpu"))
    direct = decode(
        case.target,
        case.drafter,
        prompt_ids(),
        k=4,
        depth=2,
        rule="block",
        top_k=5,
        new_tokens=24,
        seed=3,
        batch_size=16,
    )
    measured = engine.measure(decoding_case)
    assert (measured.counts.accepted == direct.counts.accepted).all()
    assert list(measured.text_fingerprints.values()) == [text.fingerprint for text in direct.texts]
    assert same(engine.models.decode(decoding_case, prompt_ids()), direct)


def same(left: Decoded, right: Decoded) -> bool:
    """Equal but for the milliseconds."""
    return (left.texts, left.rounds, left.k) == (right.texts, right.rounds, right.k)


def test_texts_that_cases_share_are_judged_once(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    whole = texts_judged.conformance
    monkeypatch.setattr(
        texts_judged,
        "conformance",
        lambda *args, **named: calls.append(args) or whole(*args, **named),
    )
    cases = grid(case, (4, 0), (8, 0), (4, 2), (8, 2))
    engine = ReplayEngine(cases, ModelPool("cpu"))
    results = [conformance(engine, variant, 0.01) for variant in cases]
    assert results[0] is results[1]
    assert results[2] is results[3]
    assert len(calls) == 2, (
        "with the draft model's distribution, and without where a head's is another"
    )
    conformance(engine, case, 0.02)
    assert len(calls) == 3


def test_models_are_let_go_with_their_engine(case: Case) -> None:
    engine = ReplayEngine([case], ModelPool("cpu"))
    conformance(engine, case, 0.01)
    model = weakref.ref(engine.models.model(case.target).model)
    del engine
    gc.collect()
    assert model() is None


def test_options_of_decode_win_over_the_cases(case: Case) -> None:
    models = ModelPool("cpu")
    decoded = models.decode(case, ["an apple", "fig"])
    assert (decoded.k, {len(text.ids) - text.prompt_length for text in decoded.texts}) == (4, {24})
    options = {
        "k": 2,
        "depth": 2,
        "rule": "greedy",
        "temperature": 0,
        "new_tokens": 9,
        "batch_size": 1,
    }
    other = models.decode(case, ["an apple", "fig"], **options)
    assert (other.k, {len(text.ids) - text.prompt_length for text in other.texts}) == (2, {9})
    assert same(other, decode(case.target, case.drafter, ["an apple", "fig"], **options))
    assert models.decode(case, ["fig"], seed=0).texts != models.decode(case, ["fig"], seed=1).texts


def test_decoding_texts_too_short_for_a_round_is_an_error(case: Case) -> None:
    with pytest.raises(
        MeasurementError,
        match=r"no text is long enough for a round of k=40; raise --specdec-new-tokens",
    ):
        decoded_by(decoding(case, k=40))


def test_drafters_are_handed_out_where_they_are_models(case: Case) -> None:
    models = ModelPool("cpu")
    draft = models.drafter(case)
    assert isinstance(draft, LoadedModel)
    assert draft is models.model(case.drafter)
    assert models.drafter(heads_case(case)) is models.model(case.target).heads
    with pytest.raises(RequestError, match="prompt lookup has no model; leave specdec_drafter out"):
        models.drafter(lookup_case(case))


def test_decoding_reports_its_progress(case: Case) -> None:
    seen: list[tuple[str, int, int]] = []
    decoding_case = decoding(case)
    DecodeEngine(ModelPool("cpu", report=lambda *progress: seen.append(progress))).measure(
        decoding_case
    )
    loading = [(f"loading tiny-{role}", done, 1) for role in ("target", "draft") for done in (0, 1)]
    assert sorted(seen[:4]) == sorted(loading)
    assert seen[4:] == [
        (f"suite/draft-k4-depth0-t1-decode: {what}", done, len(WORDS))
        for what, done in (("decode", len(WORDS)), ("replay", 0), ("replay", len(WORDS)))
    ]


def in_steps(case: Case, every: int) -> TextSet:
    """The case's texts, bent so that of `every` new tokens the last is one of 10 to 30 and the
    others are below.
    """
    texts = stored(case)
    bent = {
        key: tuple(
            10 + token % 21 if at % every == every - 1 else 2 + token % 8
            for at, token in enumerate(new)
        )
        for key, new in texts.texts.items()
    }
    return msgspec.structs.replace(texts, texts=bent)


@pytest.mark.usefixtures("made_up_texts")
@pytest.mark.parametrize("every", [1, 2, 3])
@pytest.mark.parametrize("drafter", ["draft", "layers", "heads"])
@pytest.mark.parametrize("rule", ["rejection", "sample-match"])
def test_judged_rounds_are_played_on_the_acceptance_of_the_whole_stream(
    case: Case, rule: str, drafter: str, every: int
) -> None:
    """Rounds enumerated by hand: given tokens are free, and each judged one is accepted as plain
    replay of the stream says.
    """
    k, depth, own_heads = 3, 0 if drafter == "draft" else 2, drafter == "heads"
    case = dataclasses.replace(heads_case(case) if own_heads else case, depth=depth, rule=rule, k=k)
    texts = in_steps(case, every)
    judged = dataclasses.replace(case, judged=JudgedRange(10, 31, every))
    measured = ReplayEngine([judged], ModelPool("cpu"), stored_texts=lambda key: texts).measure(
        judged
    )
    assert measured.texts.texts == texts.texts
    whole = dataclasses.replace(case, k=k * every)
    stream = (
        ReplayEngine([whole], ModelPool("cpu"), stored_texts=lambda key: texts)
        .measure(whole)
        .field()
        .accept
    )
    for row, ids in enumerate(prompt_ids()):
        accept = {}
        for start, step in itertools.product(range(24 // every), range(k)):
            if start + step < 24 // every:
                at = len(ids) + every * (start + step) + every - 1
                head = (
                    every * step + every - 1 if own_heads else every * (step % (1 + depth // every))
                )
                accept[start, step] = stream[row, head, at]
        rounds, accepted = brute_force(accept, 24 // every, k)
        np.testing.assert_allclose(measured.counts.rounds[row], rounds)
        np.testing.assert_allclose(measured.counts.accepted[row], accepted)
    assert 0 < measured.counts.accepted.sum() < measured.counts.drafted.sum()


@pytest.mark.usefixtures("made_up_texts")
def test_a_draft_model_drafts_judged_tokens_by_its_own_distribution_of_the_stream(
    case: Case,
) -> None:
    """From p and q of transformers' own passes over the interleaved text, nothing of ours
    between.
    """
    texts = in_steps(case, 2)
    judged = dataclasses.replace(case, judged=JudgedRange(10, 31, 2), k=4)
    measured = ReplayEngine([judged], ModelPool("cpu"), stored_texts=lambda key: texts).measure(
        judged
    )
    target, draft = (load_model(path, "cpu").model for path in (case.target, case.drafter))
    for row, (text, ids) in enumerate(zip(whole_texts(measured), prompt_ids(), strict=True)):
        places = range(len(ids) + 1, len(text), 2)
        p, q = (next_distributions(model, text, case.texts) for model in (target, draft))
        chances = [min(1.0, (q[at - 1, text[at]] / p[at - 1, text[at]]).item()) for at in places]
        accept = {
            (start, step): chances[start + step]
            for start in range(12)
            for step in range(4)
            if start + step < 12
        }
        rounds, accepted = brute_force(accept, 12, 4)
        np.testing.assert_allclose(measured.counts.rounds[row], rounds, rtol=1e-4)
        np.testing.assert_allclose(measured.counts.accepted[row], accepted, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(
            measured.samples.survival[row], np.cumprod(chances[1:5]), rtol=1e-4
        )


@pytest.mark.usefixtures("made_up_texts")
def test_judged_and_plain_cases_share_texts_and_one_pass(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = in_steps(case, 2)
    passes = []
    measure = replay.text_scores
    monkeypatch.setattr(
        replay,
        "text_scores",
        lambda *args, **options: passes.append(args) or measure(*args, **options),
    )
    cases = [
        case,
        *(
            dataclasses.replace(case, judged=JudgedRange(10, 31, 2), k=k, depth=depth)
            for k in (3, 5)
            for depth in (0, 2)
        ),
    ]
    engine = ReplayEngine(cases, ModelPool("cpu"), stored_texts=lambda key: texts)
    measurements = [engine.measure(variant) for variant in cases]
    assert len(passes) == 1
    assert len({measurement.counts.acceptance_length for measurement in measurements}) == len(cases)
    assert all(measurement.texts.texts == texts.texts for measurement in measurements)
    alone = ReplayEngine([cases[-1]], ModelPool("cpu"), stored_texts=lambda key: texts).measure(
        cases[-1]
    )
    np.testing.assert_allclose(alone.counts.accepted, measurements[-1].counts.accepted, atol=1e-5)


@pytest.mark.parametrize("every", [1, 2])
def test_what_judged_rounds_pass_over_is_timed(
    case: Case, every: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {}
    monkeypatch.setattr(timing, "measure_costs", lambda *models, **named: options.update(named))
    cases = [
        dataclasses.replace(case, judged=JudgedRange(10, 31, every), k=k, depth=2) for k in (3, 4)
    ]
    ModelPool("cpu").costs(cases)
    assert options["ks"] == {
        size for variant in cases for size in (variant.verified, variant.drafted)
    }
    assert options["ks"] == ({3, 4, 6} if every == 1 else {6, 8})


@pytest.mark.parametrize("engine", ["replay", "decode", "transformers"])
def test_messages_go_through_the_template_and_name_it(
    case: Case, tiny_target: Path, tmp_path: Path, engine: str
) -> None:
    folder = shutil.copytree(tiny_target, tmp_path / "chat")
    (folder / "chat_template.jinja").write_text(
        "{% for message in messages %}{{ message['content'] }},{% endfor %}"
    )
    messages = (
        {"category": "chat", "messages": [{"role": "user", "content": word}]} for word in WORDS
    )
    case.texts.prompts.write_text("".join(json.dumps(line) + "\n" for line in messages))
    chat = dataclasses.replace(case, texts=dataclasses.replace(case.texts, target=str(folder)))
    models = ModelPool("cpu")
    measurement = {
        "replay": ReplayEngine([chat], models),
        "decode": DecodeEngine(models),
        "transformers": ExternalEngine("transformers", models),
    }[engine].measure(chat)
    assert measurement.counts.total_rounds > 0
    assert measurement.template == template_of(
        models.model(chat.target), read_prompts(chat.texts.prompts)
    )


def test_loading_and_hashing_of_large_checkpoints_report_progress(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    reports: list[tuple[str, int, int]] = []
    monkeypatch.setattr(checkpoint, "LARGE", 1)
    checkpoint._opened.cache_clear()  # other tests have hashed it
    large = ReplayEngine(
        [case], ModelPool("cpu", report=lambda *progress: reports.append(progress))
    )
    fingerprints = large.measure(case).fingerprints
    for name in ("tiny-target", "tiny-draft"):
        assert [step for step in reports if step[0] == f"loading {name}"] == [
            (f"loading {name}", 0, 1),
            (f"loading {name}", 1, 1),
        ]
        assert {step[1:] for step in reports if step[0] == f"hashing {name} (MiB)"} == {(0, 0)}
    assert {"suite: sampling texts", "suite: replay"} <= {what for what, _, _ in reports}
    monkeypatch.undo()
    checkpoint._opened.cache_clear()
    quiet = ReplayEngine(
        [case], ModelPool("cpu", report=lambda *progress: reports.append(progress))
    )
    reports.clear()
    assert quiet.measure(case).fingerprints == fingerprints
    assert not any(what.startswith("hashing") for what, _, _ in reports)
