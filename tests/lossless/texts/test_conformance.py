"""Losslessness from text alone: lossless decoders conform, wrong ones are caught and named, nothing
passes unread.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Sequence

import pytest
import torch
from helpers.embedded import PROMPTS, Pair
from helpers.support import ROOT

from pytest_specdec.cases.case import LOOKUP, OWN_HEADS, Sampling
from pytest_specdec.cases.prompts import read_prompts
from pytest_specdec.cases.texts import Text
from pytest_specdec.common.errors import MeasurementError, RequestError
from pytest_specdec.decoding import verification as rules
from pytest_specdec.decoding.decode import decode
from pytest_specdec.decoding.drafters import drafts
from pytest_specdec.decoding.loading import load_model
from pytest_specdec.decoding.sampling import sample_new_tokens
from pytest_specdec.lossless.texts import teacher_forcing as forced
from pytest_specdec.lossless.texts.conformance import Conformance, conformance
from pytest_specdec.lossless.texts.martingale import NARROW
from pytest_specdec.lossless.texts.token_scores import COLDER, EARLY, HOTTER, LATE

PLAIN, FILTERED = Sampling(), Sampling(0.8, 50, 0.9)
PROSE, NEW = 24, 40
"""The suite's first prompts continue as prose, where the target is least certain; later ones follow
templates.
"""
ALPHA = 1e-3
"""The seeds are fixed, so a pass is a pass for good."""


def decoded(
    pair: Pair, drafter: str, depth: int, rule: str, sampling: Sampling, new: int = NEW
) -> tuple[Text, ...]:
    prompts, model = pair.prompts[:PROSE], pair.draft if drafter == "draft" else drafter
    return decode(
        pair.target,
        model,
        prompts,
        k=4,
        depth=depth,
        rule=rule,
        new_tokens=new,
        temperature=sampling.temperature,
        top_k=sampling.top_k,
        top_p=sampling.top_p,
        batch_size=PROSE,
        seed=1,
    ).texts


def judged(
    pair: Pair, texts: Sequence[Text], sampling: Sampling = PLAIN, *, drafter: bool = False
) -> Conformance:
    return conformance(
        pair.target,
        texts,
        temperature=sampling.temperature,
        top_k=sampling.top_k,
        top_p=sampling.top_p,
        drafter=pair.draft if drafter else None,
        alpha=ALPHA,
    )


@pytest.fixture(scope="module")
def texts(pair: Pair) -> tuple[Text, ...]:
    """Sampled texts of a correct decoder."""
    return decoded(pair, "draft", 0, "rejection", PLAIN)


@pytest.mark.parametrize(
    ("drafter", "depth", "rule", "sampling"),
    [
        ("draft", 0, "block", PLAIN),
        ("draft", 2, "rejection", FILTERED),
        (OWN_HEADS, 3, "rejection", PLAIN),
        (LOOKUP, 0, "sample-match", FILTERED),
    ],
)
def test_lossless_decoders_conform(
    pair: Pair, drafter: str, depth: int, rule: str, sampling: Sampling
) -> None:
    result = judged(pair, decoded(pair, drafter, depth, rule, sampling), sampling, drafter=True)
    assert result.conforms, result.message
    assert result.tokens == PROSE * NEW
    assert abs(result.z) < 4
    assert result.uniformity > 1e-3
    assert result.report().startswith("conforms: ")


def test_what_transformers_samples_conforms(pair: Pair) -> None:
    prompts = pair.prompts[:PROSE]
    new = sample_new_tokens(pair.target, prompts, new_tokens=NEW, sampling=FILTERED, seed=3)
    sequences = [[*prompt, *tokens] for prompt, tokens in zip(prompts, new, strict=True)]
    result = conformance(
        pair.target,
        sequences,
        prompt_lengths=[*map(len, prompts)],
        temperature=0.8,
        top_k=50,
        top_p=0.9,
        alpha=ALPHA,
    )
    assert result.conforms, result.message


@pytest.mark.parametrize("temperature", [0, 1])
def test_the_stored_texts_conform(pair: Pair, temperature: int) -> None:
    stored = json.loads(
        (ROOT / "baselines" / "text" / "texts" / f"t{temperature}-n128-s0.json").read_text()
    )["texts"]
    named = [
        Text(prompt.key, prompt.category, (*ids, *stored[prompt.key]), len(ids))
        for prompt, ids in zip(read_prompts(PROMPTS), pair.prompts, strict=True)
    ]
    result = conformance(pair.target, named, temperature=temperature, alpha=ALPHA)
    assert result.conforms, result.message
    assert result.tokens == 80 * 128


def recovered_from_p(
    target: torch.Tensor, draft: torch.Tensor, tokens: torch.Tensor, generator: rules.Generator
) -> rules.Verified:
    """Accept as one should, and draw from p where the residual is due."""
    accepted, _ = rules.rejection(target, draft, tokens, generator)
    return accepted, rules.draw(rules._at(target, accepted), generator)


def always_accepted(
    target: torch.Tensor, draft: torch.Tensor, tokens: torch.Tensor, generator: rules.Generator
) -> rules.Verified:
    """As with a coin that is always 0."""
    accepted = (rules._of(draft, tokens) > 0).long().cumprod(1).sum(1)
    return accepted, rules.draw(rules._at(target, accepted), generator)


def compared_with_p(
    target: torch.Tensor, draft: torch.Tensor, tokens: torch.Tensor, generator: rules.Generator
) -> rules.Verified:
    """The coin is compared with p, not with p / q; the residual is right."""
    coins = torch.rand(tokens.shape, generator=generator)
    accepted = (
        ((coins < rules._of(target, tokens)) & (rules._of(draft, tokens) > 0))
        .long()
        .cumprod(1)
        .sum(1)
    )
    return accepted, rules._draw_residual(
        rules._at(target, accepted), rules._at(draft, accepted), generator
    )


@pytest.mark.parametrize("verify", [recovered_from_p, always_accepted, compared_with_p])
def test_wrong_verification_rules_are_caught(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, verify: rules.Verify
) -> None:
    changed = dataclasses.replace(rules.REJECTION, verify=verify)
    monkeypatch.setattr(rules, "REJECTION", changed)
    result = judged(pair, decoded(pair, "draft", 0, "rejection", PLAIN), drafter=True)
    assert result.verdict == "violates"
    assert result.p_value < ALPHA
    assert result.crossed is not None
    assert f"at text {result.crossed[0]}, position {result.crossed[1]}" in result.message


def test_drafts_from_a_sharper_distribution_than_their_q_are_caught(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """transformers #47932: acceptance rises, so no floor sees it."""
    take: Callable[..., None] = drafts.Drafts.take

    def sharper(self: drafts.Drafts, logits: torch.Tensor) -> None:
        take(self, logits / 0.5)
        self._kept[-1] = drafts.filtered(logits, self._sampling)

    monkeypatch.setattr(drafts.Drafts, "take", sharper)
    assert not judged(pair, decoded(pair, "draft", 0, "rejection", PLAIN), drafter=True).conforms


@pytest.mark.parametrize(
    ("sampled", "suspects"),
    [
        (Sampling(0.8), {COLDER}),
        (Sampling(1.25), {HOTTER}),
        (Sampling(1.0, 0, 0.95), {NARROW, COLDER}),
        (Sampling(1.0, 10), {NARROW, COLDER}),
    ],
)
def test_other_settings_than_those_named_are_caught_and_reported(
    pair: Pair, sampled: Sampling, suspects: set[str]
) -> None:
    result = judged(pair, decoded(pair, "draft", 0, "rejection", sampled))
    assert result.verdict == "violates"
    assert result.suspect in suspects
    assert result.suspect in result.message


@pytest.mark.parametrize("sampling", [Sampling(1.0, 20), Sampling(1.0, 0, 0.9)])
def test_a_single_token_outside_the_support_is_a_violation(pair: Pair, sampling: Sampling) -> None:
    right = decoded(pair, "draft", 0, "rejection", sampling, new=12)[:8]
    assert judged(pair, right, sampling).conforms
    at = right[2].prompt_length + 5
    with torch.inference_mode():
        unlikely = int(pair.target.model(torch.tensor([right[2].ids[:at]])).logits[0, -1].argmin())
    wrong = Text("2", "all", (*right[2].ids[:at], unlikely), right[2].prompt_length)
    result = judged(pair, [*right[:2], wrong, *right[3:]], sampling)
    assert (result.verdict, result.p_value) == ("violates", 0.0)
    assert [
        (violation.text, violation.position, violation.token) for violation in result.violations
    ] == [(2, at, unlikely)]
    assert (
        f"text 2 emits token {unlikely} at position {at}, which the target's top-" in result.message
    )


@pytest.mark.parametrize("token", [1024, -1])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_token_beyond_the_vocabulary_is_a_violation(
    pair: Pair, token: int, temperature: float
) -> None:
    prompt = pair.prompts[0]
    result = conformance(
        pair.target, [[*prompt, token, 5]], prompt_lengths=[len(prompt)], temperature=temperature
    )
    assert result.verdict == "violates"
    assert (result.violations[0].position, result.violations[0].token) == (len(prompt), token)
    assert "beyond the target's vocabulary of 1024" in result.message


def test_a_tie_at_the_cut_off_is_counted_and_no_violation(pair: Pair) -> None:
    """The token just outside the top-k, once with a tolerance below its gap to the last one kept,
    once above.
    """
    prompt = pair.prompts[1]
    with torch.inference_mode():
        logits = pair.target.model(torch.tensor([prompt])).logits[0, -1]
    values, ids = logits.topk(6)
    gap = float(values[4] - values[5])

    def at_tolerance(tolerance: float) -> Conformance:
        sequence = [*prompt, int(ids[5])]
        return conformance(
            pair.target, [sequence], prompt_lengths=[len(prompt)], top_k=5, tolerance=tolerance
        )

    assert at_tolerance(gap + 1e-3).ties == 1
    assert at_tolerance(gap + 1e-3).conforms
    assert not at_tolerance(gap - 1e-3).conforms


def test_nothing_after_the_eos_token_is_read(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, texts: tuple[Text, ...]
) -> None:
    end = texts[0].prompt_length + 9
    padded = [Text("0", "all", (*texts[0].ids[:end], 1, 1, 1, 1), texts[0].prompt_length)]
    monkeypatch.setattr(pair.target.model.generation_config, "eos_token_id", texts[0].ids[end - 1])
    first = texts[0].ids.index(texts[0].ids[end - 1], texts[0].prompt_length)
    assert judged(pair, padded).tokens == first + 1 - texts[0].prompt_length


def ending(pair: Pair, monkeypatch: pytest.MonkeyPatch, token: int) -> None:
    """Let a token end the target's texts."""
    monkeypatch.setattr(pair.target.model.generation_config, "eos_token_id", token)


def test_with_the_limit_known_a_token_after_eos_is_a_violation(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, texts: tuple[Text, ...]
) -> None:
    first, length = texts[0], texts[0].prompt_length
    ending(pair, monkeypatch, first.ids[length + 9])
    at = first.ids.index(first.ids[length + 9], length)

    def judged_to(end: int, limit: int) -> Conformance:
        cut = [dataclasses.replace(first, ids=first.ids[:end])]
        return conformance(pair.target, cut, new_tokens=limit, alpha=ALPHA)

    assert judged_to(at + 1, NEW).conforms
    assert judged_to(at, at - length).conforms
    leaked = judged_to(at + 2, NEW)
    assert (leaked.violations[0].text, leaked.violations[0].position) == (0, at + 1)
    assert f"after token {first.ids[at]}, which ends a text, at position {at}" in leaked.message
    short = judged_to(at, NEW)
    assert f"the last of {at - length} where {NEW} new tokens were asked for" in short.message
    beyond = judged_to(at, at - length - 1)
    assert f"beyond the limit of {at - length - 1} new tokens" in beyond.message


@pytest.mark.parametrize(("name", "odds"), [(EARLY, 30.0), (LATE, 0.001)])
def test_texts_that_end_too_early_or_too_late_are_found_and_named(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, name: str, odds: float
) -> None:
    """The full stop ends a text, and the sampler moves its odds alone."""
    ending(pair, monkeypatch, 15)
    prompts, sample = pair.prompts[:PROSE], Sampling()

    def emitted(moved: float, seed: int) -> list[Text]:
        bias = torch.zeros(1024)
        bias[15] = math.log(moved)
        hook = pair.target.model.lm_head.register_forward_hook(
            lambda module, arguments, logits: logits + bias
        )
        try:
            new = sample_new_tokens(
                pair.target, prompts, new_tokens=NEW, sampling=sample, seed=seed
            )
        finally:
            hook.remove()
        return [
            Text(str(row), "all", (*ids, *tokens), len(ids))
            for row, (ids, tokens) in enumerate(zip(prompts, new, strict=True))
        ]

    right = conformance(pair.target, emitted(1.0, 5), new_tokens=NEW, alpha=ALPHA)
    assert right.conforms, right.message
    wrong = conformance(pair.target, emitted(odds, 5), new_tokens=NEW, alpha=ALPHA)
    assert not wrong.conforms
    assert wrong.suspect == name
    assert "EOS tokens, stops and least length are the target's own" in wrong.message


def test_batches_and_the_order_in_which_texts_are_scored_change_nothing(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, texts: tuple[Text, ...]
) -> None:
    mixed = [
        Text(text.key, "all", text.ids[: len(text.ids) - row], text.prompt_length)
        for row, text in enumerate(texts[:20])
    ]
    whole = judged(pair, mixed, drafter=True)
    monkeypatch.setattr(forced, "_BUDGET", {"cpu": 1024 * 50})
    small = judged(pair, mixed, drafter=True)
    assert (small.tokens, small.suspect) == (whole.tokens, whole.suspect)
    assert [small.z, small.e_value] == pytest.approx([whole.z, whole.e_value], rel=1e-3)


@pytest.mark.parametrize("top_k", [0, 20])
def test_evidence_is_dated_at_the_token_that_brings_it(pair: Pair, top_k: int) -> None:
    """Cut short right there the texts still violate; one token less and they do not. Ties at a
    cut-off are not evidence.
    """
    hot = decoded(pair, "draft", 0, "rejection", Sampling(1.5))

    def cut(end: int | None, text: int) -> Conformance:
        texts = [*hot[:text], Text("last", "all", hot[text].ids[:end], hot[text].prompt_length)]
        return conformance(pair.target, texts, top_k=top_k, tolerance=1e9, alpha=ALPHA)

    result = cut(None, PROSE - 1)
    assert (result.ties > 0) == (top_k > 0)
    assert result.crossed is not None
    text, position = result.crossed
    assert cut(position + 1, text).crossed == (text, position)
    assert cut(position, text).conforms


@pytest.mark.parametrize("new", [(), ((),)])
def test_texts_without_a_new_token_are_an_error(
    pair: Pair, new: tuple[tuple[int, ...], ...]
) -> None:
    with pytest.raises(MeasurementError, match="no new token"):
        conformance(
            pair.target,
            [[*pair.prompts[0], *tokens] for tokens in new],
            prompt_lengths=[len(pair.prompts[0])] * len(new),
        )


@pytest.mark.parametrize(
    ("sequences", "settings", "message"),
    [
        ([[5, 6, 7]], {}, "need prompt_lengths"),
        ([[5, 6, 7]], {"prompt_lengths": [1, 1]}, "need prompt_lengths"),
        ([[5, 6, 7]], {"prompt_lengths": [0]}, "at least one token long"),
        ([[5, 6, 7]], {"prompt_lengths": [4]}, "at least one token long"),
        ([Text("0", "all", (5, 6, 7), 1)], {"prompt_lengths": [1]}, "leave prompt_lengths out"),
        ([[1024, 6, 7]], {"prompt_lengths": [1]}, "encode it"),
        ([[5] * 513], {"prompt_lengths": [1]}, "pass shorter ones"),
        ([[5, 6, 7]], {"prompt_lengths": [1], "temperature": -1.0}, "not valid sampling settings"),
        ([[5, 6, 7]], {"prompt_lengths": [1], "top_p": 0.0}, "not valid sampling settings"),
        ([[5, 6, 7]], {"prompt_lengths": [1], "alpha": 1.0}, "between 0 and 1"),
        ([[5, 6, 7]], {"prompt_lengths": [1], "drafter": OWN_HEADS}, "cannot score texts"),
    ],
)
def test_what_cannot_be_scored_is_refused(pair: Pair, sequences, settings, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        conformance(pair.target, sequences, **settings)


def test_nan_logits_are_an_error(pair: Pair, texts: tuple[Text, ...]) -> None:
    broken = load_model(str(pair.target.checkpoint.folder), "cpu")
    broken.model.model.norm.weight.fill_(torch.nan)
    with pytest.raises(MeasurementError, match="returns NaN"):
        conformance(broken, texts[:1])


def test_models_come_as_paths_too(pair: Pair, texts: tuple[Text, ...]) -> None:
    target, draft = (str(model.checkpoint.folder) for model in (pair.target, pair.draft))
    assert conformance(target, texts[:4], drafter=draft).tokens == 4 * NEW
