"""vLLM in this process: `LLM.generate` with its detailed per-request metrics, which list every
step.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from ...acceptance.lookup import NGRAM
from ...checkpoints.checkpoint import MTP_COUNTS, local_checkpoint
from ...common.errors import MeasurementError, RequestError
from ...decoding.loading import LoadedModel, load_model
from ...decoding.sampling import eos_ids
from ..adapter_api import (
    RULES,
    Adapter,
    Capabilities,
    Counters,
    CountingConvention,
    EngineSetup,
    GenerationRequest,
    PooledCounters,
    PromptRequest,
    Reported,
    Timings,
    Totals,
)
from ..servers.reported_drafts import contradiction
from .vllm_server import METHODS, SpecMetrics, VllmServerAdapter

COUNTERS = (
    "vllm:spec_decode_num_drafts",
    "vllm:spec_decode_num_draft_tokens",
    "vllm:spec_decode_num_accepted_tokens",
)
"""Of all requests together; both in process and over HTTP."""
_QUIET = {
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
}
"""Set where the user has not: vLLM in one process loads in a quarter of the time."""


def vllm(setup: EngineSetup) -> Adapter:
    """The adapter of `--specdec-engine=vllm`: of the server at `--specdec-url`, else of vLLM in
    this process.
    """
    return VllmServerAdapter(setup) if setup.url else VllmInProcessAdapter(setup)


class VllmInProcessAdapter:
    """An engine for each pair and k, made when it is asked for."""

    name = "vllm"
    capabilities = Capabilities(
        drafters=("model", "mtp", "eagle3", "prompt-lookup"),
        rules=RULES,
        draft_depth=False,
        samples=True,
        filters=True,
        per_round=True,
        per_request=True,
        per_position=True,
        timings=True,
        url="optional",
        loads=True,
    )
    convention = CountingConvention(
        end="full",
        undelivered=True,
        argmax_drafts=True,
        ngrams=(1, NGRAM),
        counters=Counters(
            rounds="num_spec_steps",
            drafted="num_draft_tokens",
            accepted="num_accepted_draft_tokens",
            per_position="acceptance_histogram",
        ),
    )

    def __init__(self, setup: EngineSetup) -> None:
        for name, value in _QUIET.items():
            os.environ.setdefault(name, value)
        self._module, self._setup = _vllm(), setup
        self._load: Callable[[str], LoadedModel] = setup.model or (
            lambda name: load_model(name, setup.device, setup.dtype)
        )

    def version(self) -> str:
        return str(self._module.__version__)

    def run(self, request: GenerationRequest) -> Iterator[Reported | PooledCounters]:
        """Texts one by one. Raises RequestError for what vLLM cannot load, MeasurementError where
        it reports no steps.
        """
        with tempfile.TemporaryDirectory(prefix="specdec-") as folder, _warnings_aside():
            engine = self._engine(request, Path(folder))
        stops = eos_ids(self._load(request.target))
        before, request_totals = counters(engine.get_metrics()), list[Totals]()
        for done, prompt in enumerate(request.prompts):
            self._setup.report(f"{self.name}: decode", done, len(request.prompts))
            with _warnings_aside():
                text = self._text(engine, request, prompt, stops)
            request_totals += [text.totals] if text.totals else []
            yield text
        check_counters(before, counters(engine.get_metrics()), request_totals)

    def close(self) -> None:
        """An engine ends with the run that asked for it."""

    def _engine(self, request: GenerationRequest, folder: Path) -> Any:
        drafting: dict[str, Any] = {"num_speculative_tokens": request.k}
        if request.drafter_kind == "prompt-lookup":
            drafting |= {"method": "ngram", "prompt_lookup_min": 1, "prompt_lookup_max": NGRAM}
        elif request.drafter_kind == "mtp":
            drafting |= {"method": "mtp"}
        elif request.drafter_kind == "eagle3":
            drafting |= {"method": "eagle3", "model": request.drafter_files}
        else:
            drafting |= {"method": "draft_model", "model": plain(request.drafter, folder / "draft")}
        try:
            engine = self._module.LLM(
                model=request.target
                if request.drafter_kind == "mtp"
                else plain(request.target, folder / "target"),
                dtype=self._setup.dtype,
                speculative_config=drafting,
                per_request_spec_decode_metrics="detailed",
                disable_log_stats=False,
                enforce_eager=True,
                max_num_seqs=1,
                generation_config="vllm",
            )
        except (ValueError, RuntimeError, KeyError, AssertionError, TypeError) as error:
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            raise RequestError(
                f"vLLM {self.version()} cannot load {request.target} with {request.drafter}: "
                f"{reason}"
            ) from error
        self._check_method(engine, request)
        return engine

    def _check_method(self, engine: Any, request: GenerationRequest) -> None:
        """vLLM chooses another method by itself where the folder's name reads like one."""
        config = getattr(getattr(engine, "llm_engine", None), "vllm_config", None)
        method = getattr(getattr(config, "speculative_config", None), "method", None)
        if method is not None and (
            other := contradiction(request, METHODS, method=method, path=None)
        ):
            raise RequestError(
                f"vLLM {self.version()}: {other}; rename the drafter's folder, whose name vLLM "
                "takes the method from"
            )

    def _text(
        self, engine: Any, request: GenerationRequest, prompt: PromptRequest, stops: list[int]
    ) -> Reported:
        if prompt.ids is None:
            raise RequestError(
                "vLLM in this process takes token ids; name the target's folder by --specdec-target"
            )
        parameters = self._parameters(request, request.seed_of(prompt), stops)
        begun = time.perf_counter()
        (answer,) = engine.generate(
            [{"prompt_token_ids": list(prompt.ids)}], parameters, use_tqdm=False
        )
        seconds = time.perf_counter() - begun
        (out,) = answer.outputs
        spec_metrics = getattr(out, "spec_decode_metrics", None)
        if spec_metrics is None:
            raise MeasurementError(
                f"vLLM {self.version()} does not report the steps of a request; update it, or "
                "serve it and name its --specdec-url"
            )
        try:
            metrics = msgspec.convert(spec_metrics.to_dict(), SpecMetrics)
            rounds, totals = metrics.rounds(), metrics.totals()
        except (msgspec.ValidationError, ValueError) as error:
            raise MeasurementError(
                f"vLLM {self.version()}'s numbers contradict each other: {error}; report its "
                "version"
            ) from None
        where = f"prompt {prompt.key} in vLLM {self.version()}"
        return Reported(
            key=prompt.key,
            prompt_ids=prompt.ids,
            new_ids=tuple(out.token_ids),
            convention=self.convention,
            rounds=rounds,
            totals=totals,
            timings=Timings(seconds),
            where=where,
        )

    def _parameters(self, request: GenerationRequest, seed: int, stops: list[int]) -> Any:
        sampling = request.sampling
        return self._module.SamplingParams(
            temperature=sampling.temperature,
            top_k=sampling.top_k or -1,
            top_p=sampling.top_p,
            max_tokens=request.new_tokens,
            seed=seed,
            # vLLM would stop at config.json's EOS token, too, which the target's generation
            # defaults may lack.
            ignore_eos=True,
            stop_token_ids=stops,
        )


def plain(name: str, folder: Path) -> str:
    """A checkpoint without its MTP layers, written to `folder` where vLLM's Llama would refuse
    them; else the name itself.

    vLLM leaves out the MTP layers of the architectures that are published with them, and knows none
    in Llama.
    """
    checkpoint = local_checkpoint(name)
    if (
        checkpoint is None
        or not checkpoint.has_mtp_tensors
        or checkpoint.config.get("architectures") != ["LlamaForCausalLM"]
    ):
        return name
    from safetensors.torch import load_file, save_file

    folder.mkdir()
    kept = {
        tensor: value
        for path in checkpoint.weight_files
        for tensor, value in load_file(path).items()
        if not checkpoint.is_mtp_tensor(tensor)
    }
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    config = {key: value for key, value in checkpoint.config.items() if key not in MTP_COUNTS}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    for path in checkpoint.folder.glob("*.json"):
        if path.name not in ("config.json", "model.safetensors.index.json"):
            shutil.copy(path, folder)
    return str(folder)


@contextlib.contextmanager
def _warnings_aside() -> Iterator[None]:
    """A test run that makes errors of warnings does not mean those of vLLM and its libraries."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def counters(metrics: Iterable[Any]) -> dict[str, int]:
    """vLLM's own sums since the process began, by name; empty where it keeps none."""
    return {
        name: sum(int(metric.value) for metric in series)
        for name in COUNTERS
        if (series := _named(metrics, name))
    }


def check_counters(
    before: dict[str, int], now: dict[str, int], request_totals: Sequence[Totals]
) -> None:
    """The engine's counters have grown by what its requests report. Raises MeasurementError where
    they have not.
    """
    sums = [
        sum(totals.rounds or 0 for totals in request_totals),
        sum(totals.drafted for totals in request_totals),
        sum(totals.accepted for totals in request_totals),
    ]
    for name, total in zip(COUNTERS, sums, strict=True):
        grown = now.get(name, 0) - before.get(name, 0)
        if grown != total:
            raise MeasurementError(
                f"{name} grew by {grown} and the requests' own lists add up to {total}; "
                "run nothing else in this process, and report this version of vLLM"
            )


def _named(metrics: Iterable[Any], name: str) -> list[Any]:
    return [metric for metric in metrics if metric.name == name]


def _vllm() -> Any:
    try:
        with _warnings_aside():
            import vllm
    except ImportError as error:
        raise RequestError(
            "--specdec-engine=vllm without --specdec-url runs vLLM in this process, which needs "
            f"{error.name}; pip install vllm, "
            "or name a server: --specdec-url=http://127.0.0.1:8000"
        ) from None
    return vllm
