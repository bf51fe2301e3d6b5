"""Words in columns."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence


def aligned(lines: Sequence[Sequence[str]], left: Collection[int]) -> Iterator[str]:
    """Lines of as many words each, two spaces between columns; those of `left` start together, others end together."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        words = zip(line, widths, strict=True)
        yield "  ".join(word.ljust(width) if at in left else word.rjust(width) for at, (word, width) in enumerate(words)).rstrip()
