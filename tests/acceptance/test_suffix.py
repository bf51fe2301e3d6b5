"""Suffix decoding against its rules, written out by counting pieces of the sequences."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest

from pytest_specdec.acceptance.suffix import SuffixCache, SuffixSettings, SuffixTree
from pytest_specdec.common.errors import RequestError


def occurrences(sequences: Sequence[Sequence[int]], piece: Sequence[int]) -> int:
    """How often a piece occurs in the sequences."""
    size = len(piece)
    return sum(
        list(sequence[at : at + size]) == list(piece)
        for sequence in sequences
        for at in range(len(sequence) - size + 1)
    )


def seen_order(sequences: Sequence[Sequence[int]], piece: Sequence[int]) -> list[int]:
    """The tokens after a piece, in the order in which they were seen."""
    size = len(piece)
    found = [
        sequence[at + size]
        for sequence in sequences
        for at in range(len(sequence) - size)
        if list(sequence[at : at + size]) == list(piece)
    ]
    return list(dict.fromkeys(found))


def counted_draft(
    sequences: Sequence[Sequence[int]], pattern: Sequence[int], k: int, settings: SuffixSettings
) -> tuple[list[int], float]:
    """The best draft after a pattern, piece by piece."""
    best: tuple[list[int], float] = ([], 0.0)
    for length in range(1, len(pattern)):
        piece = list(pattern[-length:])
        if not occurrences(sequences, piece):
            break
        drafts: list[int] = []
        share, score = 1.0, 0.0
        while len(drafts) < min(k, int(length * settings.factor + 1e-6)):
            path = [*piece, *drafts]
            following = [] if len(path) >= settings.depth else seen_order(sequences, path)
            if not following:
                break
            token = max(following, key=lambda token: occurrences(sequences, [*path, token]))
            share *= occurrences(sequences, [*path, token]) / occurrences(sequences, path)
            if share < settings.least_share:
                break
            drafts.append(token)
            score += share
        if score >= best[1]:
            best = drafts, score
    return best


SETTINGS = {
    "vLLM's": SuffixSettings(),
    "short pieces": SuffixSettings(depth=4),
    "long drafts": SuffixSettings(factor=3.0, least_share=0.0),
    "sure drafts": SuffixSettings(factor=2.0, least_share=0.6),
}


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_a_trees_drafts_are_those_of_counting(settings: SuffixSettings) -> None:
    rng, drafted = random.Random(3), 0
    for _ in range(12):
        sequences = [[rng.randrange(3) for _ in range(rng.randrange(4, 30))] for _ in range(3)]
        tree = SuffixTree(settings.depth)
        for sequence in sequences:
            tree.begin()
            tree.extend(sequence)
        for end in (5, 12, len(sequences[-1])):
            pattern = sequences[-1][max(0, end - settings.depth) : end]
            drafts, score = tree.propose(pattern, 5, settings)
            expected, expected_score = counted_draft(sequences, pattern, 5, settings)
            assert drafts == expected
            assert score == pytest.approx(expected_score)
            drafted += len(drafts)
    assert drafted > 20


@pytest.mark.parametrize("cached", [0, -1])
def test_a_request_sees_itself_and_the_answers_before_it(cached: int) -> None:
    settings = SuffixSettings(cached=cached, factor=2.0)
    rng = random.Random(5)
    cache, answers, from_answers = SuffixCache(settings), list[list[int]](), 0
    for _ in range(6):
        prompt = [rng.randrange(4) for _ in range(6)]
        index = cache.request(prompt)
        answer: list[int] = []
        answers.append(answer)
        for _ in range(12):
            token = rng.randrange(4)
            index.extend([token])
            answer.append(token)
            pattern = [*prompt, *answer][-settings.depth :]
            own = counted_draft([[*prompt, *answer]], pattern, 4, settings)
            others = counted_draft(answers, pattern, 4, settings) if cached else ([], 0.0)
            best = others if others[1] > own[1] + 1e-12 else own
            from_answers += best is others
            assert index.propose(4) == best[0]
    assert bool(from_answers) == bool(cached)


def test_more_requests_than_answers_are_kept_are_refused() -> None:
    cache = SuffixCache(SuffixSettings(cached=1))
    cache.request([1, 2])
    with pytest.raises(RequestError, match=r"keeps 1 answers and this is request 2; use fewer pro"):
        cache.request([1, 2])
