"""The acceptance report as plain text, modelled on reports that users of audio models write."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from ..common.percent import signed_percent
from ..speedup.grid_summary import EXCELLENT, WORTH_IT, CellFigures
from .chapters import Chapter, chapters, names_pair
from .facts import SessionFacts
from .row import Number, ReportRow, SamplesRow, SpreadRow
from .table import judged_drop, tables
from .words import Phrases

_WIDTH = 70
_FORMULAS = {
    "rejection": "min(1, p(x)/q(x))",
    "sample-match": "p(x)",
    "greedy": "1 if x = argmax p, else 0",
    "block": "of the block that ends in it (block verification)",
}


def render(
    rows: Iterable[ReportRow], language: str = "en", facts: SessionFacts | None = None
) -> str:
    """One chapter for each pair at one temperature, and a table of the counts whose pair is not
    known.
    """
    phrases, rows = Phrases(language), list(rows)
    lines = [line for chapter in chapters(rows) for line in _chapter(chapter, phrases)]
    return "\n".join([*lines, *tables(row for row in rows if not names_pair(row))]) + "\n"


def _chapter(chapter: Chapter, say: Phrases) -> Iterator[str]:
    first_row = chapter.rows[0]
    pair = say(
        "pair", drafter=Path(first_row["drafter"]).name, target=Path(first_row["target"]).name
    )
    yield from _boxed(say("title", chapter=chapter.name), pair)
    yield from ("", *_under(say("about"), about(chapter, say)))
    yield from ("", *_under(say("overall"), overall(chapter, say)))
    yield from ("", *_boxed(say("details")))
    for depth, rows in chapter.depths.items():
        yield from ("", *_boxed(say("depth", depth=depth)))
        for row in rows:
            yield from ("", *_under(say("k", k=row["k"]), details(row, say)))
    yield from ("", *_boxed(say("conclusions")), *conclusions(chapter, say), "")


def about(chapter: Chapter, say: Phrases) -> Iterator[str]:
    """How to read the figures."""
    first_row = chapter.rows[0]
    formula = _FORMULAS.get(first_row["rule"], first_row["rule"])
    yield say(
        "about_accept",
        rule=first_row["rule"],
        temperature=first_row["temperature"],
        formula=formula,
    )
    yield say("about_k")
    if first_row["judged"]:
        yield say("about_judged", judged=first_row["judged"])
    yield say("about_sample")
    yield say("about_pooled")


def overall(chapter: Chapter, say: Phrases) -> Iterator[str]:
    """Figures over all combinations."""
    yield say("samples", count=chapter.summary.samples)
    yield say("ks", values=chapter.ks)
    yield say("depths", values=list(chapter.depths))
    yield say("overall_rate", rate=say.percent(chapter.summary.mean_rate))
    yield say("overall_accepted", accepted=say.number(chapter.summary.mean_accepted, 2))


def conclusions(chapter: Chapter, say: Phrases) -> Iterator[str]:
    """The best combination by each figure, and an assessment where an interval supports one."""
    summary = chapter.summary
    if (best := summary.highest_rate) is not None:
        rate = say.percent(best.mean_rate)
        most = say.percent(_samples(chapter, best)["rate"]["most"])
        yield say("best_rate", cell=_named(best, say), value=rate, most=most)
    if (best := summary.highest_accepted) is not None:
        accepted = say.number(best.mean_accepted, 2)
        most = say.number(_samples(chapter, best)["accepted"]["most"], 2)
        yield say("best_accepted", cell=_named(best, say), value=accepted, most=most)
    if (best := summary.fastest) is not None:
        throughput = say.number(summary.tokens_per_second(best), 1)
        yield say("best_per_second", cell=_named(best, say), value=throughput)
    yield say("by_depth") + ":"
    for depth in chapter.depths:
        words = {
            "rate": say.percent(summary.mean_rate_at(depth)),
            "accepted": say.number(summary.mean_accepted_at(depth), 2),
            "per_second": say.number(summary.highest_throughput_at(depth), 1),
        }
        yield "  " + say("by_depth_line", depth=depth, **words)
    yield from _assessment(chapter, say)


def _samples(chapter: Chapter, cell: CellFigures) -> SamplesRow:
    """The samples of a cell that has some."""
    samples = chapter.row(cell)["samples"]
    assert samples is not None
    return samples


def _assessment(chapter: Chapter, say: Phrases) -> Iterator[str]:
    summary = chapter.summary
    best, word = summary.fastest, summary.assessment
    if best is None or word is None:
        yield say("unknown")
        return
    low, high = summary.interval(best) or (None, None)
    numbers = {
        "value": say.number(summary.speedup(best), 2),
        "low": say.number(low, 2),
        "high": say.number(high, 2),
    }
    yield say("assessment", cell=_named(best, say), word=say(word), **numbers)
    if not summary.drafting_pays:
        yield say("do_not_draft")
    yield say("thresholds", excellent=EXCELLENT, worth=WORTH_IT)
    if not summary.whole_requests:
        yield say("other_starts")


def _named(best: CellFigures, say: Phrases) -> str:
    """A combination's name."""
    return say("cell", k=best.k, depth=best.depth)


def cell(row: ReportRow, say: Phrases) -> str:
    """A combination's name."""
    return say("cell", k=row["k"], depth=row["depth"])


def details(row: ReportRow, say: Phrases) -> Iterator[str]:
    """One combination: its samples, the pooled figures, times, worst samples and verdict."""
    samples = row["samples"]
    if samples is not None:
        yield f"  {say('samples', count=samples['count'])}"
        yield from _block(say("rate"), _spread(samples["rate"], say.percent, say))
        yield from _block(
            say("accepted"), _spread(samples["accepted"], lambda value: say.number(value, 2), say)
        )
        yield from _block(
            say("drafted"), _spread(samples["drafted"], lambda value: say.number(value, 1), say)
        )
        yield from _block(
            say("efficiency"), [say("efficiency_line", value=say.percent(samples["rate"]["mean"]))]
        )
        yield from _block(
            say("survival"), [" ".join(say.number(value, 3) for value in samples["survival"])]
        )
    pooled = {
        "rate": say.percent(row["acceptance_rate"]),
        "accepted": say.number(row["expected_accepted"], 3),
    }
    pooled |= {
        "length": say.number(row["acceptance_length"], 3),
        "rounds": say.number(row["rounds"], 0),
    }
    yield from _block(say("pooled"), [say("pooled_line", **pooled)])
    yield from _block(say("time"), list(_times(row, say)))
    if samples is not None:
        yield from _block(say("worst"), _worst(samples, say))
    drop = judged_drop(row)
    change = "" if drop is None else f" ({signed_percent(-drop)})"
    reason = f"{change}: {row['reason']}" if row["reason"] else change
    yield from _block(say("gate"), [say("gate_line", verdict=row["verdict"], reason=reason)])


def _worst(samples: SamplesRow, say: Phrases) -> list[str]:
    return [
        say(
            "worst_line",
            category=sample["category"],
            prompt=sample["text"],
            accepted=say.number(sample["accepted"], 2),
        )
        for sample in samples["worst"]
    ]


def _times(row: ReportRow, say: Phrases) -> Iterator[str]:
    if row["verify_ms"] is None:
        yield say("no_time")
        return
    yield say("draft_ms", value=say.number(row["draft_ms"], 2))
    yield say("verify_ms", value=say.number(row["verify_ms"], 2))
    yield say("per_second", value=say.number(row["tokens_per_second"], 1))
    if len(row["speedup_interval"]) == 2:
        bounds = [say.number(bound, 2) for bound in row["speedup_interval"]]
        yield say("speedup", value=say.number(row["speedup"], 2), low=bounds[0], high=bounds[1])
    if len(row["request_speedup_interval"]) == 2:
        low, high = (say.number(bound, 2) for bound in row["request_speedup_interval"])
        numbers = {
            "length": say.number(row["request_length"], 3),
            "value": say.number(row["request_speedup"], 2),
        }
        yield say("request_line", low=low, high=high, **numbers)


def _spread(spread: SpreadRow, shown: Callable[[Number], str], say: Phrases) -> list[str]:
    values = {
        "mean": spread["mean"],
        "deviation": spread["deviation"],
        "least": spread["least"],
        "most": spread["most"],
    }
    return [say(name, value=shown(value)) for name, value in values.items()]


def _block(head: str, lines: Iterable[str]) -> Iterator[str]:
    yield ""
    yield f"  [{head}]"
    yield from (f"    {line}" for line in lines)


def _boxed(*lines: str) -> Iterator[str]:
    yield from ("=" * _WIDTH, *lines, "=" * _WIDTH)


def _under(head: str, lines: Iterable[str]) -> Iterator[str]:
    yield from (f"{head}:", "-" * _WIDTH, *lines)
