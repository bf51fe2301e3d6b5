"""Small languages for constrained decoding, each as a regular expression, as llama.cpp's grammar
and as what may follow a beginning of one of its texts.

A language is a sequence of parts; a part is one of some words, or so many letters of a set.
Beginnings are read by following all parts at once, so that no library for partial matches is
needed.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import re
from collections.abc import Sequence


@dataclasses.dataclass(frozen=True, kw_only=True)
class Part:
    """One of `words`, or from `least` to `most` of the `letters`, each in ASCII."""

    words: tuple[str, ...] = ()
    letters: str = ""
    """As in a character class: `a-z `."""
    least: int = 1
    most: int = 1

    def ends(self, text: str, begin: int) -> tuple[set[int], bool]:
        """Where the part may end that begins at a place of a text, and whether the text may end
        within it.
        """
        rest = text[begin:]
        if self.words:
            ends = {begin + len(word) for word in self.words if rest.startswith(word)}
            return ends, any(word != rest and word.startswith(rest) for word in self.words)
        found = re.match(f"[{self.letters}]{{0,{self.most}}}", rest)
        longest = found.end() if found else 0
        ends = {begin + count for count in range(self.least, longest + 1)}
        return ends, longest == len(rest) and longest < self.most

    @property
    def regex(self) -> str:
        if self.words:
            return f"({'|'.join(map(re.escape, self.words))})".replace("\\ ", " ").replace(
                "\\-", "-"
            )
        return f"[{self.letters}]{{{self.least},{self.most}}}"

    @property
    def gbnf(self) -> str:
        """In the form of llama.cpp."""
        if self.words:
            return f"({' | '.join(map(json.dumps, self.words))})"
        return f"[{self.letters}]{{{self.least},{self.most}}}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Language:
    """The texts that a constraint allows.

    Example: `Language(parts=(Part(words=("a", "b")), Part(letters="0-9", least=2, most=3)))`.
    """

    parts: tuple[Part, ...]

    @property
    def regex(self) -> str:
        return "".join(part.regex for part in self.parts)

    @property
    def gbnf(self) -> str:
        """A grammar of llama.cpp."""
        return f"root ::= {' '.join(part.gbnf for part in self.parts)}"

    def viable(self, text: str) -> bool:
        """Whether a text is in the language, or a longer one that begins with it.

        >>> Language(parts=(Part(words=("yes", "no")),)).viable("ye")
        True
        """
        return self._read(text)[1]

    def holds(self, text: str) -> bool:
        """Whether a text is in the language."""
        return self._read(text)[0]

    def choices(self, text: str) -> int:
        """How many letters may follow a beginning, and the end where it may end here."""
        letters = sum(self.viable(text + chr(code)) for code in range(32, 127))
        return letters + self.holds(text)

    def _read(self, text: str) -> tuple[bool, bool]:
        return _read(self.parts, text)


@functools.lru_cache(maxsize=1 << 16)
def _read(parts: tuple[Part, ...], text: str) -> tuple[bool, bool]:
    """Whether a text is in the language of some parts, and whether it begins one that is."""
    places, viable = {0}, False
    for part in parts:
        following: set[int] = set()
        for place in places:
            ends, within = part.ends(text, place)
            following |= ends
            viable |= within
        places = following
    whole = len(text) in places
    return whole, viable or whole


@dataclasses.dataclass(frozen=True, kw_only=True)
class ServedToken:
    """One new token of a text: its letters, and the log-probabilities of the likeliest tokens at
    its place.
    """

    token: str
    likeliest: dict[str, float]


LANGUAGES: dict[str, Language] = {
    "date": Language(
        parts=(
            Part(
                words=("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
            ),
            Part(words=(", ",)),
            Part(letters="0-9", least=1, most=2),
            Part(words=(" May ", " June ", " July ", " March ", " August ")),
            Part(letters="0-9", least=4, most=4),
        )
    ),
    "sentence": Language(
        parts=(
            Part(letters="A-Z"),
            Part(letters="a-z ", least=12, most=30),
            Part(words=("!", "?")),
        )
    ),
}
"""The languages that are asked for, by name."""


def judged_rows(
    language: Language, rows: Sequence[ServedToken], tolerance: float
) -> tuple[int, tuple[int, str] | None]:
    """How many tokens could be judged, and the first that is not the likeliest one that its row of
    the mask allows, with the reason; None where all are. `tolerance` is in nats.

    Rows at which the text may end, or at which only one letter may follow, are left out: what ends
    a text has no letters, and engines may write forced letters without asking the model. So are
    rows none of whose likeliest tokens is allowed.
    """
    written, judged = "", 0
    for at, row in enumerate(rows):
        if not language.viable(written + row.token):
            return judged, (at, f"token {row.token!r} after {written!r} is not allowed")
        best = _best_allowed(language, written, row)
        if best is not None and not language.holds(written) and language.choices(written) > 1:
            judged += 1
            chosen = row.likeliest.get(row.token, -math.inf)
            if row.likeliest[best] - chosen > tolerance:
                return judged, (
                    at,
                    f"token {row.token!r} after {written!r} is not the likeliest allowed one, "
                    f"{best!r}",
                )
        written += row.token
    return judged, None


def tied(language: Language, rows: Sequence[ServedToken], other: str, tolerance: float) -> bool:
    """Whether another text of the language parts from the rows where a token of it is about as
    likely.
    """
    written = ""
    for row in rows:
        if not other.startswith(written + row.token):
            chosen = row.likeliest.get(row.token, math.inf)
            return any(
                other.startswith(written + token) and chosen - value <= tolerance
                for token, value in row.likeliest.items()
                if token and language.viable(written + token)
            )
        written += row.token
    return False


def _best_allowed(language: Language, written: str, row: ServedToken) -> str | None:
    allowed = [token for token in row.likeliest if token and language.viable(written + token)]
    return max(allowed, key=row.likeliest.__getitem__, default=None)
