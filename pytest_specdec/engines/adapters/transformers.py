"""transformers' own speculative decoding: `generate` with a draft model, MTP layers or prompt
lookup.

It has no public counter. Each round it calls `update_candidate_strategy(input_ids, scores,
num_matches)` of its candidate generator; that call reports the round. With a draft model or prompt
lookup the prompt pass verifies drafts, too; with MTP layers its first round drafts nothing, since
there are no hidden states yet.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
import transformers
from transformers import GenerationConfig, GenerationMixin

from ...acceptance.lookup import NGRAM
from ...checkpoints.checkpoint import check_pair
from ...common.errors import MeasurementError, UnsupportedError
from ...decoding.loading import LoadedModel, load_model, quiet
from ...decoding.sampling import eos_ids, without_generation_defaults
from ..adapter_api import (
    RULES,
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
from .inprocess import in_turn

_COUNTERS = Counters(
    rounds="calls of update_candidate_strategy",
    drafted="its scores' length - 1",
    accepted="its num_matches",
    per_position="",
)
ASSISTED = CountingConvention(prefill_drafts=True, counts_empty=True, counters=_COUNTERS)
LOOKING_UP = dataclasses.replace(ASSISTED, ngrams=(1, NGRAM))
MTP = CountingConvention(end="full", counts_empty=True, counters=_COUNTERS)
"""transformers drafts with all MTP layers to the end, and crops what it accepted."""


class TransformersAdapter:
    """`model.generate` in this process, one text at a time."""

    name = "transformers"
    capabilities = Capabilities(
        drafters=("model", "mtp", "prompt-lookup"),
        rules=RULES,
        draft_depth=False,
        samples=True,
        filters=True,
        per_round=True,
        per_request=True,
        per_position=True,
        timings=True,
        loads=True,
    )

    def __init__(self, setup: EngineSetup) -> None:
        self._load: Callable[[str], LoadedModel] = setup.model or (
            lambda name: load_model(name, setup.device, setup.dtype)
        )
        self._report = setup.report

    def version(self) -> str:
        return str(transformers.__version__)

    def run(self, request: GenerationRequest) -> Iterator[Reported]:
        target = self._load(request.target)
        drafter = None if request.drafter_kind != "model" else self._load(request.drafter)
        _check(request, target, drafter)
        for prompt in in_turn(self.name, request.prompts, self._report):
            yield _decoded(request, prompt, target, drafter)

    def close(self) -> None:
        """Models belong to the session."""


def _check(request: GenerationRequest, target: LoadedModel, drafter: LoadedModel | None) -> None:
    """Raises UnsupportedError for what `generate` cannot do with these models."""
    if request.drafter_kind == "mtp":
        check_pair(target.checkpoint, None, request.depth)
        layers = target.model.config.get_text_config().num_mtp_layers
        if (request.k, request.depth) != (layers, layers):
            raise UnsupportedError(
                f"transformers drafts one token with each of the target's {layers} MTP layers; "
                f"use --specdec-k={layers} --specdec-depth={layers}"
            )
        _ = target.heads  # names the layers where transformers looks for them
    if drafter is not None:
        check_pair(target.checkpoint, drafter.checkpoint, 0)


@torch.inference_mode()
def _decoded(
    request: GenerationRequest,
    prompt: PromptRequest,
    target: LoadedModel,
    drafter: LoadedModel | None,
) -> Reported:
    """One text and its rounds."""
    assert prompt.ids is not None
    ids = torch.tensor([prompt.ids], device=target.device)
    config = _configuration(request, target, drafter)
    helper = {} if drafter is None else {"assistant_model": drafter.model}
    devices = [target.device] if target.device.type == "cuda" else []
    with contextlib.ExitStack() as stack:
        for manager in (
            torch.random.fork_rng(devices),
            quiet(),
            without_generation_defaults(target),
            _drafting(drafter, request.k),
        ):
            stack.enter_context(manager)
        rounds = stack.enter_context(observed_rounds())
        torch.manual_seed(request.seed_of(prompt))
        begun = time.perf_counter()
        out = target.model.generate(
            ids, attention_mask=torch.ones_like(ids), generation_config=config, **helper
        )
        seconds = time.perf_counter() - begun
    if not rounds:
        raise MeasurementError(
            f"transformers {transformers.__version__} reported no round to its candidate "
            "generator; "
            "install transformers 5.23, and report this version"
        )
    mtp = request.drafter_kind == "mtp"
    return Reported(
        key=prompt.key,
        prompt_ids=prompt.ids,
        new_ids=tuple(out[0, ids.shape[1] :].tolist()),
        convention=MTP if mtp else LOOKING_UP if drafter is None else ASSISTED,
        # With MTP layers the first round is a plain prompt pass.
        rounds=tuple(rounds[1:] if mtp else rounds),
        timings=Timings(seconds),
    )


def _configuration(
    request: GenerationRequest, target: LoadedModel, drafter: LoadedModel | None
) -> GenerationConfig:
    """How to generate, and with what to draft."""
    sampling, sample = request.sampling, request.sampling.temperature > 0
    config = GenerationConfig(
        max_new_tokens=request.new_tokens,
        do_sample=sample,
        temperature=sampling.temperature if sample else None,
        top_k=sampling.top_k if sample else None,
        top_p=sampling.top_p if sample else None,
        eos_token_id=eos_ids(target) or None,
        # An assistant masks out tokens of its context that equal the padding: none may.
        pad_token_id=target.model.get_input_embeddings().num_embeddings,
        bos_token_id=target.model.generation_config.bos_token_id,
    )
    if request.drafter_kind == "mtp":
        config.use_mtp = True
    elif drafter is None:
        config.prompt_lookup_num_tokens, config.max_matching_ngram_size = request.k, NGRAM
    return config


@contextlib.contextmanager
def _drafting(drafter: LoadedModel | None, k: int) -> Iterator[None]:
    """Let a draft model draft k tokens in every round, however sure it is."""
    if drafter is None:
        yield
        return
    defaults = drafter.model.generation_config
    drafter.model.generation_config = GenerationConfig(
        bos_token_id=defaults.bos_token_id,
        num_assistant_tokens=k,
        num_assistant_tokens_schedule="constant",
        assistant_confidence_threshold=0.0,
    )
    try:
        yield
    finally:
        drafter.model.generation_config = defaults


@contextlib.contextmanager
def observed_rounds() -> Iterator[list[ReportedRound]]:
    """While entered, every round of any `generate` in this process, in order, the ones without
    drafts included.
    """
    seen: list[ReportedRound] = []
    make: Callable[..., Any] = GenerationMixin._get_candidate_generator

    def observed(self: Any, *arguments: Any, **keywords: Any) -> Any:
        generator = make(self, *arguments, **keywords)
        update = generator.update_candidate_strategy

        def record(input_ids: torch.Tensor, scores: torch.Tensor, num_matches: int) -> Any:
            seen.append(ReportedRound(int(scores.shape[1]) - 1, int(num_matches)))
            return update(input_ids, scores, num_matches)

        generator.update_candidate_strategy = record
        return generator

    GenerationMixin._get_candidate_generator = observed
    try:
        yield seen
    finally:
        GenerationMixin._get_candidate_generator = make
