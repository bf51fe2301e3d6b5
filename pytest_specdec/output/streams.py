"""A streamed text is the text: its pieces put together, whatever a round's tokens make of them."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from ..cases.prompts import Prompt
from .differences import context_lines, first_difference
from .results import OutputResult, failed, passed, unchecked
from .served_endings import stops_of
from .ties import UNSTEADY, parted, unsteady

if TYPE_CHECKING:
    from .text_server import ServedText, TextServer

NAME = "streams"


def check_streams(server: TextServer, prompts: tuple[Prompt, ...], limit: int) -> OutputResult:
    """Compare each greedy text with the same request streamed, without a stop and with one."""
    pieces, widest, ties = 0, 0, 0
    for row, prompt in enumerate(prompts):
        whole = server.greedy(prompt, limit)
        for stop in ((), *((stop,) for stop in [*stops_of(whole.text)][:1])):
            plain = server.greedy(prompt, limit, stop=stop) if stop else whole
            streamed = server.greedy(prompt, limit, stop=stop, stream=True)
            pieces += len(streamed.pieces)
            widest = max(widest, *map(len, streamed.pieces), 0)
            if (fault := stream_fault(plain, streamed)) is None:
                continue
            apart = parted(server, prompt, plain.text, streamed.text, names=("whole", "streamed"))
            if apart is not None and apart.tie and "\ufffd" not in streamed.text:
                ties += 1
                continue
            if unsteady(
                (partial(server.greedy, prompt, limit, stop=stop), plain),
                (partial(server.greedy, prompt, limit, stop=stop, stream=True), streamed),
            ):
                return unchecked(NAME, f"prompt {row} {UNSTEADY}")
            names = ("whole", "streamed")
            return failed(
                NAME,
                f"prompt {row}{f', stop {stop[0]!r}' if stop else ''}: {fault}",
                context_lines(plain.text, streamed.text, names=names),
            )
    return passed(
        NAME,
        f"{len(prompts)} greedy texts in {pieces} pieces of up to {widest} characters are the "
        f"texts that come whole{f', {ties} numerical ties' if ties else ''}",
    )


def stream_fault(whole: ServedText, streamed: ServedText) -> str | None:
    """Why a streamed text is not the whole one; None where it is."""
    at = first_difference(whole.text, streamed.text)
    if at is not None:
        if "\ufffd" in streamed.text and "\ufffd" not in whole.text:
            return (
                f"the stream has a broken character in piece {_piece_at(streamed, at)}; keep the "
                "bytes of a character together across tokens and rounds"
            )
        return f"the stream differs from the text in piece {_piece_at(streamed, at)}"
    if streamed.finish != whole.finish:
        return (
            f"the stream ends by {streamed.finish!r} and the text by {whole.finish!r}; report one "
            "reason"
        )
    if None not in (streamed.tokens, whole.tokens) and streamed.tokens != whole.tokens:
        return f"the stream counts {streamed.tokens} tokens and the text {whole.tokens}"
    return None


def _piece_at(streamed: ServedText, at: int) -> str:
    """The piece that holds a place of the text, by its number."""
    end = 0
    for number, piece in enumerate(streamed.pieces):
        end += len(piece)
        if at < end:
            return f"{number} ({piece!r})"
    return f"{len(streamed.pieces)} (the end)"
