"""The names of all engines: our own, the adapters that come with this package, and those that other
packages register.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping

from ..common.errors import RequestError
from ..common.extensions import Registry, package_of

LOGPROBS, HIDDEN_STATES = "logprobs", "hidden-states"
OWN = ("replay", "decode", LOGPROBS, HIDDEN_STATES)
"""Engines of this project's own."""
DIVIDED = ("replay", HIDDEN_STATES)
"""Those whose work can be divided among processes."""

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
ENGINES = Registry("pytest_specdec.engines", "engine", ADAPTERS, reserved=OWN)
"""All external engines: those above, and those that other packages register."""


def engine_name(text: str) -> str:
    """Parser of `--specdec-engine`. Raises argparse.ArgumentTypeError for an unknown name, and for
    a package that registers an unusable one.
    """
    try:
        if text in OWN or text in ENGINES:
            return text
        others = (f"{name} (of {package_of(point)})" for name, point in ENGINES.added().items())
    except RequestError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    known = ", ".join([*OWN, *ADAPTERS, *others])
    quoted = repr(text if len(text) <= 60 else text[:57] + "...")
    raise argparse.ArgumentTypeError(f"{quoted} is not one of {known}; choose one of these")
