"""assert_lossless as users call it: what it accepts, what it says, and how it falls back."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from museum import reference
from torch import Tensor

from pytest_specdec.common.errors import RequestError
from pytest_specdec.lossless import assert_lossless
from pytest_specdec.lossless.budget import CALL, CALLS, SESSION
from pytest_specdec.lossless.enumeration.paths import NotEnumerableError
from pytest_specdec.lossless.samplers import check


def right(
    p: Tensor, q: Tensor, drafts: Tensor, generator: torch.Generator | None = None
) -> list[int]:
    for step, token in enumerate(drafts.tolist()):
        if torch.rand((), generator=generator) * q[step, token] >= p[step, token]:
            residual = (p[step] - q[step]).clamp(min=0)
            return [
                *drafts[:step].tolist(),
                torch.multinomial(residual, 1, generator=generator).item(),
            ]
    return [*drafts.tolist(), torch.multinomial(p[-1], 1, generator=generator).item()]


def no_residual(
    p: Tensor, q: Tensor, drafts: Tensor, generator: torch.Generator | None = None
) -> list[int]:
    for step, token in enumerate(drafts.tolist()):
        if torch.rand((), generator=generator) * q[step, token] >= p[step, token]:
            return [
                *drafts[:step].tolist(),
                torch.multinomial(p[step], 1, generator=generator).item(),
            ]
    return [*drafts.tolist(), torch.multinomial(p[-1], 1, generator=generator).item()]


def in_numpy(
    p: np.ndarray, q: np.ndarray, drafts: np.ndarray, rng: np.random.Generator
) -> list[int]:
    for step, token in enumerate(drafts):
        if rng.random() * q[step, token] >= p[step, token]:
            left = np.maximum(p[step] - q[step], 0)
            return [*drafts[:step], rng.choice(len(left), p=left / left.sum())]
    return [*drafts, rng.choice(p.shape[1], p=p[-1])]


def opaque(
    p: Tensor, q: Tensor, drafts: Tensor, generator: torch.Generator | None = None
) -> list[int]:
    """Right, with a draw that cannot be followed: a normal, made uniform by its distribution
    function.
    """
    uniform = torch.special.ndtr(torch.randn(len(drafts), generator=generator))
    steps = torch.arange(len(drafts))
    passed = uniform * q[steps, drafts] < p[steps, drafts]
    kept = int(passed.long().cumprod(0).sum())
    distribution = (p[kept] - q[kept]).clamp(min=0) if kept < len(drafts) else p[-1]
    return [*drafts[:kept].tolist(), torch.multinomial(distribution, 1, generator=generator).item()]


def opaque_without_residual(p: Tensor, q: Tensor, drafts: Tensor) -> list[int]:
    uniform = torch.special.ndtr(torch.randn(len(drafts)))
    steps = torch.arange(len(drafts))
    passed = uniform * q[steps, drafts] < p[steps, drafts]
    kept = int(passed.long().cumprod(0).sum())
    return [*drafts[:kept].tolist(), torch.multinomial(p[kept], 1).item()]


def test_a_right_sampler_passes_exactly() -> None:
    checked = assert_lossless(right, max_examples=30)
    assert (checked.method, checked.examples, checked.detectable) == ("exact", 30, 0)
    assert str(checked) == "right is lossless: exact in 30 rounds"


def test_numpy_passes_exactly() -> None:
    assert assert_lossless(in_numpy, method="exact", max_examples=30).method == "exact"


def test_the_message_is_short_and_shrunk() -> None:
    with pytest.raises(AssertionError) as failure:
        assert_lossless(no_residual)
    assert str(failure.value).splitlines() == [
        "no_residual is not lossless (exact): [0] is emitted with probability 0.25 where the "
        "target has 0.5 "
        "(total variation 0.25)",
        "  k = 1, drafts [1]: [0] emitted with probability 0.25",
        "  p = [0.5, 0.5]  q = [0, 1]",
    ]


def test_the_same_seed_finds_the_same() -> None:
    messages = []
    for _ in range(2):
        with pytest.raises(AssertionError) as failure:
            assert_lossless(reference_with_wrong_rows, batched=True)
        messages.append(str(failure.value))
    assert messages[0] == messages[1]


def reference_with_wrong_rows(
    target: Tensor, draft: Tensor, tokens: Tensor, generator: torch.Generator | None = None
) -> Tensor:
    return reference.reference(target.roll(1, 1), draft, tokens, generator)


def test_auto_falls_back_to_sampling_and_says_why() -> None:
    checked = assert_lossless(opaque, max_examples=2, draws=3_000)
    assert checked.method == "sampled"
    assert "randn" in checked.reason
    assert 0 < checked.detectable < 0.2
    assert "randn" in str(checked)


def test_exact_does_not_fall_back() -> None:
    with pytest.raises(NotEnumerableError, match=r"randn.*method=\"sampled\""):
        assert_lossless(opaque, method="exact")


@pytest.mark.parametrize("method", ["auto", "sampled"])
def test_sampling_finds_a_bias(method: check.Method) -> None:
    with pytest.raises(
        AssertionError, match=r"is not lossless \(sampled\): \[.*total variation"
    ) as failure:
        assert_lossless(opaque_without_residual, method=method)
    assert len(str(failure.value).splitlines()) <= 7


def test_a_right_sampler_passes_sampled_in_batches() -> None:
    checked = assert_lossless(
        reference.reference, batched=True, method="sampled", draws=20_000, max_examples=3
    )
    assert checked.method == "sampled"
    assert not checked.reason


@pytest.mark.parametrize("method", ["exact", "sampled"])
def test_arguments_must_be_left_as_they_are(method: check.Method) -> None:
    """Although the change alters the paths that enumeration meets."""

    def zeroing(p: Tensor, q: Tensor, drafts: Tensor) -> list[int]:
        emitted = right(p, q, drafts)
        p[0, emitted[0]] = 0
        return emitted

    with pytest.raises(
        AssertionError, match=r"\(contract\): it changed its argument target_probs; clone it"
    ):
        assert_lossless(zeroing, method=method)


def test_a_sampler_that_raises_is_not_lossless() -> None:
    def divides(p: Tensor, q: Tensor, drafts: Tensor) -> list[int]:
        return [1 // int(p[0, 0] > 0) - 1]

    with pytest.raises(
        AssertionError, match=r"\(contract\): it raised ZeroDivisionError"
    ) as failure:
        assert_lossless(divides)
    assert isinstance(failure.value.__cause__, ZeroDivisionError)


def test_a_sampler_that_fails_on_followed_draws_alone_is_sampled() -> None:
    def strict(p: Tensor, q: Tensor, drafts: Tensor) -> list[int]:
        uniform = random.random()
        if type(uniform) is not float:
            raise TypeError("no float")
        return [int((p[0].cumsum(0)[:-1] <= uniform).sum())]

    checked = assert_lossless(strict, boundary=False, max_examples=2, draws=2_000)
    assert checked.method == "sampled"
    assert "TypeError: no float, and only while its draws were followed" in checked.reason


@pytest.mark.parametrize(
    ("step", "name"),
    [
        (lambda uniform: uniform % 0.5 < 0.25, "a remainder"),
        (lambda uniform: round(uniform) == 1, "a rounding"),
        (lambda uniform: bool(uniform), "a condition"),
        (lambda uniform: 2**uniform < 1.5, "an exponent"),
        (lambda uniform: abs(uniform) < 0.5, "a rounding"),
    ],
)
def test_steps_that_cannot_be_followed_are_refused_not_failed(step: object, name: str) -> None:
    def stepping(p: Tensor, q: Tensor, drafts: Tensor) -> list[int]:
        return [int(step(random.random()))]  # type: ignore[operator]

    with pytest.raises(NotEnumerableError, match=name):
        assert_lossless(stepping, method="exact")


def test_drawn_tokens_are_numbers() -> None:
    """Arithmetic on a token that is not decided yet."""

    def twisted(p: Tensor, q: Tensor, drafts: Tensor) -> list[int]:
        token = torch.multinomial(p[0], 1).item()
        return [int((token + p.shape[1]) % p.shape[1] // 1 * 2 / 2) if -token <= abs(token) else 0]

    assert assert_lossless(twisted, method="exact", max_examples=20).method == "exact"


def test_draws_at_their_ends() -> None:
    """A coin of exactly 0 accepts what has probability 0; without forced draws nobody sees it."""

    def at_most(p: Tensor, q: Tensor, drafts: Tensor) -> list[int]:
        if torch.rand(()) <= p[0, drafts[0]] / q[0, drafts[0]]:
            return [int(drafts[0])]
        return [torch.multinomial((p[0] - q[0]).clamp(min=0), 1).item()]

    with pytest.raises(
        AssertionError, match=r"\(contract\): with uniform 1 at 0 it emitted \[0\].* u < p / q"
    ):
        assert_lossless(at_most, k=1, max_examples=50)
    assert assert_lossless(at_most, k=1, boundary=False, max_examples=50).method == "exact"


def test_a_sampler_that_raises_for_a_draw_at_its_end() -> None:
    def divides(p: Tensor, q: Tensor, drafts: Tensor) -> list[int]:
        uniform = random.random()
        return [int((p[0].cumsum(0)[:-1] <= uniform).sum()) if 1 / uniform > 0 else 0]

    with pytest.raises(
        AssertionError, match=r"with uniform 1 at 0 it raised ZeroDivisionError: .*; guard"
    ):
        assert_lossless(divides, max_examples=20)


def test_a_table_that_does_not_reach_one() -> None:
    """Inverting sums in float32 whose last is below the largest uniform leaves the vocabulary."""

    def table(p: Tensor, q: Tensor, drafts: Tensor) -> list[int]:
        return [int((p[0].cumsum(0) * (1 - 1e-6) <= torch.rand(())).sum())]

    with pytest.raises(AssertionError, match="contract"):
        assert_lossless(table, max_examples=50)


def test_seeds_count() -> None:
    def seeded_inside(
        p: Tensor, q: Tensor, drafts: Tensor, generator: torch.Generator | None = None
    ) -> list[int]:
        return right(p, q, drafts, torch.Generator().manual_seed(random.Random(1).randrange(2)))

    with pytest.raises(AssertionError, match=r"\(contract\): it emits .*seed|new draws"):
        assert_lossless(seeded_inside, max_examples=10)


@pytest.mark.parametrize(
    "options",
    [
        {"method": "fast"},
        {"vocab_size": 1},
        {"k": 0},
        {"max_examples": 0},
        {"drafts": "mine"},
        {"arrays": "jax"},
        {"dtype": torch.int64},
    ],
)
def test_options_that_make_no_sense(options: dict[str, object]) -> None:
    with pytest.raises(RequestError, match=r"; use "):
        assert_lossless(right, **options)  # type: ignore[arg-type]


def test_a_sampled_test_does_not_depend_on_those_before_it() -> None:
    options = {"batched": True, "method": "sampled", "draws": 1_000, "max_examples": 2}
    first, second = (assert_lossless(reference.reference, **options) for _ in range(2))
    assert first == second
    assert first.alpha == CALL == SESSION / CALLS == 1e-8
    assert "(false alarms 1e-08)" in str(first)
    messages = []
    for _ in range(2):
        with pytest.raises(AssertionError) as failure:
            assert_lossless(opaque_without_residual, method="sampled", max_examples=4, alpha=4e-6)
        messages.append(str(failure.value))
    assert messages[0] == messages[1]
    assert "against 1e+06, of a share of 1e-06 of false alarms" in messages[0]


def test_a_batched_result_says_that_ragged_rows_were_not_tried() -> None:
    checked = assert_lossless(reference.reference, batched=True, max_examples=5)
    assert checked.batches == 0
    assert str(checked).endswith(
        "; rows with different numbers of drafts were not tried; give the sampler a parameter "
        "num_draft_tokens, or wrap one "
        "with flat rows in flat_batch"
    )
    assert not assert_lossless(right, max_examples=2).untried


@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_an_alpha_that_is_no_probability(alpha: float) -> None:
    with pytest.raises(RequestError, match="choose one between 0 and 1"):
        assert_lossless(right, alpha=alpha)


@pytest.mark.parametrize(
    "call", ["method='exact'", "method='sampled', draws=2_000", "batched=True"]
)
def test_a_failure_shows_the_users_line_and_no_frame_of_ours(
    pytester: pytest.Pytester, call: str
) -> None:
    pytester.makepyfile(f"""
        from pytest_specdec.lossless import assert_lossless

        def biased(p, q, drafts, generator=None):
            return [[0]] * len(p) if len(p.shape) == 3 else [0]

        def test_biased():
            assert_lossless(biased, {call})
    """)
    result = pytester.runpytest("-p", "no:cacheprovider")
    lines = result.stdout.lines
    assert any(line.startswith(">       assert_lossless(biased") for line in lines)
    assert not any("check.py" in line for line in lines), result.stdout.str()
