"""The names of all engines: our own, the adapters that come with this package, and those that other
packages register.

Every pytest run imports this module, so it reads the entry points only when it must: for a name
that is not one of these below.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

LOGPROBS = "logprobs"
OWN = ("replay", "decode", LOGPROBS)
"""Engines of this project's own."""

_PACKAGE = "pytest_specdec.engines.adapters"
ADAPTERS: Mapping[str, str] = {
    "transformers": f"{_PACKAGE}.transformers:TransformersAdapter",
    "vllm": f"{_PACKAGE}.vllm:vllm",
    "sglang": f"{_PACKAGE}.sglang_server:SglangServerAdapter",
    "llama-cpp": f"{_PACKAGE}.llama_cpp:llama_cpp",
    "openvino": f"{_PACKAGE}.openvino:OpenVinoAdapter",
    "onnxruntime": f"{_PACKAGE}.onnxruntime:OnnxRuntimeAdapter",
    "tensorrt-llm": f"{_PACKAGE}.tensorrt_llm_server:TensorRtLlmServerAdapter",
    "trace": f"{_PACKAGE}.trace:TraceAdapter",
}
"""Adapters that come with this package, by the engine's name: `module:factory`, as in an entry
point.
"""
GROUP = "pytest_specdec.engines"
"""The entry-point group in which other packages register theirs."""

_NAME = re.compile("[a-z0-9][a-z0-9._-]{0,39}")
"""An engine's name is part of file names."""


def engine_name(text: str) -> str:
    """Parser of `--specdec-engine`."""
    if text in OWN or text in ADAPTERS or any(point.name == text for point in registered()):
        return text
    others = (f"{point.name} (of {package_of(point)})" for point in registered())
    known = ", ".join([*OWN, *ADAPTERS, *sorted(others)])
    quoted = repr(text if len(text) <= 60 else text[:57] + "...")
    raise argparse.ArgumentTypeError(f"{quoted} is not one of {known}; choose one of these")


def registered() -> list[EntryPoint]:
    """The entry points of other packages whose names can be part of file names."""
    from importlib.metadata import entry_points

    return [point for point in entry_points(group=GROUP) if _NAME.fullmatch(point.name)]


def package_of(point: EntryPoint) -> str:
    """The package that registers an entry point, and its version."""
    return f"{point.dist.name} {point.dist.version}" if point.dist else "an unknown package"
