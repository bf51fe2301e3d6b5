"""How many tokens conformance needs to find logits processors that are applied to the wrong rows.

    python benchmarks/processor_power.py --into docs/processors.md

This project's decoder verifies with processors that are wrong in one way, on the embedded pair at
temperature 1, and conformance judges the texts under the right ones. Exits with 1 where the right
decoder is called wrong more often than alpha allows beyond chance.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from conformance import Pair, row, table
from marked_page import marks_of, write_lines
from scipy import stats

from pytest_specdec.cases.texts import Text
from pytest_specdec.decoding.decode import decode
from pytest_specdec.decoding.penalties import OutputPenalties
from pytest_specdec.decoding.processors import BatchProcessors, Processors
from pytest_specdec.lossless.texts.conformance import Conformance, conformance

MARKED = marks_of("processor_power.py")
RUNS, K, NEW, ALPHA, BATCHES = 5, 3, 128, 0.01, (4, 12, 40)
KNOWN_RUNS, REJECTED_CASES = 3, ("rejected drafts count", "rejected drafts count, stronger")


class Alternating:
    """A grammar of words and letters: after an odd token one half of the vocabulary, after an even
    one the other, with a part that both have.
    """

    def for_prompt(self, prompt: Sequence[int]) -> Any:
        def mask(input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
            text, ids = input_ids[0, len(prompt) :], torch.arange(scores.shape[-1])
            odd = len(text) > 0 and int(text[-1]) % 2 == 1
            allowed = (ids < 700) if odd else (ids >= 70)
            return scores.masked_fill(~allowed, -torch.inf)

        return mask

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        return scores


class Verifying(BatchProcessors):
    """Right for drafts; verification reads each row's scores after `prefix`."""

    def __init__(self, rows: list[Any], on_drafts: bool) -> None:
        super().__init__(rows, on_drafts)
        self.state: list[dict[str, Any]] = [{} for _ in rows]

    def select(self, rows: Iterable[int]) -> None:
        chosen = list(rows)
        super().select(chosen)
        self.state = [self.state[row] for row in chosen]

    def draft(self, ids: Any, firsts: Any, logits: Any, new: Any = None) -> torch.Tensor:
        return BatchProcessors.target(self, ids, firsts, logits, new)[0]

    def target(self, ids: Any, firsts: Any, logits: Any, new: Any = None) -> Any:
        processed = logits.float().clone()
        dead = torch.zeros(logits.shape[:2], dtype=torch.bool)
        for number, first in enumerate(firsts):
            drafts = ids[number, first : first + logits.shape[1] - 1].tolist()
            before = ids[number, :first].tolist()
            self.begin(self.state[number], before, drafts)
            for column in range(logits.shape[1]):
                prefix = self.prefix(self.state[number], before, drafts[:column], len(drafts))
                if prefix is not None:
                    scores = self.rows[number](torch.tensor(prefix), logits[number, column])
                    processed[number, column] = scores
        return processed, dead

    def begin(self, state: dict[str, Any], before: list[int], drafts: list[int]) -> None:
        """A round begins."""

    def prefix(
        self, state: dict[str, Any], before: list[int], drafts: list[int], k: int
    ) -> list[int] | None:
        """What the scores of a row are processed after; None for no processing."""
        return before + drafts


class OneRowLate(Verifying):
    def prefix(self, state: Any, before: Any, drafts: Any, k: int) -> list[int] | None:
        return before + drafts[:-1]


class BonusLeftOut(Verifying):
    def prefix(self, state: Any, before: Any, drafts: Any, k: int) -> list[int] | None:
        return None if k and len(drafts) == k else before + drafts


class RoundsStart(Verifying):
    def prefix(self, state: Any, before: Any, drafts: Any, k: int) -> list[int] | None:
        return list(before)


class LeftOut(Verifying):
    def prefix(self, state: Any, before: Any, drafts: Any, k: int) -> list[int] | None:
        return None if drafts else list(before)


class RejectedCount(Verifying):
    """Drafts that were rejected stay in the history."""

    def begin(self, state: dict[str, Any], before: list[int], drafts: list[int]) -> None:
        tried, begun = state.get("drafts", []), state.get("begun", 0)
        kept = before[begun : begun + len(tried)]
        accepted = next(
            (at for at, (one, other) in enumerate(zip(tried, kept, strict=False)) if one != other),
            min(len(tried), len(kept)),
        )
        rejected = [*state.get("rejected", []), *tried[accepted:]]
        state.update(drafts=drafts, begun=len(before), rejected=rejected, accepted=tried[:accepted])

    def prefix(self, state: Any, before: Any, drafts: Any, k: int) -> list[int] | None:
        return [*before, *state["rejected"], *drafts]


class EmittedCountTwice(Verifying):
    def begin(self, state: dict[str, Any], before: list[int], drafts: list[int]) -> None:
        state.setdefault("length", len(before))

    def prefix(self, state: Any, before: Any, drafts: Any, k: int) -> list[int] | None:
        return [*before, *before[state["length"] :], *drafts]


class AcceptedCountTwice(RejectedCount):
    """Accepted drafts enter the history when they are verified, and again when they are emitted."""

    def begin(self, state: dict[str, Any], before: list[int], drafts: list[int]) -> None:
        super().begin(state, before, drafts)
        state["twice"] = [*state.get("twice", []), *state["accepted"]]

    def prefix(self, state: Any, before: Any, drafts: Any, k: int) -> list[int] | None:
        return [*before, *state["twice"], *drafts]


@dataclasses.dataclass(frozen=True)
class WrongProcessors(Processors):
    """Processors of texts that are verified in a way of their own."""

    way: type[Verifying] = Verifying

    def for_texts(self, prompts: Iterable[Sequence[int]]) -> BatchProcessors:
        return self.way([self.for_text(prompt) for prompt in prompts], self.on_drafts)


MASK, PENALTY = Alternating(), OutputPenalties(presence=0.6, frequency=0.4)
STRONG = OutputPenalties(presence=2.0, frequency=1.0)
CASES: dict[str, tuple[str, Any, type[Verifying]]] = {
    "a mask is one row late": ("mask", MASK, OneRowLate),
    "the bonus token is not masked": ("mask", MASK, BonusLeftOut),
    "every row has the mask of the round's start": ("mask", MASK, RoundsStart),
    "rejected drafts count": ("presence 0.6, frequency 0.4", PENALTY, RejectedCount),
    "rejected drafts count, stronger": ("presence 2, frequency 1", STRONG, RejectedCount),
    "emitted tokens count twice": ("presence 0.6, frequency 0.4", PENALTY, EmittedCountTwice),
    "every row has the history of the round's start": (
        "presence 0.6, frequency 0.4",
        PENALTY,
        RoundsStart,
    ),
    "penalties are left out after the first draft": (
        "presence 0.6, frequency 0.4",
        PENALTY,
        LeftOut,
    ),
    "none: the mask is right": ("mask", MASK, Verifying),
    "none: the penalties are right": ("presence 0.6, frequency 0.4", PENALTY, Verifying),
}


def waited(pair: Pair, processor: Any, way: type[Verifying], seed: int) -> int | None:
    """Tokens until the texts of a decoder are called wrong; None where they are not."""
    texts: list[Any] = []
    ids = pair.prompts
    for count in BATCHES:
        texts += decode(
            pair.target,
            pair.draft,
            ids[len(texts) : count],
            k=K,
            new_tokens=NEW,
            seed=seed,
            processors=WrongProcessors((processor,), way=way),
        ).texts
        found = conformance(
            pair.target, texts, drafter=pair.draft, processors=processor, alpha=ALPHA
        )
        if not found.conforms:
            places = [(one.text, one.position) for one in found.violations]
            places += [found.crossed] if found.crossed else []
            text, position = min(places)
            before = sum(len(one.ids) - one.prompt_length for one in texts[:text])
            return before + position - texts[text].prompt_length + 1
    return None


KNOWN = ("text alone", "with the rounds", "with the drafts")
"""What conformance knows of each run beside its texts and the drafter."""


def waited_knowing(pair: Pair, processor: Any, way: type[Verifying], seed: int) -> list[int | None]:
    """Tokens until the texts of a decoder are called wrong, by what is `KNOWN`; None where they
    are not.
    """
    texts, rounds, drafts = list[Any](), list[Any](), list[Any]()
    found: dict[str, int] = {}
    for count in BATCHES:
        decoded = decode(
            pair.target,
            pair.draft,
            pair.prompts[len(texts) : count],
            k=K,
            new_tokens=NEW,
            seed=seed,
            processors=WrongProcessors((processor,), way=way),
        )
        texts += decoded.texts
        rounds += decoded.rounds
        drafts += decoded.drafts
        more: list[dict[str, Any]] = [{}, {"rounds": rounds}, {"rounds": rounds, "drafts": drafts}]
        for name, options in zip(KNOWN, more, strict=True):
            if name in found:
                continue
            judged = conformance(
                pair.target,
                texts,
                drafter=pair.draft,
                processors=processor,
                alpha=ALPHA,
                **options,
            )
            if not judged.conforms:
                found[name] = _tokens_read(judged, texts)
    return [found.get(name) for name in KNOWN]


def _tokens_read(judged: Conformance, texts: Sequence[Text]) -> int:
    """New tokens up to the first that shows that the texts are wrong."""
    places = [(one.text, one.position) for one in judged.violations]
    places += [judged.crossed] if judged.crossed else []
    text, position = min(places)
    before = sum(len(one.ids) - one.prompt_length for one in texts[:text])
    return before + position - texts[text].prompt_length + 1


def lines_of(pair: Pair, report: Callable[[str], None]) -> tuple[list[str], bool]:
    """The table, and whether the right decoders keep the level."""
    lines = table("defect", "processors", "tokens until found", "found in")
    right, kept = 0, True
    for name, (words, processor, way) in CASES.items():
        waits = [waited(pair, processor, way, seed) for seed in range(RUNS)]
        known = [wait for wait in waits if wait is not None]
        most = BATCHES[-1] * NEW
        median = statistics.median([most + 1 if wait is None else wait for wait in waits])
        shown = f"more than {most:,}" if median > most else f"{median:,.0f}"
        lines.append(row(name, words, shown, f"{len(known)} of {RUNS} runs"))
        report(lines[-1])
        right += len(known) if way is Verifying else 0
    kept = stats.binomtest(right, 2 * RUNS, ALPHA, alternative="greater").pvalue > 0.001
    return lines, kept


def known_lines(pair: Pair, report: Callable[[str], None]) -> list[str]:
    """The table of what rounds and drafts add."""
    lines, most = table("defect", "processors", *KNOWN), BATCHES[-1] * NEW
    for name in REJECTED_CASES:
        words, processor, way = CASES[name]
        waits = [waited_knowing(pair, processor, way, seed) for seed in range(KNOWN_RUNS)]
        cells = []
        for column in zip(*waits, strict=True):
            found = [wait for wait in column if wait is not None]
            median = statistics.median([most + 1 if wait is None else wait for wait in column])
            shown = f"more than {most:,}" if median > most else f"{median:,.0f}"
            cells.append(f"{shown} ({len(found)} of {KNOWN_RUNS})")
        lines.append(row(name, words, *cells))
        report(lines[-1])
    return lines


PAGE = """
Tokens until conformance calls the texts of a wrong verification wrong, at alpha = {alpha:.0%} (`make processor-power`):
the embedded pair at temperature 1, k = {k}, {new} new tokens a text, up to {texts} texts, medians of {runs} runs. The
mask allows 700 or 954 of 1,024 tokens, depending on the last one. What a text hides, `assert_lossless_generation` still
finds exactly.

{table}

Rejected drafts that count, where conformance knows the rounds (`rounds=`), or also their draft tokens (`drafts=`), beside
text and drafter: medians of {known_runs} runs and, in brackets, of how many it was found.

{known}
"""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--into", type=Path, required=True)
    into = parser.parse_args().into
    pair = Pair.load()
    lines, kept = lines_of(pair, lambda line: print(line, flush=True))
    known = known_lines(pair, lambda line: print(line, flush=True))
    text = PAGE.format(
        alpha=ALPHA,
        k=K,
        new=NEW,
        texts=BATCHES[-1],
        runs=RUNS,
        table="\n".join(lines),
        known_runs=KNOWN_RUNS,
        known="\n".join(known),
    )
    write_lines(into, MARKED, text.strip("\n"))
    raise SystemExit(0 if kept else 1)


if __name__ == "__main__":
    main()
