"""The page of docs/real-model.md that `real_model.py` writes from its rows."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import decode_speed
from marked_page import marks_of, write_lines
from real_model_plots import write_picture

DOCS = Path(__file__).parent.parent / "docs"
PAGE, PICTURE, MARKED = DOCS / "real-model.md", DOCS / "real-model.svg", marks_of("real_model.py")


def write_page(paths: Sequence[Path]) -> None:
    """Write docs/real-model.md and its picture anew from the rows of the files."""
    rows = [json.loads(line) for path in paths for line in path.read_text().splitlines()]
    write_picture(rows, PICTURE)
    write_lines(PAGE, MARKED, "\n".join(_sections(rows)) + "\n")


def _sections(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    positions = [row for row in rows if row["what"] == "positions"]
    yield "\n![Acceptance by position, category and length, and speed by k](real-model.svg)\n"
    if positions:
        yield from _by_position(positions)
    yield "\n## Length of the context\n"
    yield (
        "The same by the part of the answer, for those of up to 256 tokens that are so long, k = 4, "
        "temperature 0.\n"
    )
    yield _table(
        ["drafter", "tokens", "texts", "1", "2", "3", "4", "length"],
        (
            [
                row["drafter"],
                f"{row['begin'] + 1} to {row['end']}",
                str(row["texts"]),
                *(f"{a:.2f}" for a in row["conditional"]),
                f"{row['length']:.2f}",
            ]
            for row in rows
            if row["what"] == "stretch"
        ),
    )
    yield from _changes([row for row in rows if row["what"] == "change"])
    yield from _speeds([row for row in rows if row["what"] == "speed"])


def _by_position(positions: Sequence[dict[str, Any]]) -> Iterator[str]:
    yield "\n## Acceptance by position\n"
    yield (
        "Conditional acceptance: of the drafts whose earlier drafts were accepted, in rounds of k = 8.\n"
    )
    yield _table(
        ["drafter", "T", *map(str, range(1, len(positions[0]["conditional"]) + 1))],
        (
            [row["drafter"], f"{row['temperature']:g}", *(f"{a:.2f}" for a in row["conditional"])]
            for row in positions
        ),
    )
    yield "\n## Length by k\n"
    yield "Tokens per pass of the target, over whole texts.\n"
    yield _table(
        ["drafter", "T", *(f"k = {k}" for k in positions[0]["lengths"])],
        (
            [
                row["drafter"],
                f"{row['temperature']:g}",
                *(f"{v:.2f}" for v in row["lengths"].values()),
            ]
            for row in positions
        ),
    )
    yield "\n## Categories\n"
    yield "Conditional acceptance of the first, second and third draft at temperature 0.\n"
    greedy = {row["drafter"]: row["categories"] for row in positions if row["temperature"] == 0}
    yield _table(
        ["category", *(f"{name}, position {n}" for name in greedy for n in (1, 2, 3))],
        (
            [category, *(f"{greedy[name][category][n]:.2f}" for name in greedy for n in range(3))]
            for category in next(iter(greedy.values()), {})
        ),
    )


def _changes(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    if not rows:
        return
    yield "\n## Changed drafters\n"
    yield (
        f"What the gate says of a changed drafter on the same texts, k = {rows[0]['k']}: the drop of the "
        "acceptance length that is judged (at temperature 0 of smoothed counts), its interval for "
        f"other prompts like these at the level of a session with two gates, margin {rows[0]['margin']:.0%}; "
        "and the exact drop.\n"
    )
    yield _table(
        ["drafter", "T", "length before", "drop", "interval", "exact drop", "verdict"],
        (
            [
                row["changed"],
                f"{row['temperature']:g}",
                f"{row['length']:.3f}",
                f"{row['drop']:.2%}",
                " to ".join(f"{bound:.2%}" for bound in row["interval"]),
                f"{row['exact_drop']:.2%}",
                row["verdict"],
            ]
            for row in rows
        ),
    )


def _speeds(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    if not rows:
        return
    first = rows[0]
    own, static = (first["plain"][name] for name in (decode_speed.OWN, decode_speed.STATIC))
    yield "\n## The wall clock\n"
    yield (
        f"`decode` at batch 1 and temperature 0, {first['dtype']}, {first['threads']} threads, answers of "
        f"{first['new_tokens']} tokens, all decoders in turn on each prompt. Plain decoding is the "
        f"faster of our loop ({own:.1f} tokens a second) and of transformers' `generate` with a "
        f"static cache ({static:.1f}). Theory: the replayed length and the times of the same "
        "rounds. Marginal gain: tokens per millisecond that one draft more adds, over those of the "
        "round before it; below 1 a deeper k does not pay.\n"
    )
    yield _table(
        [
            "drafter",
            "k",
            "tokens/s",
            "of plain",
            "theory",
            "marginal gain",
            "tokens per round",
            "draft, verify, step (ms)",
            "differing texts",
        ],
        (
            [
                row["drafter"],
                str(row["k"]),
                f"{row['tokens_per_second']:.1f}",
                f"{row['ratio']:.2f}",
                f"{row['theory']:.2f}",
                _marginal(row, rows),
                f"{row['tokens_per_round']:.2f}",
                ", ".join(
                    f"{row['milliseconds'][part]:.0f}" for part in ("draft", "verify", "target")
                ),
                f"{row['differing']} of {row['texts']}",
            ]
            for row in rows
        ),
    )


def _marginal(row: dict[str, Any], rows: Sequence[dict[str, Any]]) -> str:
    """The gain of a k over the next smaller one of the same drafter: of a round's extra tokens over
    its extra time, in units of the smaller k's tokens per time.
    """
    smaller = [one for one in rows if one["drafter"] == row["drafter"] and one["k"] < row["k"]]
    if smaller:
        before = max(smaller, key=lambda one: one["k"])
        length, time = before["replayed_length"], _round_ms(before)
    else:
        length, time = 1.0, row["milliseconds"]["target"]
    more = _round_ms(row) - time
    if more <= 0:
        return "free"
    return f"{(row['replayed_length'] - length) / more * time / length:.2f}"


def _round_ms(row: dict[str, Any]) -> float:
    return row["milliseconds"]["draft"] + row["milliseconds"]["verify"]


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
