"""What a sampler must do whatever the distributions are: heed its seed, keep the rows of a batch
apart, stay in the vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from .dirichlet_evidence import log_bets
from .sampled_rounds import (
    BATCH,
    batch_arguments,
    checked_batch,
    checked_call,
    drawn,
    generator_of,
    seeded,
)
from .sampler import COUNTS, PADDING, ContractError, Sampler

TILES = (5, 7, 17, 129, 1_000)
"""Vocabulary sizes that fill no block of a kernel."""
_TOKENS, _ROUNDS = 16, 9
_K, _ROWS = 3, 64
_FALSE_ALARM = 1e-9
GREEDY, TAIL, HEAD, EQUAL = range(4)
"""Kinds of rows in turn: one-hot targets, targets without their last or first tokens, and targets
equal to the draft.
"""
_WHERE = f", from where the {COUNTS} of the rows before end"
_KINDS = (
    "one-hot target",
    "target without its last tokens",
    "target without its first tokens",
    "target equal to the draft",
)


def check_seed(sampler: Sampler, seed: int = 0) -> None:
    """Raise ContractError unless other seeds give other tokens, and, where a generator is taken,
    the same seed the same.

    Nine rounds with a flat target over 16 tokens, whose first token is thus uniform whatever the
    drafts are. A lossless sampler emits the same in all rounds of one seed with probability 16^-8
    at most, in all rounds of two seeds with 16^-9: together below 1e-9.
    """
    ours, others = seed, seed + 1
    rounds = _rounds(sampler, ours, ours)
    if all(tokens == rounds[0] for tokens in rounds):
        kept = [token for token in rounds[0] if token != PADDING]
        raise ContractError(
            f"it emits {kept} in each of {_ROUNDS} rounds; make new draws in each round and each "
            "row"
        )
    if sampler.takes_generator and _rounds(sampler, ours, others) != rounds:
        raise ContractError(
            "it emits other tokens for the same seed; draw all noise from the generator that is "
            "passed"
        )
    if _rounds(sampler, others, ours if sampler.takes_generator else others) == rounds:
        raise ContractError(
            "it emits the same tokens for two seeds; draw from the generator, and do not seed it "
            "inside"
        )


def _rounds(sampler: Sampler, seed: int, everywhere: int) -> list[list[int]]:
    """The tokens of some rounds, padded, drawn with one seed for the generator passed and one for
    the global ones.
    """
    target = np.full((_ROUNDS, _K + 1, _TOKENS), 1 / _TOKENS)
    draft = np.zeros((_ROUNDS, _K, _TOKENS))
    draft[..., 0] = 1
    drafts, counts = np.zeros((_ROUNDS, _K), dtype=np.int64), np.full(_ROUNDS, _K)
    with seeded(everywhere):
        rounds: list[list[int]] = _emitted(sampler, target, draft, drafts, counts, seed).tolist()
    return rounds


def check_rows(sampler: Sampler, seed: int = 0, vocab_sizes: Sequence[int] = TILES) -> None:
    """Raise ContractError unless rows of different distributions in one batch keep to their own,
    for vocabularies that fill no tile.

    One-hot (greedy) targets beside sampled ones, targets with zeros at either end, and targets
    equal to the draft: no token may have probability 0 in its own row's distribution, so greedy
    rows are exactly greedy. Of a batched sampler the first tokens of thousands of rows are also
    counted by kind; a lossless one fails with probability 1e-9 at most. Of a ragged one all this is
    done again with 0 to k drafts in a row, at the same probability. Unbatched samplers get the rows
    one by one.
    """
    rng = np.random.default_rng(seed)
    with seeded(seed):
        for ragged in (False, True)[: 1 + sampler.ragged]:
            for vocab_size in vocab_sizes:
                _mixed_rows(sampler, vocab_size, _ROWS, rng, ragged)
            if sampler.batched:
                target, tokens = _mixed_rows(
                    sampler, vocab_sizes[0], BATCH, rng, ragged, alike=True
                )
                for kind, name in enumerate(_KINDS):
                    _check_distribution(
                        target[kind, 0], tokens[kind :: len(_KINDS), 0], name, ragged
                    )


def _mixed_rows(
    sampler: Sampler,
    vocab_size: int,
    rows: int,
    rng: np.random.Generator,
    ragged: bool,
    alike: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """Targets (rows, k + 1, V) and tokens (rows, k + 1) of rows in which the kinds take turns;
    `alike` rows of a kind.
    """
    distinct = len(_KINDS) if alike else rows
    target, draft = _distributions(distinct, vocab_size, rng)
    turns = np.arange(rows) % distinct
    target, draft = target[turns], draft[turns]
    drafts = drawn(draft, rng)
    seed = int(rng.integers(2**31))
    counts = rng.integers(0, _K + 1, rows) if ragged else np.full(rows, _K)
    tokens = _emitted(sampler, target, draft, drafts, counts, seed)
    chances = np.take_along_axis(target, np.maximum(tokens, 0)[..., None], 2)[..., 0]
    wrong = (tokens != PADDING) & (chances == 0)
    for row in np.flatnonzero(wrong.any(1))[:1].tolist():
        emitted = [token for token in tokens[row].tolist() if token != PADDING]
        at = int(wrong[row].argmax())
        raise ContractError(
            f"row {row} of {rows}, a {_KINDS[row % len(_KINDS)]} over {vocab_size} "
            f"tokens{_beside(ragged, int(counts[row]))}, "
            f"emitted {emitted}, where its distribution gives token {emitted[at]} probability 0; "
            "read every row's own distributions"
            f"{_WHERE * ragged}, and mask what lies outside of them"
        )
    return target, tokens


def _distributions(
    rows: int, vocab_size: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """p (rows, k + 1, V) of the kinds in turn, and q (rows, k, V), which likes the tokens that p
    leaves out.
    """
    target = rng.uniform(0.5, 1.5, (rows, _K + 1, vocab_size))
    draft = rng.uniform(0.5, 1.5, (rows, _K, vocab_size))
    kinds, half = np.arange(rows) % len(_KINDS), (vocab_size + 1) // 2
    target[kinds == TAIL, :, half:] = 0
    target[kinds == HEAD, :, :-half] = 0
    greedy = rng.integers(0, vocab_size, (rows, _K + 1))
    greedy[::8, :] = vocab_size - 1  # the last token of a tile that is not full
    one_hot = np.eye(vocab_size)[greedy]
    target[kinds == GREEDY] = one_hot[kinds == GREEDY]
    draft[kinds == GREEDY] += (
        vocab_size * one_hot[kinds == GREEDY, :_K]
    )  # right about half of the time
    target /= target.sum(-1, keepdims=True)
    draft /= draft.sum(-1, keepdims=True)
    draft[kinds == EQUAL] = target[kinds == EQUAL, :_K]
    return target, draft


def _beside(ragged: bool, count: int) -> str:
    return f" with {count} drafts beside rows with other numbers" if ragged else ""


def _emitted(
    sampler: Sampler,
    target: np.ndarray,
    draft: np.ndarray,
    drafts: np.ndarray,
    counts: np.ndarray,
    seed: int,
) -> np.ndarray:
    """Tokens (rows, k + 1), padded: of one call of a batched sampler, of a call for each row
    otherwise.
    """
    generator, vocab_size = generator_of(sampler, seed), target.shape[-1]
    inputs, untouched = (batch_arguments(sampler, target, draft, drafts, counts) for _ in range(2))
    if sampler.batched:
        return checked_batch(sampler, inputs, drafts, counts, vocab_size, generator)
    tokens = np.full((len(drafts), _K + 1), PADDING, dtype=np.int64)
    for row, row_drafts in enumerate(drafts.tolist()):
        given, kept = (tuple(argument[row] for argument in whole) for whole in (inputs, untouched))
        emitted = checked_call(
            sampler,
            given,
            kept,
            None if sampler.drafts == "own" else tuple(row_drafts),
            vocab_size,
            generator,
        )
        tokens[row, : len(emitted)] = emitted
    return tokens


def _check_distribution(
    distribution: np.ndarray, tokens: np.ndarray, kind: str, ragged: bool
) -> None:
    """First tokens of one kind of rows against their distribution (V,)."""
    seen, counts = np.unique(tokens, return_counts=True)
    log_e = float(log_bets(np.zeros(len(seen)), distribution[seen], counts.astype(float))[0])
    if log_e >= math.log(len(_KINDS) / _FALSE_ALARM):
        far = (
            np.abs(
                np.bincount(tokens, minlength=len(distribution)) / len(tokens) - distribution
            ).sum()
            / 2
        )
        raise ContractError(
            f"beside rows of other distributions{' and other numbers of drafts' * ragged}, those "
            f"with a {kind} follow another distribution "
            f"(total variation about {far:.2g}); read every row's own distributions, drafts and "
            f"noise{_WHERE * ragged}"
        )
