"""From a case's settings to logits processors, which need the target's tokenizer and the
temperature.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import TypeAlias

from transformers import (
    MinPLogitsWarper,
    NoRepeatNGramLogitsProcessor,
    RepetitionPenaltyLogitsProcessor,
    SequenceBiasLogitsProcessor,
)

from ..cases.processors import ProcessorSpec, parse_processors
from ..common.errors import RequestError
from .drafters.protocol import Drafter
from .grammars import GrammarMask, grammar_mask
from .loading import LoadedModel
from .penalties import OutputPenalties
from .processors import Processor, Processors, processors_of

ProcessorSource: TypeAlias = (
    Processors | ProcessorSpec | Mapping[str, object] | str | Processor | Sequence[Processor] | None
)
"""Logits processors as callers give them: settings by name, see `cases.processors.ProcessorSpec`;
functions of (input_ids, scores), one or a list; or `Processors`.
"""


def ready_processors(
    source: ProcessorSource, target: LoadedModel, temperature: float
) -> Processors | None:
    """The processors of a call; None for none. Raises RequestError for what cannot be used."""
    if isinstance(source, str | Mapping | ProcessorSpec):
        spec = parse_processors(source)
        return None if spec is None else _named_processors(spec, target, temperature)
    return processors_of(source)


def check_drafters(drafters: Sequence[Drafter], processors: Processors | None) -> None:
    """Refuse a drafter whose logits the processors would not reach. Raises RequestError."""
    if processors is None or not processors.on_drafts:
        return
    for drafter in drafters:
        if not drafter.takes_processors:
            raise RequestError(
                f"{type(drafter).__name__} does not apply logits processors to its drafts; process "
                "the target alone with on_drafts=False, or declare takes_processors"
            )


def _named_processors(spec: ProcessorSpec, target: LoadedModel, temperature: float) -> Processors:
    """In vLLM's order: grammar, biases, penalties, n-grams; functions of others; then min-p."""
    chosen: list[Processor] = []
    mask: GrammarMask | None = None
    if spec.grammar is not None:
        mask = grammar_mask(*spec.grammar, target, canonical=spec.canonical)
        chosen.append(mask)
    if spec.logit_bias:
        _check_bias(spec, target)
        chosen.append(SequenceBiasLogitsProcessor({(ids,): bias for ids, bias in spec.logit_bias}))
    if spec.repetition_penalty != 1:
        chosen.append(RepetitionPenaltyLogitsProcessor(spec.repetition_penalty))
    if spec.presence_penalty or spec.frequency_penalty:
        chosen.append(OutputPenalties(spec.presence_penalty, spec.frequency_penalty))
    if spec.no_repeat_ngram:
        chosen.append(NoRepeatNGramLogitsProcessor(spec.no_repeat_ngram))
    ends = frozenset[int]() if mask is None else mask.ends
    if spec.factory:
        made = _made(spec.factory, target)
        chosen += made.processors
        ends |= made.ends
    if spec.min_p and temperature > 0:
        # Relative to the likeliest after temperature: (l - l_max) / T >= log(min_p).
        chosen.append(MinPLogitsWarper(spec.min_p**temperature))
    return Processors(tuple(chosen), spec.on_drafts, ends)


def _made(path: str, target: LoadedModel) -> Processors:
    """What a function of others returns. Raises RequestError."""
    module, _, name = path.partition(":")
    try:
        factory = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise RequestError(
            f"processors from {path} cannot be imported ({error}); correct it"
        ) from None
    made = processors_of(factory(target.tokenizer))
    if made is None:
        raise RequestError(f"{path} returned no logits processor; return one, or a list of them")
    return made


def _check_bias(spec: ProcessorSpec, target: LoadedModel) -> None:
    width = target.model.get_input_embeddings().num_embeddings
    beyond = [token for token, _ in spec.logit_bias if token >= width]
    if beyond:
        raise RequestError(
            f"logit_bias names token {beyond[0]} and {target.checkpoint.folder} has {width}; leave "
            "it out"
        )
