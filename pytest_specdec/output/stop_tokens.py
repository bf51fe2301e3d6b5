"""Stop token ids: a text ends at the first of them, wherever in a round it stands.

Of servers that return token ids, the text without stops tells which tokens it holds.
"""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import TYPE_CHECKING

from ..cases.prompts import Prompt
from ..engines.servers.client import ServerError
from .differences import token_lines
from .ties import UNSTEADY, parted, unsteady

if TYPE_CHECKING:
    from .text_server import ServedText, TextServer

_PLACES = (0.2, 0.4, 0.6, 0.8)
"""Where in a text its stop tokens are taken from, as shares of its tokens."""
_TAKES_IDS = ("vllm", "sglang")
"""Engines that take stop token ids, by the owner that their models name."""
_REFUSED = (400, 404, 405, 415, 422, 501)


@dataclasses.dataclass(frozen=True, kw_only=True)
class StopTokens:
    """What a server does with stop token ids."""

    requests: int = 0
    fault: str | None = None
    """The first text that does not end at its stop token."""
    lines: tuple[str, ...] = ()
    doubt: str = ""
    """Why nothing can be said."""


def check_stop_tokens(server: TextServer, prompts: tuple[Prompt, ...], limit: int) -> StopTokens:
    """Ask for greedy texts up to tokens that they hold, and compare their ids."""
    requests, ignored, obeyed = 0, 0, 0
    for row, prompt in enumerate(prompts):
        try:
            whole = server.greedy_ids(prompt, limit)
        except ServerError as error:
            if error.status in _REFUSED:
                return StopTokens(doubt="the server returns no token ids")
            raise
        if whole.ids is None:
            return StopTokens(doubt="the server returns no token ids")
        for stop in stops_among(whole.ids):
            found = server.greedy_ids(prompt, limit, stop_ids=[stop])
            requests += 1
            at = whole.ids.index(stop)
            obeyed += found.ids in (whole.ids[:at], whole.ids[: at + 1])
            if found.ids == whole.ids:
                ignored += 1
            elif (result := _wrong(server, prompt, whole, found, stop)) is not None:
                named = f"prompt {row}, stop token {stop}: "
                if result.fault and unsteady((partial(server.greedy_ids, prompt, limit), whole)):
                    return StopTokens(doubt=f"prompt {row} {UNSTEADY}")
                return dataclasses.replace(
                    result,
                    fault=f"{named}{result.fault}" if result.fault else None,
                    doubt=f"{named}{result.doubt}" if result.doubt else "",
                )
    if not obeyed and server.owner not in _TAKES_IDS:
        return StopTokens(doubt="the server ignores stop_token_ids, or no text is long enough")
    if ignored:
        return StopTokens(
            fault=f"{ignored} of {requests} texts go on after their stop token; look for stops "
            "inside a round's accepted tokens"
        )
    return StopTokens(requests=requests)


def _wrong(
    server: TextServer, prompt: Prompt, whole: ServedText, found: ServedText, stop: int
) -> StopTokens | None:
    """What is wrong with a text up to a stop token beside the one without it; None where nothing
    is, or where both part at a numerical tie.
    """
    assert whole.ids is not None
    at, ids = whole.ids.index(stop), found.ids or ()
    if ids in (whole.ids[:at], whole.ids[: at + 1]):
        if found.finish == "stop":
            return None
        return StopTokens(fault=f"the text ends by it and the engine reports {found.finish!r}")
    lines = token_lines(whole.ids[: at + 1], ids, names=("without it", "returned"))
    if whole.ids[: len(ids)] == ids:
        return StopTokens(
            fault=f"the text ends {at - len(ids)} tokens before it; look for what ends a request "
            "early"
            if len(ids) < at
            else f"the text goes on after it: {len(ids) - at - 1} more tokens; look for stops "
            "inside a round's accepted tokens",
            lines=lines,
        )
    names = ("without it", "returned")
    apart = parted(server, prompt, whole.text, found.text, names=names)
    if apart is None or apart.tie:
        return None
    if apart.tie is None:
        return StopTokens(doubt=f"the text before it is another one; {apart.doubt}")
    return StopTokens(fault="the text before it is another one, and it is no tie", lines=lines)


def stops_among(ids: tuple[int, ...]) -> list[int]:
    """Tokens from different places of a text, each at its first occurrence; not its last one, which
    may be the end token.
    """
    places = [int(share * len(ids)) for share in _PLACES]
    return list(dict.fromkeys(ids[at] for at in places if at < len(ids) - 1))
