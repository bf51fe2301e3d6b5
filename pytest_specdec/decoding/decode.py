"""Speculative generation: draft, verify in one target pass, accept, take the caches back,
repeat.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch

from ..acceptance.counts import Counts
from ..acceptance.rounds import Round, counts_of_rounds
from ..cases.case import Sampling, checked_rule
from ..cases.drafting import DraftSampling, drafting_of
from ..cases.texts import Text, texts_from_ids
from ..common.errors import RequestError
from ..speedup.controllers import Controller
from .batch import BatchRow, DecodingPlan, run
from .clock import Lap
from .controlled_rows import RowControl, check_controller
from .drafters.protocol import Drafter
from .drafters.registry import DrafterSource, loaded_pair
from .loading import LoadedModel, loaded
from .named_processors import ProcessorSource, check_drafters, ready_processors
from .prompt_ids import prompt_ids
from .replay import Progress
from .sampling import ending_tokens
from .verification import rule_named


@dataclasses.dataclass(frozen=True, kw_only=True)
class Decoded:
    """What `decode` returns: the texts that speculative decoding emitted, round by round."""

    texts: tuple[Text, ...]
    """One for each prompt, in their order; keys are row numbers."""
    rounds: tuple[tuple[Round, ...], ...]
    """Rounds of each text: position of the first draft, tokens drafted, tokens accepted. The last
    round may draft fewer than k tokens, where the text ends.
    """
    k: int
    """Draft tokens per round; 0 for plain decoding."""
    draft_ms: tuple[float, ...]
    """Milliseconds of drafting, one for each round of a batch."""
    verify_ms: tuple[float, ...]
    """Milliseconds of the rest of a round, above all the target's pass; one for each round of a
    batch.
    """
    drafts: tuple[tuple[tuple[int, ...], ...], ...] = ()
    """Token ids that each round of each text drafted; empty where drafts are trees."""

    @property
    def counts(self) -> Counts:
        """Counts of the rounds whose k draft positions all lie in the text; other rounds are left
        out.
        """
        return counts_of_rounds(self.texts, self.rounds, self.k)


def decode(
    target: str | LoadedModel,
    drafter: DrafterSource | None,
    prompts: Sequence[Sequence[int]] | Sequence[str],
    *,
    k: int,
    depth: int = 0,
    rule: str | None = None,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    new_tokens: int = 128,
    batch_size: int = 16,
    seed: int = 0,
    confidence: float = 0.0,
    progress: Progress | None = None,
    processors: ProcessorSource = None,
    drafting: DraftSampling | str | None = None,
    controller: Controller | None = None,
) -> Decoded:
    """Decode speculatively after prompts and count every round.

    Parameters
    ----------
    target
        The model whose text is emitted: a checkpoint folder, a hub id, or a model from
        `load_model`.
    drafter
        What proposes tokens: a draft model given as the target is; ``"mtp"`` for the target's own
        MTP heads; ``"prompt-lookup"``; the name of a type that another package adds; or None with
        ``k=0`` for plain decoding.
    prompts
        Token ids of each prompt, or strings for the target's tokenizer; at least one token each.
    k
        Draft tokens per round. A round drafts fewer only where a text reaches its last token.
    depth
        MTP layers used in one pass of the drafter: 0 for a plain draft model, at least 1 for
        ``"mtp"``.
    rule
        Verification rule; the default is ``"rejection"``, and ``"greedy"`` at temperature 0.
        Others are ``"sample-match"``, ``"block"``, the lossy ``"typical"``, and those that other
        packages add.
    temperature, top_k, top_p
        Applied to target and drafter in this order. Temperature 0 is greedy; top_k 0 and top_p 1
        keep every token.
    new_tokens
        Most tokens emitted after each prompt.
    batch_size
        Texts decoded together; one with a drafter that reads the texts before. It does not change a
        text's distribution or a greedy text.
    seed
        Seeds every draw of the call. Runs with the same arguments on the same machine are equal.
    confidence
        For a draft model of depth 0: a row stops drafting after the first draft whose probability
        the drafter puts below this. 0 never stops.
    progress
        Called with (texts done, texts in all) after each batch.
    processors
        Logits processors of target and drafter, applied before the temperature: settings by name
        such as ``{"repetition_penalty": 1.1, "regex": "[a-z ]+"}``, or functions of (input_ids,
        scores) as transformers' `LogitsProcessor`, one or a list; see docs/processors.md.
    drafting
        How drafts are drawn, where that is not as the target's tokens are: ``"argmax"`` (q has all
        mass on the drafter's likeliest token), ``"unfiltered"`` (without top-k and top-p),
        ``"temperature=0.6"``, ``"temperature=0.6,unfiltered"``. At temperature 0 every draft is an
        arg-max.
    controller
        Decides online how many tokens each round drafts, at most `k`; see
        `pytest_specdec.speedup.controllers` and docs/dynamic-k.md. Its rounds never draft a text's
        last token. One that carries its state from text to text decodes them one by one, in order.

    Returns
    -------
    Decoded
        Texts and rounds in the order of the prompts, and the times of drafting and verifying. An
        end-of-sequence token ends a text and is kept.

    Raises
    ------
    RequestError
        For a pair, rule or prompt that cannot be decoded.
    MeasurementError
        For a model that returns NaN or infinite logits.

    References
    ----------
    Leviathan et al., arXiv 2211.17192 (rejection sampling); Sun et al., arXiv 2403.10444 (block
    verification); Cai et al., arXiv 2401.10774 (typical acceptance).

    Examples
    --------
    >>> from pytest_specdec import decode
    >>> decoded = decode(
    ...     "suites/models/text-target",
    ...     "suites/models/text-draft",
    ...     ["The function returns"],
    ...     k=4,
    ...     new_tokens=32,
    ...     temperature=0,
    ... )
    >>> text = decoded.texts[0]
    >>> len(text.ids) - text.prompt_length
    32
    >>> decoded.rounds[0][0].drafted
    4
    """
    sampling = Sampling(temperature, top_k, top_p).checked()
    verification = rule_named(checked_rule(rule, temperature))
    model, ready = _loaded(target, drafter, k, depth)
    _check_confidence(confidence, ready)
    if controller is not None:
        _check_control(controller, ready, k, confidence)
    ids = prompt_ids([model, *(() if ready is None else ready.models)], prompts, new_tokens)
    changes = ready_processors(processors, model, temperature)
    check_drafters([] if ready is None else [ready], changes)
    plan = DecodingPlan(
        target=model,
        drafter=ready,
        k=k,
        depth=depth,
        sampling=sampling,
        rule=verification,
        generator=torch.Generator(model.device).manual_seed(seed),
        stop=frozenset(ending_tokens(model, changes)),
        confidence=confidence,
        processors=changes,
        drafting=drafting_of(drafting),
        controller=controller,
    )
    rows, laps = _decoded(plan, ids, new_tokens, batch_size, progress)
    return Decoded(
        texts=texts_from_ids([row.tokens for row in rows], [len(prompt) for prompt in ids]),
        rounds=tuple(tuple(row.rounds) for row in rows),
        drafts=tuple(tuple(row.drafts) for row in rows),
        k=k,
        draft_ms=tuple(lap.draft_ms for lap in laps),
        verify_ms=tuple(lap.verify_ms for lap in laps),
    )


def _check_confidence(confidence: float, drafter: Drafter | None) -> None:
    if confidence and (drafter is None or not drafter.takes_confidence):
        raise RequestError(
            "a confidence threshold works only with a draft model without MTP heads; leave it out, "
            "or draft with a model at depth 0"
        )


def _check_control(
    controller: Controller, drafter: Drafter | None, k: int, confidence: float
) -> None:
    """Raises RequestError where the controller does not go with the rest."""
    if confidence:
        raise RequestError("a controller has thresholds of its own; leave out confidence")
    check_controller(controller, drafter)
    if controller.most > k:
        raise RequestError(
            f"{controller.name} drafts up to {controller.most}; pass k={controller.most}"
        )


def _decoded(
    plan: DecodingPlan,
    prompts: Sequence[Sequence[int]],
    new_tokens: int,
    batch_size: int,
    progress: Progress | None,
) -> tuple[list[BatchRow], list[Lap]]:
    """Rows in the order of the prompts, decoded in batches of similar length; and all laps."""
    rows = [BatchRow([*ids], len(ids) + new_tokens) for ids in prompts]
    order = sorted(range(len(rows)), key=lambda row: len(prompts[row]))
    if isinstance(plan.drafter, Drafter):
        plan.drafter.begin(())
        if plan.drafter.in_order:
            order, batch_size = list(range(len(rows))), 1
    controller = plan.controller
    if controller is not None and controller.carries:
        order, batch_size = list(range(len(rows))), 1
    state = None if controller is None else controller.first()
    laps: list[Lap] = []
    for begin in range(0, len(order), batch_size):
        batch = [rows[row] for row in order[begin : begin + batch_size]]
        for row in batch:
            row.control = None if controller is None else RowControl(controller, state)
        laps += run(plan, batch)
        if controller is not None and batch[-1].control is not None:
            state = controller.ended(batch[-1].control.state)
        if progress:
            progress(begin + len(batch), len(order))
    return rows, laps


def _loaded(
    target: str | LoadedModel, drafter: DrafterSource | None, k: int, depth: int
) -> tuple[LoadedModel, Drafter | None]:
    if (drafter is None) != (k == 0):
        raise RequestError(
            "plain decoding is k = 0 without a drafter; name a drafter, or pass k=0 and None"
        )
    return (loaded(target), None) if drafter is None else loaded_pair(target, drafter, depth)
