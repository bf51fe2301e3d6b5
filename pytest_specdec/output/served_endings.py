"""How a server's texts end: a stop and a limit may cut the text that it emits without them, and
nothing else.

At temperature 0 the text without stops tells what every request with a stop or a smaller limit must
return, so no model is needed here.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

from ..cases.prompts import Prompt
from ..common.errors import RequestError
from .differences import context_lines
from .results import OutputResult, failed, passed, unchecked
from .ties import UNSTEADY, parted, unsteady

if TYPE_CHECKING:
    from .text_server import ServedText, TextServer

NAME = "endings"
DIFFERS = "the text differs from the one without this end"
_PLACES = (0.3, 0.55, 0.8)
"""Where in a text its stops are taken from, as shares of its characters."""
_STOP = 3
"""Characters of a stop."""
_FEWEST = 4
"""Tokens of the shortest text that is asked for with smaller limits."""


def check_served_endings(
    server: TextServer, prompts: tuple[Prompt, ...], limit: int
) -> OutputResult:
    """Judge the ends of greedy texts: without stops, with stops, and with smaller limits."""
    requests, ties = 0, 0
    for row, prompt in enumerate(prompts):
        whole = server.greedy(prompt, limit)
        requests += 1
        if (wrong := _plain_fault(whole, limit)) is not None:
            return failed(NAME, f"prompt {row}: {wrong}")
        for asked, expected, found, fault in _with_ends(server, prompt, limit, whole):
            requests += 1
            if fault is None:
                continue
            names = ("without it", "returned")
            apart = parted(server, prompt, expected, found.text, names=names)
            whole_lines = context_lines(whole.text, found.text, names=names)
            lines = apart.lines if apart else whole_lines
            if fault != DIFFERS or apart is None:
                if unsteady((partial(server.greedy, prompt, limit), whole)):
                    return unchecked(NAME, f"prompt {row} {UNSTEADY}")
                return failed(NAME, f"prompt {row}, {asked}: {fault}", lines)
            if apart.tie is None:
                return unchecked(NAME, f"prompt {row}, {asked}: {fault}; {apart.doubt}")
            if not apart.tie:
                return failed(NAME, f"prompt {row}, {asked}: {fault}, and it is no tie", lines)
            ties += 1
    tied = f", {ties} numerical ties" if ties else ""
    return passed(
        NAME,
        f"{requests} greedy requests: each stop and each limit cuts the text that is emitted "
        f"without it, and the reasons agree{tied}",
    )


def _with_ends(
    server: TextServer, prompt: Prompt, limit: int, whole: ServedText
) -> Iterator[tuple[str, str, ServedText, str | None]]:
    """What was asked for, the text that it leaves, the one returned, and its fault: stops, smaller
    limits, and for a text that ended by itself the limit at which it ends, which hides no stop.
    """
    for stop in stops_of(whole.text):
        found = server.greedy(prompt, limit, stop=[stop])
        expected = whole.text[: whole.text.index(stop)]
        yield f"stop {stop!r}", expected, found, stop_fault(whole, found, stop)
    tokens, counted = whole.tokens or 0, False
    limits = [tokens // 3, tokens // 2, tokens - 1] + [tokens] * (whole.finish == "stop")
    for less in limits if tokens >= _FEWEST else ():
        found = server.greedy(prompt, less)
        fault = limit_fault(whole, found, less, eos_counted=counted)
        yield f"limit of {less} tokens", whole.text[: len(found.text)], found, fault
        # With EOS among the tokens, the last one before it ends the visible text.
        counted = less == tokens - 1 and found.text == whole.text


def stops_of(text: str) -> Iterator[str]:
    """Stops that occur in a text, from different places of it, each at its first occurrence."""
    seen: set[str] = set()
    for share in _PLACES:
        begin = int(share * len(text))
        stop = text[begin : begin + _STOP]
        if len(stop) == _STOP and stop.strip() and "\ufffd" not in stop and stop not in seen:
            seen.add(stop)
            yield stop


def stop_fault(whole: ServedText, found: ServedText, stop: str) -> str | None:
    """Why a text with a stop is not the text without it up to the stop; None where it is. A server
    may keep the stop at the end, as a setting of its own.
    """
    at = whole.text.index(stop)
    expected = whole.text[:at]
    if found.text in (expected, expected + stop):
        if found.finish == "stop":
            return None
        return f"the text ends by its stop and the engine reports {found.finish!r}, not 'stop'"
    if stop in found.text[:-1]:
        return (
            f"the text continues after the stop: {len(found.text) - at - len(stop)} more "
            "characters; look for stops inside a round's accepted tokens"
        )
    if whole.text.startswith(found.text):
        return (
            f"the text ends {at - len(found.text)} characters before its stop; look for what ends "
            "a request early"
        )
    return DIFFERS


def limit_fault(
    whole: ServedText, found: ServedText, limit: int, *, eos_counted: bool = False
) -> str | None:
    """Why a text with a smaller limit is not the beginning of the text without it; None where it
    is. Where the server counts EOS as a token, a limit that leaves room for it must not hide it;
    elsewhere that is only known of larger limits.
    """
    if found.tokens is not None and found.tokens > limit:
        return f"{found.tokens} tokens are returned"
    if not whole.text.startswith(found.text.rstrip("\ufffd")):
        return DIFFERS
    if whole.finish == "stop" and found.text == whole.text:
        room = whole.tokens is not None and limit >= whole.tokens + (not eos_counted)
        if found.finish == "stop" or (found.finish == "length" and not room):
            return None
        return f"the text ends by itself and the engine reports {found.finish!r}, not 'stop'"
    if found.tokens is not None and found.tokens < limit:
        return (
            f"the text ends after {found.tokens} tokens, and without the limit it goes on; look "
            "for what ends a request early"
        )
    if found.finish != "length":
        return f"the limit ends the text and the engine reports {found.finish!r}, not 'length'"
    return None


def _plain_fault(text: ServedText, limit: int) -> str | None:
    """What a text without stops shows by itself. Raises RequestError for a context that is too
    small.
    """
    if text.finish not in ("stop", "length"):
        return f"the engine reports that the text ended by {text.finish!r}; look into its log"
    if text.tokens is not None and text.tokens > limit:
        return f"{text.tokens} tokens are returned where {limit} were asked for"
    if text.tokens is not None and text.finish == "length" and text.tokens < limit:
        raise RequestError(
            f"'length' is reported after {text.tokens} of {limit} tokens; raise the engine's "
            "context, or ask for fewer --new-tokens"
        )
    return None
