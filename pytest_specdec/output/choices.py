"""Several choices of one request (`n`): each index of a stream is a text of its own.

The events of a stream with `n` > 1 come interleaved, and a round adds several tokens to one choice
at a time. All choices of a greedy request are the text of the same request with one.
"""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import TYPE_CHECKING

from ..cases.prompts import Prompt
from ..engines.servers.client import ServerError
from .differences import context_lines
from .ties import UNSTEADY, parted, unsteady

if TYPE_CHECKING:
    from .text_server import ServedText, TextServer

COUNT = 3
"""Choices of a request."""
MOST_PROMPTS = 3
_REFUSED = (400, 404, 405, 415, 422, 501)
_ALMOST_ZERO = 0.01
"""Temperature for servers that give one greedy choice alone, as vLLM does: tokens that are no tie
(0.5 nats) are drawn with probability exp(-50).
"""
_SEEDS = 8
"""Seeds whose requests of one are compared before choices are called wrong; vLLM gives choice i of
seed s the draws of seed s + i.
"""
OTHERS = (
    "n > 1 is refused at temperature 0, and at 0.01 requests of one are not the greedy text "
    "either; judge sampled texts by --k and --target"
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ServedChoices:
    """What a server does with requests of several choices."""

    streams: int = 0
    fault: str | None = None
    """The first choice that is not its text."""
    lines: tuple[str, ...] = ()
    doubt: str = ""
    """Why nothing can be said."""


def check_choices(server: TextServer, prompts: tuple[Prompt, ...], limit: int) -> ServedChoices:
    """Ask for several greedy texts in one answer, whole and streamed, and compare each with the
    text of a request of its own.
    """
    temperature, streams = 0.0, 0
    for row, prompt in enumerate(prompts[:MOST_PROMPTS]):
        try:
            temperature, answered = _whole(server, prompt, limit, temperature)
        except ServerError as error:
            if error.status in _REFUSED:
                return ServedChoices(doubt=f"the server refuses n = {COUNT}")
            raise
        if sorted(answered) == [0]:
            return ServedChoices(doubt=f"the server ignores n = {COUNT}")
        asked = partial(server.choices, prompt, limit, COUNT, temperature=temperature)
        alone = server.greedy(prompt, limit)
        for name, found in (("whole", answered), ("streamed", asked(stream=True))):
            result = _fault(server, prompt, limit, alone, found, name)
            if result is None:
                continue
            if unsteady((partial(server.greedy, prompt, limit), alone)):
                return ServedChoices(doubt=f"prompt {row} {UNSTEADY}")
            if temperature and _samples_others(server, prompt, limit, alone):
                return ServedChoices(doubt=OTHERS)
            fault = result.fault and f"prompt {row}, n = {COUNT}: {result.fault}"
            return dataclasses.replace(result, fault=fault)
        streams += 1
    return ServedChoices(streams=streams)


def _samples_others(server: TextServer, prompt: Prompt, limit: int, alone: ServedText) -> bool:
    """Whether requests of one choice leave the greedy text, too, at a temperature that should keep
    it: then sampling is wrong, and not what choices share.
    """
    return any(
        server.choices(prompt, limit, 1, temperature=_ALMOST_ZERO, seed=seed)[0].text != alone.text
        for seed in range(1, _SEEDS + 1)
    )


def _whole(
    server: TextServer, prompt: Prompt, limit: int, temperature: float
) -> tuple[float, dict[int, ServedText]]:
    """The choices of an answer, and the temperature at which the server gives them."""
    try:
        return temperature, server.choices(prompt, limit, COUNT, temperature=temperature)
    except ServerError as error:
        if error.status not in _REFUSED or temperature:
            raise
    asked = server.choices(prompt, limit, COUNT, temperature=_ALMOST_ZERO)
    return _ALMOST_ZERO, asked


def _fault(
    server: TextServer,
    prompt: Prompt,
    limit: int,
    alone: ServedText,
    found: dict[int, ServedText],
    name: str,
) -> ServedChoices | None:
    """What is wrong with the choices of one answer beside the text of a request of one; None where
    nothing is.
    """
    if sorted(found) != [*range(COUNT)]:
        return ServedChoices(
            fault=f"the choices {name} have the indexes {', '.join(map(str, sorted(found)))}; give "
            "each piece the index of its choice, from 0 on"
        )
    names = ("alone", name)
    for index, choice in sorted(found.items()):
        if choice.finish is None:
            return ServedChoices(fault=f"choice {index} {name} has no finish_reason; send one")
        fault = _difference(alone, choice)
        if fault is None:
            continue
        apart = parted(server, prompt, alone.text, choice.text, names=names)
        if apart is not None and apart.tie:
            continue
        if apart is not None and apart.tie is None:
            return ServedChoices(doubt=f"choice {index} {name} is another text; {apart.doubt}")
        return ServedChoices(
            fault=f"choice {index} {name}: {fault}",
            lines=context_lines(alone.text, choice.text, names=names),
        )
    return None


def _difference(alone: ServedText, choice: ServedText) -> str | None:
    """How a choice differs from the text of a request of one; None where it does not."""
    if alone.text != choice.text:
        if "\ufffd" in choice.text and "\ufffd" not in alone.text:
            return "it has a broken character; keep the bytes of characters of each choice apart"
        return "it is not the text of a request of one; keep the tokens of choices apart"
    if alone.finish != choice.finish:
        return f"it ends by {choice.finish!r}, and alone by {alone.finish!r}; report one reason"
    return None
