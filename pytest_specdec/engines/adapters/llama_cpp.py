"""llama.cpp in this process: the wheel `xllamacpp` holds its server, which is then read like any
other one.

The server takes a port of its own on the loopback interface. Keys and values stay in float32, so
that greedy texts are the model's own; the draft is neither shortened by its confidence nor by a
least length.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from ...common.errors import MeasurementError, RequestError
from ..adapter_api import (
    RULES,
    Adapter,
    Capabilities,
    EngineSetup,
    GenerationRequest,
    PooledCounters,
    Reported,
)
from .converted import form_of
from .inprocess import pair_of, threads
from .llama_cpp_server import LlamaCppServerAdapter

CONTEXT = 2048
"""Tokens of the longest text where the checkpoint's own context is longer."""


def llama_cpp(setup: EngineSetup) -> Adapter:
    """The adapter of `--specdec-engine=llama-cpp`: of the server at `--specdec-url`, else of one in
    this process.
    """
    if setup.url:
        return LlamaCppServerAdapter(setup)
    return LlamaCppInProcessAdapter(setup)


class LlamaCppInProcessAdapter:
    """A server for each pair and k, started when it is asked for."""

    name = "llama-cpp"
    capabilities = Capabilities(
        drafters=("model",),
        rules=RULES,
        draft_depth=False,
        samples=True,
        filters=True,
        per_round=True,
        per_request=True,
        per_position=True,
        timings=True,
        batches=True,
        url="optional",
        loads=True,
    )

    def __init__(self, setup: EngineSetup) -> None:
        self._module, self._setup = _xllamacpp(), setup

    def version(self) -> str:
        return f"xllamacpp {self._module.__version__}"

    def run(self, request: GenerationRequest) -> Iterator[Reported | PooledCounters]:
        server = self._module.Server(self._parameters(request))
        served = LlamaCppServerAdapter(
            dataclasses.replace(self._setup, url=server.listening_address)
        )
        try:
            for done, result in enumerate(served.run(request)):
                self._setup.report(f"{self.name}: decode", done, len(request.prompts))
                yield result
        finally:
            served.close()

    def close(self) -> None:
        """A server ends with the run that asked for it."""

    def _parameters(self, request: GenerationRequest) -> Any:
        """How the server is started. Raises RequestError for what it cannot load."""
        pair = pair_of(request, self._setup)
        context = pair.target.checkpoint.context or CONTEXT
        parameters = self._module.CommonParams()
        parameters.model.path = str(form_of(pair.target.checkpoint, "gguf"))
        parameters.n_parallel = request.batch
        parameters.n_ctx = min(CONTEXT, context) * request.batch
        parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = threads()
        parameters.warmup = parameters.fit_params = False
        parameters.endpoint_metrics, parameters.verbosity, parameters.port = True, 0, 0
        self._keep_float32(parameters)
        speculation = parameters.speculative
        speculation.types = [
            self._module.common_speculative_type.COMMON_SPECULATIVE_TYPE_DRAFT_SIMPLE
        ]
        speculation.draft.mparams.path = str(form_of(pair.drafter.checkpoint, "gguf"))
        speculation.draft.n_max, speculation.draft.n_min, speculation.draft.p_min = (
            request.k,
            0,
            0.0,
        )
        return parameters

    def _keep_float32(self, parameters: Any) -> None:
        """Its cache of keys and values is float16 by default, in flash attention's kernels too."""
        kinds = self._module.ggml_type
        for cache in (parameters, parameters.speculative.draft):
            cache.cache_type_k = cache.cache_type_v = kinds.GGML_TYPE_F32
        parameters.flash_attn_type = (
            self._module.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
        )


def _xllamacpp() -> Any:
    try:
        import xllamacpp
    except ImportError:
        raise RequestError(
            "--specdec-engine=llama-cpp without --specdec-url runs the wheel xllamacpp, which is "
            "not installed; "
            "pip install xllamacpp, or name a llama-server: --specdec-url=http://127.0.0.1:8080"
        ) from None
    if not hasattr(xllamacpp.CommonParams().speculative, "types"):
        raise MeasurementError(
            f"xllamacpp {xllamacpp.__version__} is too old to draft; pip install -U xllamacpp"
        )
    return xllamacpp
