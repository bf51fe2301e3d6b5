"""OpenVINO GenAI in this process: `LLMPipeline` with a draft model.

Its accessors (`get_num_accepted_tokens`, `get_num_draft_tokens`) leave out each request's last
round. The raw metrics of the target do not: `m_batch_sizes` holds the tokens that each of its
passes emitted, the prompt pass first. How many were drafted is not among them: k, but no more than
can still be emitted beside the bonus token; the accessor must agree. A drafter that drafts EOS
would stop there without a report, so texts are decoded past EOS and cut here. Where it samples, the
passes add up to more tokens than the text has: only greedy decoding is counted.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from ...common.errors import MeasurementError, RequestError
from ..adapter_api import (
    Capabilities,
    Counters,
    CountingConvention,
    EngineSetup,
    GenerationRequest,
    PromptRequest,
    Reported,
    ReportedRound,
    Timings,
)
from .converted import form_of
from .inprocess import LoadedPair, in_turn, pair_of, threads, until_eos

_ENDLESS = 1 << 30
"""An id that no vocabulary has."""
CONVENTION = CountingConvention(
    undelivered=True,
    counts_empty=True,
    counters=Counters(
        rounds="passes of m_batch_sizes",
        drafted="get_num_draft_tokens",
        accepted="m_batch_sizes - 1",
        per_position="",
    ),
)


class Passes(NamedTuple):
    """What one request's metrics report."""

    batch_sizes: Sequence[int]
    """Tokens emitted by each pass of the target."""
    draft_tokens: int
    """By the accessor."""


class OpenVinoAdapter:
    """One pipeline, of the pair that was requested last."""

    name = "openvino"
    capabilities = Capabilities(
        drafters=("model",),
        rules=("greedy",),
        draft_depth=False,
        samples=False,
        filters=False,
        per_round=True,
        per_request=True,
        per_position=True,
        timings=True,
        loads=True,
    )

    def __init__(self, setup: EngineSetup) -> None:
        self._genai, self._openvino = _packages()
        self._setup = setup
        self._loaded: tuple[tuple[str, str], Any] | None = None

    def version(self) -> str:
        return str(self._genai.__version__).split("-")[0]

    def run(self, request: GenerationRequest) -> Iterator[Reported]:
        pair = pair_of(request, self._setup)
        pipeline = self._pipeline(pair)
        for prompt in in_turn(self.name, request.prompts, self._setup.report):
            yield self._decoded(pipeline, pair, request, prompt)

    def close(self) -> None:
        """Free the pipeline."""
        self._loaded = None

    def _pipeline(self, pair: LoadedPair) -> Any:
        target, drafter = (str(form_of(model.checkpoint, "openvino")) for model in pair)
        if self._loaded is None or self._loaded[0] != (target, drafter):
            self._loaded = None
            exact = {
                "INFERENCE_NUM_THREADS": threads(),
                "INFERENCE_PRECISION_HINT": "f32",
                "KV_CACHE_PRECISION": "f32",
            }
            schedule = self._genai.SchedulerConfig()
            schedule.max_num_seqs = 1
            schedule.max_num_batched_tokens = max(256, pair.target.checkpoint.context or 4096)
            drafting = self._genai.draft_model(drafter, "CPU", **exact)
            pipeline = self._genai.LLMPipeline(
                target, "CPU", draft_model=drafting, scheduler_config=schedule, **exact
            )
            self._loaded = (target, drafter), pipeline
        return self._loaded[1]

    def _decoded(
        self, pipeline: Any, pair: LoadedPair, request: GenerationRequest, prompt: PromptRequest
    ) -> Reported:
        import numpy as np

        assert prompt.ids is not None
        tensor = self._openvino.Tensor(np.array([prompt.ids], dtype=np.int64))
        begun = time.perf_counter()
        answer = pipeline.generate(tensor, self._configuration(request))
        seconds = time.perf_counter() - begun
        new, where = list(answer.tokens[0]), f"prompt {prompt.key} of openvino"
        rounds = rounds_of(
            passes_of(answer.extended_perf_metrics, where), len(new), request.k, where
        )
        length, played = until_eos(new, rounds, pair.target, first=1)
        cut = rounds[:played]
        return Reported(
            key=prompt.key,
            prompt_ids=prompt.ids,
            new_ids=tuple(new[:length]),
            convention=CONVENTION,
            rounds=tuple(cut),
            timings=Timings(seconds),
            where=where,
        )

    def _configuration(self, request: GenerationRequest) -> Any:
        config = self._genai.GenerationConfig()
        config.max_new_tokens, config.do_sample = request.new_tokens, False
        config.ignore_eos, config.eos_token_id, config.stop_token_ids = True, _ENDLESS, {_ENDLESS}
        config.apply_chat_template = False
        config.num_assistant_tokens, config.assistant_confidence_threshold = request.k, 0.0
        return config


def passes_of(metrics: Any, where: str) -> Passes:
    """A request's raw metrics. Raises MeasurementError where the pipeline gives none."""
    try:
        return Passes(
            list(metrics.main_model_metrics.raw_metrics.m_batch_sizes),
            int(metrics.get_num_draft_tokens()),
        )
    except AttributeError:
        raise MeasurementError(
            f"{where}: no extended_perf_metrics of speculative decoding; install openvino-genai "
            "2026.4 or later"
        ) from None


def rounds_of(passes: Passes, emitted: int, k: int, where: str) -> list[ReportedRound]:
    """Every round of a text of so many new tokens. Raises MeasurementError where the metrics
    contradict each other.
    """
    sizes = passes.batch_sizes
    if sum(sizes) != emitted or not sizes or sizes[0] != 1 or min(sizes) < 1:
        raise MeasurementError(
            f"{where}: m_batch_sizes adds up to {sum(sizes)} in {len(sizes)} passes and {emitted} "
            "tokens were emitted; "
            "send each prompt by itself, and report this version of openvino-genai"
        )
    left, rounds = emitted - 1, []
    for size in sizes[1:]:
        rounds.append(ReportedRound(min(k, left - 1), size - 1))
        left -= size
    drafted = [one_round.drafted for one_round in rounds]
    if passes.draft_tokens not in (sum(drafted), sum(drafted[:-1])):
        raise MeasurementError(
            f"{where}: get_num_draft_tokens is {passes.draft_tokens}, and {len(rounds)} rounds of "
            f"k={k} draft {sum(drafted)} "
            f"tokens, {sum(drafted[:-1])} without the last round; report this version of "
            "openvino-genai"
        )
    return rounds


def _packages() -> tuple[Any, Any]:
    try:
        import openvino
        import openvino_genai
    except ImportError as error:
        raise RequestError(
            f"--specdec-engine=openvino needs {error.name}, which is not installed; pip install "
            "openvino-genai"
        ) from None
    return openvino_genai, openvino
