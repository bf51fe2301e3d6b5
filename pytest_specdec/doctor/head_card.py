"""A drafter measured for its card: texts of the target, replay of every k, the doctor's words."""

from __future__ import annotations

import dataclasses
import functools
import importlib.metadata
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..acceptance.counts import Counts
from ..acceptance.reference_drafters import reference_counts
from ..acceptance.renewal import expected_counts, with_requests
from ..acceptance.scores import Scores
from ..cases.case import Sampling, default_rule
from ..cases.drafter import (
    DFLASH,
    DOMINO,
    DSPARK,
    LOOKUP,
    MEDUSA,
    OWN_HEADS,
    PARD,
    PEAGLE,
    SUFFIX,
    DrafterSpec,
    DraftModelSpec,
    RegisteredSpec,
    kind_of,
)
from ..cases.prompts import Prompt
from ..cases.texts import Text, texts_of_prompts
from ..checkpoints.text_ends import target_fingerprint
from ..common.errors import MeasurementError, SpecdecError
from ..decoding.drafters.protocol import Drafter
from ..decoding.drafters.registry import drafter_for, drafts_whole_blocks
from ..decoding.environment import environment
from ..decoding.loading import LoadedModel
from ..decoding.replay import DrafterPlan, text_scores
from ..decoding.sampling import encode_prompts, sample_new_tokens
from ..decoding.text_limits import check_context
from ..gate.refusals import below_lookup, dead_drafter, looping_texts, no_better, same_model
from ..records.conditions import Fingerprints
from ..report import card as cards
from ..report.card import CardBest, CardCircumstances, CardDoctor, CardDocument
from ..speedup.advice import Advice, advise
from ..speedup.cost_profile import CostProfile
from .checks import EXAMINED

Progress = Callable[[str, int, int], None]
_ONE_PASS = (MEDUSA, PEAGLE, DFLASH, DSPARK, DOMINO, PARD, LOOKUP, SUFFIX)
"""Kinds that draft all tokens of a round in one pass."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class CardRequest:
    """What a card is made of, as the command is given it."""

    target: str
    drafter: str
    """Its name as it is given."""
    spec: DrafterSpec
    k: int
    depth: int
    temperature: float
    new_tokens: int
    seed: int
    prompts: str
    """The prompt file's name."""
    dtype: str
    command: str
    costs: CostProfile | None = None
    costs_name: str = ""
    examine: bool = True
    """Whether the doctor examines the folder."""


def measured_card(
    target: LoadedModel,
    drafter: DrafterSpec | LoadedModel,
    prompts: Sequence[Prompt],
    request: CardRequest,
    progress: Progress = lambda what, done, total: None,
) -> CardDocument:
    """The card of a drafter that was checked beside its target.

    `drafter` is `request.spec`, or the loaded model where that names a draft model. Raises
    RequestError for prompts that cannot be encoded or texts longer than a model's context,
    MeasurementError for texts without a round of `request.k` drafts.
    """
    sampling = Sampling(request.temperature)
    texts = _texts(target, prompts, sampling, request, progress)
    ready = drafter_for(target, drafter, request.depth)
    counts, scores = _counts(target, ready, request, texts, sampling, progress)
    if not counts[request.k].total_rounds > 0:
        raise MeasurementError(
            f"no text is long enough for a round of k={request.k}; ask for more --new-tokens or a "
            "smaller --k"
        )
    kind = kind_of(request.spec)
    passes = {k: passes_of(kind, k, request.depth) for k in counts}
    advice = _advice(counts, request, kind)
    circumstances = _circumstances(target, ready, request, len(texts))
    fingerprints = Fingerprints(
        circumstances["target_fingerprint"], circumstances["drafter_fingerprint"]
    )
    return CardDocument(
        schema=1,
        card=circumstances,
        k=request.k,
        categories=cards.categories(counts[request.k]),
        positions=cards.positions(counts[request.k]),
        steps=cards.steps(counts, passes, advice),
        best=cards.best(counts, passes),
        best_measured=_best_measured(advice, request, kind),
        doctor=_doctor(target, request, texts, sampling, progress),
        warnings=_warnings(
            target,
            counts[request.k],
            scores,
            texts,
            default_rule(request.temperature),
            fingerprints,
        ),
    )


def passes_of(kind: str, k: int, depth: int) -> int:
    """Passes of a kind of drafter that make k drafts.

    >>> [passes_of(kind, 8, depth) for kind, depth in (("draft", 3), ("eagle3", 0), ("medusa", 0))]
    [2, 8, 1]
    """
    if kind in _ONE_PASS:
        return 1
    return -(-k // (1 + depth)) if kind != OWN_HEADS else k


def _texts(
    target: LoadedModel,
    prompts: Sequence[Prompt],
    sampling: Sampling,
    request: CardRequest,
    progress: Progress,
) -> tuple[Text, ...]:
    ids = encode_prompts(target.tokenizer, prompts)
    check_context(
        [target],
        max(map(len, ids)) + request.new_tokens,
        new_tokens=request.new_tokens,
        cure="shorten the prompt or lower --new-tokens",
    )
    new = sample_new_tokens(
        target,
        ids,
        new_tokens=request.new_tokens,
        sampling=sampling,
        seed=request.seed,
        keys=[prompt.key for prompt in prompts],
        progress=functools.partial(progress, "sampling texts"),
    )
    return texts_of_prompts(prompts, ids, new)


def _counts(
    target: LoadedModel,
    drafter: Drafter,
    request: CardRequest,
    texts: Sequence[Text],
    sampling: Sampling,
    progress: Progress,
) -> tuple[dict[int, Counts], Scores]:
    """The counts of every k, and the scores of the largest; from one pass of the drafter, or one
    for each k where k decides all drafts of a round.
    """
    rule = default_rule(sampling.temperature)
    ks = range(1, request.k + 1)
    own = drafts_whole_blocks(request.spec)
    plans = [DrafterPlan(drafter, request.depth, k) for k in (ks if own else (request.k,))]
    scores = text_scores(target, plans, texts, sampling, functools.partial(progress, "replay"))
    fields = [of_plan.field(rule) for of_plan in scores]
    by_k = dict(zip(ks, fields if own else fields * request.k, strict=True))
    counts = {k: with_requests(expected_counts(field, k), field) for k, field in by_k.items()}
    return counts, scores[-1]


def _advice(counts: Mapping[int, Counts], request: CardRequest, kind: str) -> Advice | None:
    if request.costs is None:
        return None
    cells = {(k, request.depth): of_k for k, of_k in counts.items()}
    return advise(cells, request.costs.extended(counts), drafter=kind)


def _best_measured(advice: Advice | None, request: CardRequest, kind: str) -> CardBest | None:
    if advice is None or request.costs is None or request.costs.target_ms is None:
        return None
    k, depth = advice.best
    costs = request.costs.extended(range(1, request.k + 1))
    drafting = costs.draft_ms(k, depth, drafter=kind) / request.costs.target_ms
    pays = advice.drafting_pays
    return CardBest(
        cost=drafting, k=k if pays else 0, speedup=advice.speedups[advice.best] if pays else 1.0
    )


def _circumstances(
    target: LoadedModel, drafter: Drafter, request: CardRequest, texts: int
) -> CardCircumstances:
    here = environment(target.device, request.dtype)
    return CardCircumstances(
        target=request.target,
        target_fingerprint=target_fingerprint(target.checkpoint),
        drafter=request.drafter,
        drafter_fingerprint=drafter.fingerprint(),
        kind=kind_of(request.spec),
        depth=request.depth,
        prompts=request.prompts,
        texts=texts,
        new_tokens=request.new_tokens,
        temperature=request.temperature,
        rule=default_rule(request.temperature),
        seed=request.seed,
        costs=request.costs_name,
        environment={
            name: getattr(here, name) for name in here.__struct_fields__ if getattr(here, name)
        },
        version=importlib.metadata.version("pytest-specdec"),
        command=request.command,
    )


def _warnings(
    target: LoadedModel,
    counts: Counts,
    scores: Scores,
    texts: Sequence[Text],
    rule: str,
    fingerprints: Fingerprints,
) -> list[str]:
    """What a gate would refuse or warn of."""
    references = reference_counts(
        scores,
        texts,
        vocabulary=target.model.get_input_embeddings().num_embeddings,
        k=counts.k,
        rule=rule,
    )
    found = [
        same_model(fingerprints),
        dead_drafter(counts),
        no_better(counts, references),
        looping_texts(sum(text.loops for text in texts), len(texts)),
    ]
    known = [warning for warning in found if warning is not None]
    return known or [warning for warning in [below_lookup(counts, references)] if warning]


def _doctor(
    target: LoadedModel,
    request: CardRequest,
    texts: Sequence[Text],
    sampling: Sampling,
    progress: Progress,
) -> CardDoctor:
    """The doctor's page, on the same texts; or why there is none."""
    reason = _unexamined(request)
    if reason:
        return CardDoctor(verdict="", lines=[reason])
    from .diagnosis import diagnose
    from .page import lines
    from .patients import patient_of

    try:
        reading = functools.partial(progress, "reading texts")
        name = request.drafter
        if isinstance(request.spec, RegisteredSpec) and request.spec.folder is not None:
            name = str(request.spec.folder)
        patient: Any = patient_of(target, name, texts, sampling, request.k, reading)
        diagnosis = diagnose(patient, patient.nothing, progress)
    except SpecdecError as error:
        return CardDoctor(verdict="", lines=[f"not examined: {error}"])
    on = f"{len(texts)} texts, {request.new_tokens} new tokens each, k {request.k}"
    # A card is published: it names the folder, and not where that lies on this machine.
    whole, short = str(Path(name).resolve()), Path(name).name
    shown = [line.replace(whole, short) for line in lines(diagnosis, on)]
    return CardDoctor(verdict=diagnosis.outcome.words, lines=shown)


def _unexamined(request: CardRequest) -> str:
    """Why the doctor has nothing to examine; empty where it has."""
    kind = kind_of(request.spec)
    if not request.examine:
        return "not examined (--no-doctor)"
    if kind not in EXAMINED:
        what = "draft models" if isinstance(request.spec, DraftModelSpec) else f"{kind} drafters"
        return f"not examined: doctor measures other readings of heads, and {what} have one"
    if request.temperature == 0:
        return "not examined: readings are compared above temperature 0"
    return ""
