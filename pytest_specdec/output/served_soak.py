"""A bounded soak of a server: repeated requests, and each prompt before and after its prefix is
cached.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..cases.case import Sampling
from ..cases.prompts import Prompt
from ..common.errors import RequestError
from ..engines.adapter_api import Progress, no_progress
from ..engines.adapters.server import ServedAdapter, rounds_totals
from .differences import context_lines
from .results import OutputResult, failed, passed, unchecked
from .soak import (
    APART,
    TIED_ROUNDS,
    SoakRequest,
    acceptance_length,
    course_words,
    drift,
    first_round_words,
    greedy_split,
)
from .ties import parted

if TYPE_CHECKING:
    from .text_server import TextServer

NAME = "soak"
FEWEST = 32
"""Requests of a soak at least: fewer show nothing."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SoakLimits:
    """When a soak ends: after so many requests or minutes, whichever comes first."""

    requests: int
    minutes: float = 60.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class CacheSides:
    """Greedy requests before and after their prefix is cached."""

    cold: tuple[SoakRequest, ...]
    warm: tuple[SoakRequest, ...]


def check_soak(
    server: TextServer,
    adapter: ServedAdapter,
    prompts: tuple[Prompt, ...],
    limits: SoakLimits,
    *,
    k: int,
    new_tokens: int,
    seed: int,
    alpha: float,
    report: Progress = no_progress,
) -> OutputResult:
    """Ask for the prompts again and again, and judge the course of their acceptance."""
    requests = list(_soaked(adapter, prompts, limits, k, new_tokens, seed, report))
    if len(requests) < FEWEST:
        return unchecked(
            NAME, f"{len(requests)} requests were made in time; ask for {FEWEST} or more"
        )
    failure = _split_failure(requests) or _drift_failure(requests, alpha, seed)
    if failure is not None:
        return failure
    sides, apart = cache_sides(server, adapter, prompts, new_tokens, seed)
    if apart is not None:
        return apart
    words = [f"acceptance length by request {course_words(requests)}"]
    words += filter(None, [first_round_words(requests)])
    found = drift(requests, np.random.default_rng(seed))
    words.append(f"no change (e-value {found.highest:.2g} of {1 / alpha:.0f}) and no mixture")
    if sides is not None:
        cold, warm = acceptance_length(sides.cold), acceptance_length(sides.warm)
        if (apart := cache_failure(sides)) is not None:
            return apart
        words.append(f"{cold:.2f} with a cold prefix cache and {warm:.2f} with a warm one")
    return passed(NAME, "; ".join(words))


def _soaked(
    adapter: ServedAdapter,
    prompts: tuple[Prompt, ...],
    limits: SoakLimits,
    k: int,
    new_tokens: int,
    seed: int,
    report: Progress,
) -> Iterator[SoakRequest]:
    """The prompts in turn, each greedily and then sampled, with a seed of its own each time."""
    if any(prompt.text is None for prompt in prompts):
        raise RequestError("a soak sends token ids and has no chat template; use plain prompts")
    ids = [adapter.encode(prompt.text or "") for prompt in prompts]
    end = time.monotonic() + 60 * limits.minutes
    for number in range(limits.requests):
        if time.monotonic() > end:
            return
        report("soaking", number, limits.requests)
        row, greedy = number // 2 % len(prompts), number % 2 == 0
        adapter.begin()
        reply = adapter.answer(
            ids[row], Sampling(0.0 if greedy else 1.0), new_tokens, seed * 1_000_003 + number, k
        )
        totals = reply.totals if reply.rounds is None else rounds_totals(reply.rounds)
        totals = totals or adapter.growth()
        if totals is None or totals.rounds is None:
            raise RequestError("the server does not count rounds; turn on its metrics")
        yield SoakRequest(
            prompt=row,
            greedy=greedy,
            rounds=totals.rounds,
            accepted=totals.accepted,
            first=reply.rounds[0].accepted if reply.rounds else None,
            text=reply.new_ids,
        )


def _split_failure(requests: Sequence[SoakRequest]) -> OutputResult | None:
    split = greedy_split(requests)
    if len(split.bad) < 2:
        return None
    counts = (
        f"{len(split.bad)} of {split.requests} greedy requests accept {split.of_bad:.2f} tokens a "
        f"round on the same texts on which the others accept {split.of_others:.2f}"
    )
    if split.change:
        return failed(
            NAME,
            f"{counts}: all from greedy request {split.bad[0] + 1} on; check what ages: caches, "
            "slots, adapters, a restarted worker",
        )
    return failed(
        NAME,
        f"the requests are a mixture: {counts}; check that all replicas hold the same weights and "
        "settings",
    )


def _drift_failure(requests: Sequence[SoakRequest], alpha: float, seed: int) -> OutputResult | None:
    found = drift(requests, np.random.default_rng(seed))
    if found.highest < 1 / alpha:
        return None
    return failed(
        NAME,
        f"from sampled request {found.since} on a round has {found.after:.2f} tokens and not "
        f"{found.before:.2f} (e-value {found.highest:.2g}); check what ages: caches, slots, "
        "adapters, a restarted worker",
        (f"by request: {course_words(requests)}",),
    )


def cache_failure(sides: CacheSides) -> OutputResult | None:
    """What is wrong with acceptance after a cached prefix beside that of the same texts before;
    None where nothing is. Each text may take one round more or less, by a tie of the drafter.
    """
    rounds = [sum(request.rounds for request in side) for side in (sides.cold, sides.warm)]
    if abs(rounds[0] - rounds[1]) <= max(APART * rounds[0], TIED_ROUNDS * len(sides.cold)):
        return None
    cold, warm = acceptance_length(sides.cold), acceptance_length(sides.warm)
    return failed(
        NAME,
        f"greedy requests accept {warm:.2f} tokens a round where their prefix is cached and "
        f"{cold:.2f} where it is not; check what the drafter's cache holds of a cached prefix",
    )


def cache_sides(
    server: TextServer,
    adapter: ServedAdapter,
    prompts: tuple[Prompt, ...],
    new_tokens: int,
    seed: int,
) -> tuple[CacheSides | None, OutputResult | None]:
    """Greedy requests that nobody has sent before, each twice; None without counters. A second text
    that is not the first, and no tie, is a failure.
    """
    cold: list[SoakRequest] = []
    warm: list[SoakRequest] = []
    for row, prompt in enumerate(prompts):
        fresh = dataclasses.replace(
            prompt, text=f"Note {seed}-{row}-{time.time_ns() % 10**9}.\n{prompt.text}"
        )
        texts = []
        for side in (cold, warm):
            adapter.begin()
            texts.append(server.greedy(fresh, new_tokens))
            grown = adapter.growth()
            if grown is None or grown.rounds is None:
                return None, None
            side.append(
                SoakRequest(prompt=row, greedy=True, rounds=grown.rounds, accepted=grown.accepted)
            )
        names = ("cold", "warm")
        apart = parted(server, fresh, texts[0].text, texts[1].text, names=names)
        if apart is None:
            continue
        cold.pop()  # another text has other rounds
        warm.pop()
        if apart.tie is False:
            lines = context_lines(texts[0].text, texts[1].text, names=names)
            return None, failed(
                NAME, "a greedy text is another one where its prefix is cached", lines
            )
    return CacheSides(cold=tuple(cold), warm=tuple(warm)), None
