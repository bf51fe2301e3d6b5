"""The phrases of reports, one file per language: `words.en.json` and the others."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from importlib import resources


@functools.cache
def phrases_of(language: str) -> Mapping[str, str]:
    """All phrases of a language, by name."""
    text = (
        resources.files(__package__).joinpath(f"words.{language}.json").read_text(encoding="utf-8")
    )
    phrases: dict[str, str] = json.loads(text)
    return phrases


class Phrases:
    """The words of one language: `say("k", k=4)`."""

    def __init__(self, language: str = "en") -> None:
        self.language = language
        self._words = phrases_of(language)

    def __call__(self, phrase: str, /, **values: object) -> str:
        return self._words[phrase].format(**values)

    def number(self, value: float | None, digits: int) -> str:
        """A number, or the sign for a missing one."""
        return "-" if value is None else f"{value:.{digits}f}"

    def percent(self, value: float | None) -> str:
        """A fraction in percent."""
        return "-" if value is None else f"{value * 100:.2f}%"
