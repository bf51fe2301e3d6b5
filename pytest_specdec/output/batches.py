"""Greedy texts are the same however many are decoded at once, and rows may end at different times.

Each row has a limit of its own, so that some leave the batch while others go on; what a row emits
is the beginning of the text that it emits alone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Protocol

from ..cases.case import Case
from ..cases.prompts import Prompt
from ..common.errors import UnsupportedError
from ..engines.adapter_api import Totals
from ..engines.protocol import Engine
from .differences import context_lines, token_lines
from .results import OutputResult, failed, passed, unchecked
from .served_endings import DIFFERS, limit_fault
from .ties import UNSTEADY, parted, unsteady

if TYPE_CHECKING:
    from .text_server import TextServer

NAME = "batches"


class GrowingCounters(Protocol):
    """Counters of a server, as its adapter reads them."""

    def begin(self) -> None:
        """Count from here."""

    def growth(self) -> Totals | None:
        """What was counted since."""


def limits_of(rows: int, limit: int) -> list[int]:
    """A limit for each row, between half of the limit and the whole."""
    return [limit - row * 5 % max(limit // 2, 1) for row in range(rows)]


def check_served_batches(
    server: TextServer,
    prompts: tuple[Prompt, ...],
    limit: int,
    sizes: Sequence[int],
    counters: GrowingCounters | None = None,
) -> OutputResult:
    """Send greedy requests one by one and so many at once, and compare the texts. `counters` are
    those of the server, where it has any.
    """
    alone, ties = [server.greedy(prompt, limit) for prompt in prompts], 0
    counted: list[str] = []
    for size in (size for size in sizes if size > 1):
        rows = [row % len(prompts) for row in range(max(size, len(prompts)))]
        limits = limits_of(len(rows), limit)
        if counters is not None:
            counters.begin()
        with ThreadPoolExecutor(size) as pool:
            texts = list(
                pool.map(lambda row, most: server.greedy(prompts[row], most), rows, limits)
            )
        grown = None if counters is None else counters.growth()
        if grown is not None and grown.rounds:
            counted.append(f"{1 + grown.accepted / grown.rounds:.3f} at {size}")
        for row, most, text in zip(rows, limits, texts, strict=True):
            fault = limit_fault(alone[row], text, most)
            if fault is None:
                continue
            which = f"prompt {row}, {most} tokens, {size} at once"
            names = ("alone", f"{size} at once")
            expected = alone[row].text[: len(text.text)]
            apart = parted(server, prompts[row], expected, text.text, names=names)
            if fault != DIFFERS or apart is None:
                if unsteady((partial(server.greedy, prompts[row], limit), alone[row])):
                    return unchecked(NAME, f"prompt {row} {UNSTEADY}")
                lines = context_lines(alone[row].text, text.text, names=names)
                return failed(NAME, f"{which}: {fault}", apart.lines if apart else lines)
            if apart.tie is None:
                return unchecked(NAME, f"{which}: another greedy text than alone; {apart.doubt}")
            if not apart.tie:
                return failed(
                    NAME,
                    f"{which}: another greedy text than alone; look for what rows share",
                    apart.lines,
                )
            ties += 1
    named = " and ".join(str(size) for size in sizes if size > 1)
    tied = f", {ties} numerical ties" if ties else ""
    if not named:
        return unchecked(NAME, "no size above 1 was asked for; ask for 4 and 16")
    lengths = f"; acceptance length {', '.join(counted)}" if counted else ""
    return passed(
        NAME,
        f"{len(prompts)} greedy texts are the same alone and with {named} at once{tied}{lengths}",
    )


def check_batches(engine: Engine, case: Case, sizes: Sequence[int]) -> OutputResult:
    """Decode a case's prompts greedily in batches, each judged by the target, and compare them.

    Raises UnsupportedError for an engine that decodes one text at a time.
    """
    if engine.name != "decode":
        raise UnsupportedError(
            f"engine {engine.name!r} decodes one text at a time in this process; start its server "
            "and check that"
        )
    from ..decoding.sampling import encode_prompts

    greedy = dataclasses.replace(
        case, texts=dataclasses.replace(case.texts, temperature=0.0), rule="greedy"
    )
    prompts = case.texts.read_prompts()
    ids = encode_prompts(engine.models.model(case.target).tokenizer, prompts)
    alone, counted = None, []
    ties = 0
    for size in sorted({1, *sizes}):
        decoded = engine.models.decode(greedy, ids, batch_size=size)
        counted.append(f"{decoded.counts.acceptance_length:.3f} at {size}")
        alone = alone or decoded.texts
        for row, (one, other) in enumerate(zip(alone, decoded.texts, strict=True)):
            if one.ids == other.ids:
                continue
            found = engine.models.conformance(greedy, [other], 0.01)
            if not found.conforms:
                return failed(
                    NAME,
                    f"prompt {row} has another greedy text at batch size {size}, and it is not the "
                    "target's; look for what rows share",
                    token_lines(
                        one.ids[one.prompt_length :],
                        other.ids[other.prompt_length :],
                        names=("alone", f"at {size}"),
                    ),
                )
            ties += 1
    tied = f", {ties} numerical ties" if ties else ""
    return passed(
        NAME,
        f"{len(ids)} greedy texts are the same at every batch size{tied}; acceptance length "
        f"{', '.join(counted)}",
    )
