"""A recorded run of any engine: JSON lines, one header and one line a text (docs/trace.md).

What an external engine had emitted before a fault is kept in the same form, so that it can be read
again.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ...cases.case import RULES as ALL_RULES
from ...cases.case import default_rule
from ...common.errors import MeasurementError, RequestError
from ..adapter_api import Capabilities, EngineSetup, GenerationRequest, PooledCounters, Reported
from .trace_format import SCHEMA, Header, Line, Sums
from .trace_reader import read_trace, reported_of
from .trace_writer import write_trace

__all__ = ["SCHEMA", "Header", "Line", "Sums", "TraceAdapter", "read_trace", "write_trace"]


class TraceAdapter:
    """A file in place of an engine: `--specdec-engine=trace --specdec-url=FILE`."""

    name = "trace"
    capabilities = Capabilities(
        drafters=("model", "mtp", "eagle3", "prompt-lookup"),
        rules=ALL_RULES,
        draft_depth=True,
        all_heads=False,
        samples=True,
        filters=True,
        per_round=True,
        per_request=True,
        pooled=True,
        per_position=True,
        timings=True,
        url="needed",
        wants_ids=False,
    )

    def __init__(self, setup: EngineSetup) -> None:
        self._path = Path(setup.url or "").expanduser()

    def version(self) -> str:
        header, _ = read_trace(self._path)
        return header.engine

    def run(self, request: GenerationRequest) -> Iterator[Reported | PooledCounters]:
        header, lines = read_trace(self._path)
        _check_header(self._path, header, request)
        texts: dict[str, Reported] = {}
        pooled = []
        known = {prompt.key for prompt in request.prompts}
        for number, line in lines:
            where = f"{self._path}:{number}"
            if line.pooled is not None:
                pooled.append(PooledCounters(line.pooled.totals, header.convention, where))
                continue
            text = reported_of(header, line, where)
            if text.key not in known:
                raise RequestError(
                    f"{where}: a prompt that is not in the suite; record the suite's own prompts, "
                    "all of them"
                )
            if text.key in texts:
                raise RequestError(
                    f"{where}: this prompt was recorded before; record each prompt once"
                )
            texts[text.key] = text
        if missing := [prompt for prompt in request.prompts if prompt.key not in texts]:
            raise MeasurementError(
                f"{self._path} holds {len(texts)} of the suite's {len(request.prompts)} prompts "
                "and not "
                f"{_short(missing[0].prompt.text or missing[0].key)}; record them all"
            )
        yield from (texts[prompt.key] for prompt in request.prompts)
        yield from pooled

    def close(self) -> None:
        """Nothing is held."""


def _check_header(path: Path, header: Header, request: GenerationRequest) -> None:
    """Raises RequestError where the trace is of another case."""
    request_numbers = {
        "k": request.k,
        "depth": request.depth,
        "temperature": request.sampling.temperature,
        "top-k": request.sampling.top_k,
        "top-p": request.sampling.top_p,
        "new-tokens": request.new_tokens,
        "seed": request.seed,
    }
    for name, wanted in request_numbers.items():
        if (recorded := getattr(header, name.replace("-", "_"))) != wanted:
            raise RequestError(
                f"{path}:1: recorded with {name} {recorded:g} and {wanted:g} is wanted; use "
                f"--specdec-{name}={recorded:g}"
            )
    named = {
        "drafter": (header.drafter, request.drafter_kind),
        "rule": (header.rule or default_rule(header.temperature), request.rule),
    }
    for name, (recorded_name, wanted_name) in named.items():
        if recorded_name != wanted_name:
            raise RequestError(
                f"{path}:1: recorded with {name} {recorded_name!r} and {wanted_name!r} is wanted; "
                "set it in the marker"
            )


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:37] + "...")
