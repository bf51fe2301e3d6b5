"""Text in columns, and sentences wrapped for a terminal of 80 columns."""

from __future__ import annotations

import textwrap
from collections.abc import Collection, Iterator, Sequence

WIDTH = 80


def wrapped(text: str, indent: str = "") -> list[str]:
    """Lines of at most `WIDTH` columns; those after the first begin with `indent`. No word is
    cut.
    """
    return textwrap.wrap(
        text, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )


def aligned(lines: Sequence[Sequence[str]], left: Collection[int]) -> Iterator[str]:
    """Rows of words as columns, two spaces apart; those in `left` are aligned to the left, the
    others to the right.
    """
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        words = zip(line, widths, strict=True)
        yield "  ".join(
            word.ljust(width) if at in left else word.rjust(width)
            for at, (word, width) in enumerate(words)
        ).rstrip()
