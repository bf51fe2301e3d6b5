"""Texts of a run kept as a trace, also those that an engine emitted before a fault."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import msgspec

from ...baselines.store import write_all
from ..adapter_api import GenerationRequest, Reported
from .trace_format import SCHEMA, Header, Line, Sums


def write_trace(
    path: Path, request: GenerationRequest, engine: str, reported: Sequence[Reported]
) -> None:
    """Keep texts of one run. Raises BaselineError where the file cannot be written."""
    convention, sampling = reported[0].convention, request.sampling
    header = Header(
        schema=SCHEMA,
        engine=engine,
        k=request.k,
        depth=request.depth,
        temperature=sampling.temperature,
        top_k=sampling.top_k,
        top_p=sampling.top_p,
        new_tokens=request.new_tokens,
        drafter=request.drafter_kind,
        seed=request.seed,
        prefill_drafts=convention.prefill_drafts,
        end=convention.end,
        undelivered=convention.undelivered,
        counts_empty=convention.counts_empty,
        argmax_drafts=convention.argmax_drafts,
        rule=request.rule,
        ngrams=convention.ngrams,
        eos=reported[0].ends.eos,
        stop=reported[0].ends.stop,
        altered=reported[0].altered,
        masked_drafts=reported[0].masked_drafts,
    )
    lines = [msgspec.json.encode(entry) for entry in (header, *map(_line, reported))]
    write_all({path: b"\n".join(lines) + b"\n"})


def _line(text: Reported) -> Line:
    totals, timings = text.totals, text.timings
    return Line(
        key=text.key,
        prompt_ids=text.prompt_ids,
        new_ids=text.new_ids,
        emitted=text.emitted,
        finish_reason="stop"
        if text.finish == "stop"
        else "length"
        if text.finish == "length"
        else None,
        masks=text.masks,
        rounds=text.rounds,
        totals=None
        if totals is None
        else Sums(totals.drafted, totals.accepted, totals.rounds, totals.per_position),
        **({} if timings is None else dataclasses.asdict(timings)),
    )
