"""Colours of the HTML report, for light and dark. They are told apart by people with any kind of
colour vision, and never carry a meaning alone: verdicts have signs, curves have shapes.
"""

from __future__ import annotations

from collections.abc import Mapping

LIGHT: Mapping[str, str] = {
    "paper": "#ffffff",
    "panel": "#f4f6f8",
    "ink": "#1b1f24",
    "muted": "#57606a",
    "line": "#d0d7de",
    "link": "#0550ae",
    "good": "#1a6b3c",
    "bad": "#b3261e",
    "unsure": "#7a5200",
    "news": "#0550ae",
    "series-1": "#0072b2",
    "series-2": "#c8500a",
    "series-3": "#007a5a",
    "series-4": "#a0528a",
    "series-5": "#8a6d00",
    "series-6": "#4d4d4d",
}
"""After Okabe and Ito, darkened to 3 : 1 on white and more."""
DARK: Mapping[str, str] = {
    "paper": "#14171a",
    "panel": "#1e2328",
    "ink": "#e6e9ec",
    "muted": "#a3adb8",
    "line": "#3d444d",
    "link": "#79b8ff",
    "good": "#6fd39a",
    "bad": "#ff9a90",
    "unsure": "#f0b955",
    "news": "#79b8ff",
    "series-1": "#56b4e9",
    "series-2": "#f0894b",
    "series-3": "#2bbf95",
    "series-4": "#d79ac1",
    "series-5": "#e0c040",
    "series-6": "#b8bec4",
}
SERIES = tuple(name for name in LIGHT if name.startswith("series-"))
TEXT = ("ink", "muted", "link", "good", "bad", "unsure", "news")
"""Colours of words; the series are colours of curves."""
SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down")
"""Of the points of the series, in their order."""
SIGNS = {
    "pass": ("\N{CHECK MARK}", "good"),
    "improved": ("\N{UPWARDS ARROW}", "good"),
    "new": ("+", "news"),
    "updated": ("\N{CLOCKWISE OPEN CIRCLE ARROW}", "news"),
    "inconclusive": ("?", "unsure"),
    "regressed": ("\N{BALLOT X}", "bad"),
    "error": ("!", "bad"),
    "not judged": ("-", "muted"),
}
"""The sign and the colour of each verdict."""


def declarations(colours: Mapping[str, str]) -> str:
    """The colours as CSS variables."""
    return " ".join(f"--{name}: {colour};" for name, colour in colours.items())


def contrast(first: str, second: str) -> float:
    """The contrast ratio of two colours (`#rrggbb`), from 1 to 21, as WCAG 2.2 defines it."""
    lighter, darker = sorted((_luminance(first), _luminance(second)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def _luminance(colour: str) -> float:
    parts = (int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5))
    linear = [
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
