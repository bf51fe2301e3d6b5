"""Everything that the adapter of an engine needs: what it is given, what it reports, and the checks
and counts that are made of its reports. See docs/add-an-engine.md.

Importing this module imports neither torch nor transformers.
"""

from __future__ import annotations

from .cases.case import Sampling
from .cases.prompts import Prompt, read_prompts
from .common.errors import MeasurementError, RequestError, SpecdecError, UnsupportedError
from .engines.adapter_api import (
    RULES,
    Adapter,
    Capabilities,
    Counters,
    CountingConvention,
    DrafterKind,
    EngineSetup,
    GenerationRequest,
    PooledCounters,
    PromptRequest,
    Reported,
    ReportedRound,
    TextEnds,
    Timings,
    Totals,
)
from .engines.adapters.trace import TraceAdapter, write_trace
from .engines.counting.checks import check_pooled, check_reported
from .engines.counting.normalise import Definition, definition_of, normalised

__all__ = [
    "RULES",
    "Adapter",
    "Capabilities",
    "Counters",
    "CountingConvention",
    "Definition",
    "DrafterKind",
    "EngineSetup",
    "GenerationRequest",
    "MeasurementError",
    "PooledCounters",
    "Prompt",
    "PromptRequest",
    "Reported",
    "ReportedRound",
    "RequestError",
    "Sampling",
    "SpecdecError",
    "TextEnds",
    "Timings",
    "Totals",
    "TraceAdapter",
    "UnsupportedError",
    "check_pooled",
    "check_reported",
    "definition_of",
    "normalised",
    "read_prompts",
    "write_trace",
]
