"""Mutants of files: what slips, cut-off writes, other programs and attackers make of them. Seeded,
to be made again.
"""

from __future__ import annotations

import copy
import json
import random
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

RAW = "@raw@"
"""Stands in a value for text that is written as it is, which may be no JSON."""
DEEP = "[" * 20_000 + "]" * 20_000
LONG = "9" * 5_000
HUGE = (10**6, 2**31, 2**63, 2**64, 10**30, 1e300)
NEGATIVE = (-1, -2, -1e-9, -(2**63), -0.5)
STRANGE = (
    "",
    "\x1b[31mred",
    "a\nb",
    "\x00",
    "\u202egnp",
    "\\ud800",
    "x" * 10_000,
    "../../etc/passwd",
    "\N{PILE OF POO}",
)
SWAPS = (None, True, False, "text", "3", 3, 2.5, [], {}, [[]], [1, "a"], {"a": 1})


def mutate(
    original: bytes, others: Sequence[bytes], rng: random.Random, *, lines: bool = False
) -> tuple[str, bytes]:
    """The name of a kind of mutation, and a mutant of that kind; `lines` for a file with one JSON
    value a line.

    `others` are files of other kinds, for which this one may be swapped.
    """
    name = rng.choice([*_BYTES, *_VALUES, *_VALUES, "swapped file"])
    if name == "swapped file":
        return name, rng.choice(others)
    if name in _BYTES:
        return name, _BYTES[name](original, rng)
    if original[:1] in b"#d":  # a page of metrics, a stream of events: no JSON as a whole
        return _in_text(original, rng)
    if not lines:
        return name, _in_json(original, name, rng)
    rows = original.split(b"\n")
    row = rng.choice([at for at, text in enumerate(rows) if text.strip()])
    rows[row] = _in_json(rows[row], name, rng).replace(b"\n", b" ")
    return name, b"\n".join(rows)


_NUMBERS = (b"NaN", b"+Inf", b"-1", b"1e400", b"0.5", b"-0.0", b"9" * 400, b"1_0", b"0x10", b"")


def _in_text(original: bytes, rng: random.Random) -> tuple[str, bytes]:
    """One number, or one word, of a text replaced."""
    numbers = list(re.finditer(rb"-?\d+(\.\d+)?", original))
    words = list(re.finditer(rb"[A-Za-z_:]+", original))
    name, spans, values = rng.choice(
        [
            ("number in text", numbers, _NUMBERS),
            ("word in text", words, [word.encode(errors="surrogatepass") for word in STRANGE]),
        ]
    )
    span = rng.choice(spans)
    return name, original[: span.start()] + rng.choice(values) + original[span.end() :]


def _in_json(original: bytes, name: str, rng: random.Random) -> bytes:
    value = json.loads(original)
    places = list(_places(value))
    if not places:
        return original
    place = rng.choice(places)
    value = copy.deepcopy(value)
    if name == "key twice":
        return _with_a_key_twice(value, place, rng)
    at: Any = value
    for step in place[:-1]:
        at = at[step]
    new = _VALUES[name](at[place[-1]], rng)
    if new is _GONE:
        del at[place[-1]]
    elif name == "another key" and isinstance(at, dict):
        at[rng.choice(["new", "schema2", "\x1b[31m", "k"])] = at.pop(place[-1])
    else:
        at[place[-1]] = new
    return _written(value)


def _with_a_key_twice(value: Any, place: tuple[Any, ...], rng: random.Random) -> bytes:
    """The last object on the way to a place gets one of its keys again, with another value."""
    at, owner = value, value
    for step in place[:-1]:
        at = at[step]
        owner = at if isinstance(at, dict) else owner
    if not isinstance(owner, dict):
        return _written(value)
    key = rng.choice(sorted(owner))
    other = rng.choice([1, 0, None, "x", {}])
    owner["@twice@"] = (
        RAW + f"{json.dumps(other)}, {json.dumps(key)}: {json.dumps(owner[key])}" + RAW
    )
    return _written(value).replace(b'"@twice@"', json.dumps(key).encode())


def _written(value: Any) -> bytes:
    text = json.dumps(value, indent=1)
    parts = text.split(RAW)
    for at in range(1, len(parts), 2):
        parts[at] = json.loads(f'"{parts[at]}"')
        parts[at - 1], parts[at + 1] = parts[at - 1][:-1], parts[at + 1][1:]
    return "".join(parts).encode("utf-8", "surrogatepass")


def _places(value: Any, before: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    items: Any = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    for key, item in items:
        yield (*before, key)
        yield from _places(item, (*before, key))


_GONE = object()


def _raw(text: str) -> str:
    return RAW + text + RAW


def _flipped(text: bytes, rng: random.Random) -> bytes:
    flipped = bytearray(text)
    for _ in range(rng.choice([1, 1, 2, 8])):
        flipped[rng.randrange(len(flipped))] ^= 1 << rng.randrange(8)
    return bytes(flipped)


def _spliced(text: bytes, rng: random.Random) -> bytes:
    first, second = sorted(rng.randrange(len(text) + 1) for _ in range(2))
    return text[:first] + text[first:second] * rng.choice([0, 2, 3]) + text[second:]


_BYTES: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "bytes flipped": _flipped,
    "cut off": lambda text, rng: text[: rng.randrange(len(text))],
    "a part left out or twice": _spliced,
    "junk in front or behind": lambda text, rng: rng.choice(
        [b"\xff" + text, b"\xef\xbb\xbf" + text, text + b"}", text + b"\x00"]
    ),
    "nested deep": lambda text, rng: (
        DEEP.encode() if rng.random() < 0.5 else b'{"a":' * 5_000 + b"1" + b"}" * 5_000
    ),
    "conflict": lambda text, rng: text.replace(b"\n", b"\n<<<<<<< ours\n", 1),
}
_VALUES: dict[str, Callable[[Any, random.Random], Any]] = {
    "key twice": lambda value, rng: value,
    "another key": lambda value, rng: value,
    "left out": lambda value, rng: _GONE,
    "nested value": lambda value, rng: _raw(DEEP),
    "many digits": lambda value, rng: _raw(
        rng.choice([LONG, f"0.{LONG}", f"-{LONG}", "1e999", "1e-999"])
    ),
    "not a number": lambda value, rng: _raw(rng.choice(["NaN", "Infinity", "-Infinity"])),
    "half a surrogate": lambda value, rng: _raw(rng.choice(['"\\ud800"', '"a\\udc00"'])),
    "another type": lambda value, rng: rng.choice(SWAPS),
    "negative": lambda value, rng: (
        -value - 1 if _is_number(value) and rng.random() < 0.5 else rng.choice(NEGATIVE)
    ),
    "zero": lambda value, rng: rng.choice([0, 0.0, -0.0]),
    "huge": lambda value, rng: rng.choice(HUGE),
    "a little more or less": lambda value, rng: (
        value + rng.choice([-1, 1, 0.5, 100]) if _is_number(value) else value
    ),
    "strange text": lambda value, rng: rng.choice(STRANGE),
}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
