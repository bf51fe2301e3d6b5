"""Replay against decode, for every drafter and lossless rule: the same rounds by two roads.

    python tests/agreement.py > docs/agreement.md
    python tests/agreement.py "Medusa heads" PARD   # anew; other rows are the page's

Decode emits texts and counts its rounds; replay computes, on the same texts, what it should have
counted.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from helpers.embedded import Pair
from helpers.fitted import WRITERS, SmallPairs
from helpers.fitted import K as FITTED_K
from helpers.support import EMBEDDED, ROOT

from pytest_specdec.acceptance.counts import Counts
from pytest_specdec.acceptance.renewal import expected_counts, sample_rounds
from pytest_specdec.cases.case import LOOKUP, OWN_HEADS, Sampling
from pytest_specdec.cases.drafter import SUFFIX
from pytest_specdec.decoding.decode import Decoded
from pytest_specdec.decoding.replay import DrafterPlan, text_scores

ROUNDS = 5000
"""Least number of rounds that a cell counts."""
FIRST_TEXTS, MARGIN = 40, 1.05
"""Texts of the first turn of a cell, and texts of the next by those that are likely missing."""
OF_A_CATEGORY = 16
"""Prompts of a category, which follow one another in the suite."""
FEWEST = 10
"""Accepted tokens at a position that replay must expect for a standard error to mean something."""
K = 6
DRAFTERS = {
    "draft model": ("draft", 0),
    "draft model, 3 MTP heads": ("draft", 3),
    "own heads": (OWN_HEADS, 3),
    "own heads, last one reused": (OWN_HEADS, 1),
    "EAGLE-3 head": (str(EMBEDDED / "text-eagle3"), 0),
    "Medusa heads": (str(EMBEDDED / "text-medusa"), 0),
    "DFlash drafter": (str(EMBEDDED / "text-dflash"), 0),
    "prompt lookup": (LOOKUP, 0),
}
IN_ORDER = {"suffix decoding": (SUFFIX, 0)}
"""Drafters that decode text by text, which takes minutes a cell: on the page, not in the tests."""
ALL = DRAFTERS | IN_ORDER
SHORTER = {"own heads": 3, "EAGLE-3 head": 3, "Medusa heads": 4}
"""Drafters that draft fewer tokens than K."""
RULES = ("rejection", "sample-match", "block")
PAGE = ROOT / "docs" / "agreement.md"


@dataclasses.dataclass(frozen=True)
class Agreement:
    """One cell: what decode counted beside what replay expects on its texts."""

    drafter: str
    rule: str
    k: int
    depth: int
    sampling: Sampling
    rounds: int
    counted: float
    """Acceptance length by counting."""
    expected: float
    """Acceptance length by replay."""
    z: np.ndarray
    """(k,): difference of accepted tokens at each position in standard errors; NaN where fewer than
    `FEWEST` are expected.
    """
    unequal: int
    """Texts whose rounds differ from replay's; meant at temperature 0 and for drafts that are copies,
    where nothing is random.
    """


def agree(
    pair: Pair | SmallPairs,
    name: str,
    rule: str,
    sampling: Sampling,
    *,
    k: int = K,
    rounds: int = ROUNDS,
    seed: int = 0,
    first_texts: int = FIRST_TEXTS,
) -> Agreement:
    """Decode until so many rounds are counted, replay the texts, compare.

    Some texts show how many rounds a text has; as many are then decoded together as are missing.
    Given the texts, their deviations are independent and have mean zero; their squares sum to the
    variance of their sum.
    """
    if isinstance(pair, SmallPairs):
        drafter, depth, k = pair.drafter(name), 0, min(k, FITTED_K)
    else:
        (drafter, depth), k = ALL[name], min(k, SHORTER.get(name, k))
    counted, expected, unequal = Tally(k), Tally(k), 0
    mixed = [
        prompt for first in range(OF_A_CATEGORY) for prompt in pair.prompts[first::OF_A_CATEGORY]
    ]
    texts = len(mixed) if sampling.temperature == 0 else first_texts
    for turn in itertools.count(seed):
        prompts = [*itertools.islice(itertools.cycle(mixed), texts)]
        decoded = pair.decode(drafter, k, depth, rule, sampling, turn, prompts)
        model = pair.draft if isinstance(pair, Pair) and drafter == "draft" else drafter
        (scores,) = text_scores(
            pair.target, [DrafterPlan(model, depth, k)], decoded.texts, sampling
        )
        field = scores.field(rule)
        counted.add(decoded.counts)
        expected.add(expected_counts(field, k))
        unequal += sum(
            counted_round != replayed_round
            for counted_round, replayed_round in zip(
                inside(decoded), sample_rounds(field, k, np.random.default_rng(0)), strict=True
            )
        )
        if counted.rounds >= rounds or sampling.temperature == 0:
            break
        rounds_of_a_text = counted.rounds / len(counted.accepted)
        texts = math.ceil(MARGIN * (rounds - counted.rounds) / rounds_of_a_text)
    deviation = counted.accepted - expected.accepted
    spread = np.sqrt((deviation**2).sum(0))
    z = np.divide(deviation.sum(0), spread, out=np.zeros(k), where=spread > 0)
    z[expected.accepted.sum(0) < FEWEST] = np.nan
    return Agreement(
        name,
        rule,
        k,
        depth,
        sampling,
        int(counted.rounds),
        counted.length,
        expected.length,
        z,
        unequal,
    )


class Tally:
    """Counts of several runs, prompt by prompt and run by run."""

    def __init__(self, k: int) -> None:
        self.rounds, self.accepted = 0.0, np.zeros((0, k))

    def add(self, counts: Counts) -> None:
        self.rounds += counts.total_rounds
        self.accepted = np.concatenate([self.accepted, counts.accepted])

    @property
    def length(self) -> float:
        return float(1 + self.accepted.sum() / self.rounds)


def inside(decoded: Decoded) -> list[list[tuple[int, int]]]:
    """Start and number accepted of the rounds that are counted."""
    pairs = zip(decoded.texts, decoded.rounds, strict=True)
    return [
        [
            (played.start, played.accepted)
            for played in rounds
            if played.start + decoded.k <= len(text.ids)
        ]
        for text, rounds in pairs
    ]


def certain(cell: Agreement) -> bool:
    """Whether nothing is random given the text, so that every round must be equal."""
    drafter, _ = ALL.get(cell.drafter, ("", 0))
    return cell.sampling.temperature == 0 or drafter in (LOOKUP, SUFFIX)


def cells(pair: Pair | SmallPairs, name: str, rounds: int = ROUNDS) -> Iterator[Agreement]:
    yield agree(pair, name, "greedy", Sampling(0), rounds=rounds)
    for rule in RULES:
        yield agree(pair, name, rule, Sampling(1.0), rounds=rounds)
    yield agree(pair, name, "rejection", Sampling(0.8, 50, 0.9), rounds=rounds)


def row(cell: Agreement) -> str:
    """A cell as a line of the page."""
    apart = (
        f"{cell.unequal} texts differ"
        if certain(cell)
        else " ".join("few" if np.isnan(z) else f"{z:+.1f}" for z in cell.z)
    )
    return (
        f"| {cell.drafter} | {cell.k} | {cell.rule} | {cell.sampling.suffix} | {cell.rounds} | "
        f"{cell.counted:.3f} | {cell.expected:.3f} | {apart} |"
    )


def kept_rows(name: str) -> list[str]:
    """A drafter's lines that the page has."""
    return [line for line in PAGE.read_text().splitlines() if line.startswith(f"| {name} |")]


HEAD = """# Replay and decode, cell by cell

Made by `make agreement`: *decoded* is the acceptance length that decode counted, *replayed* what replay
expects given decode's texts, without a single draft. At temperature 0, and for drafts that are copies, nothing is random
given the text, and every round must be equal; else the column gives, position by position, how many standard
errors the accepted tokens lie apart (*few*: less than 10 are expected there). `python tests/agreement.py NAME ...` makes the rows of some drafters anew.

"""
EMBEDDED_PART = """## The embedded pair

The text suite's 80 prompts, 96 new tokens each, as many texts as have 5,000 rounds (80 at temperature 0).

"""
SMALL_PART = """
## Small drafters of the other kinds

No trained checkpoint of these kinds is in the repository. Here a target of four layers and 32 tokens, and drafters
that `tests/helpers/fitted.py` writes with random weights in their packaging and fits for some seconds to texts of the
target, so that they draft better than chance at each of four positions. 80 prompts, 24 new tokens each, as many
texts as have 5,000 rounds (80 at temperature 0).

"""
COLUMNS = """| drafter | k | rule | sampling | rounds | decoded | replayed | apart |
|---|---|---|---|---|---|---|---|"""


def main() -> None:
    anew = sys.argv[1:] or [*ALL, *WRITERS]
    if unknown := [name for name in anew if name not in ALL and name not in WRITERS]:
        raise SystemExit(f"no drafters {unknown}; known: {[*ALL, *WRITERS]}")
    embedded = Pair.load()
    print(f"{HEAD}{EMBEDDED_PART}{COLUMNS}")
    show(embedded, ALL, anew)
    with tempfile.TemporaryDirectory() as folder:
        print(f"{SMALL_PART}{COLUMNS}")
        show(SmallPairs.make(Path(folder)), WRITERS, anew)


def show(pair: Pair | SmallPairs, names: Iterable[str], anew: Sequence[str]) -> None:
    """Print the rows of drafters, measured anew or as the page has them."""
    for name in names:
        found = map(row, cells(pair, name)) if name in anew else kept_rows(name)
        for line in found:
            print(line, flush=True)


if __name__ == "__main__":
    main()
