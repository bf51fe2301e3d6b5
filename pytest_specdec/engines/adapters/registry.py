"""Foreign engines by their names on the command line. An adapter, and the package behind it, is
imported when it is asked for.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import cast

from ...common.errors import MissingExtraError, RequestError, naming_extras
from ..adapter_api import Adapter, EngineSetup

ADAPTERS = {
    "transformers": "transformers:TransformersAdapter",
    "vllm": "vllm:vllm",
    "sglang": "sglang_server:SglangAdapter",
    "llama-cpp": "llama_cpp:llama_cpp",
    "openvino": "openvino:OpenVinoAdapter",
    "onnxruntime": "onnxruntime:OnnxRuntimeAdapter",
    "tensorrt-llm": "tensorrt_llm_server:TensorRtLlmAdapter",
    "trace": "trace:TraceAdapter",
}
"""`module:name` below this package: what makes an adapter of a `Setup`."""


def adapter(name: str, setup: EngineSetup) -> Adapter:
    """A foreign engine's adapter. Raises RequestError where it or its package is missing, or the
    URL does not fit.
    """
    module, _, made = ADAPTERS[name].partition(":")
    try:
        with naming_extras():
            found = getattr(importlib.import_module(f"{__package__}.{module}"), made)
    except MissingExtraError as error:
        raise RequestError(
            f"--specdec-engine={name}: {error}, or record a trace elsewhere"
        ) from None
    except ImportError as error:
        missing = error.name or str(error)
        raise RequestError(
            f"--specdec-engine={name} needs {missing}, which is not installed; install it, or "
            "record a trace elsewhere "
            "and read it with --specdec-engine=trace"
        ) from None
    except AttributeError:
        raise RequestError(
            f"--specdec-engine={name} has no adapter in this version; choose another engine, or "
            "trace"
        ) from None
    return _checked(name, cast("Callable[[EngineSetup], Adapter]", found)(setup), setup.url)


def _checked(name: str, adapter: Adapter, url: str | None) -> Adapter:
    wanted = adapter.capabilities.url
    if wanted == "needed" and not url:
        raise RequestError(f"--specdec-engine={name} reads from somewhere; name it: --specdec-url=")
    if wanted == "refused" and url:
        raise RequestError(f"--specdec-engine={name} runs in this process; leave --specdec-url out")
    return adapter
