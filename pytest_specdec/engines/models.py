"""The models of a session in this process: each is loaded once, when it is first asked for, and
shared by the engine and the fixtures.

Importing this module imports neither torch nor transformers: an engine elsewhere may need no model
at all.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..acceptance.rounds import Round
from ..acceptance.trees.field import TreeField
from ..cases.case import SERVED, Case, Sampling
from ..cases.drafter import DrafterSpec, RegisteredSpec
from ..cases.texts import Text
from ..checkpoints.text_ends import target_fingerprint
from ..common.errors import RequestError, naming_extras
from ..records.conditions import Fingerprints
from ..speedup.cost_profile import CostProfile
from .adapter_api import Progress, no_progress

if TYPE_CHECKING:
    from transformers.modeling_layers import MtpModel

    from ..decoding.decode import Decoded
    from ..decoding.drafters.protocol import Drafter
    from ..decoding.kept_states import StateBudget
    from ..decoding.likeliest_drafts import LikeliestDrafts
    from ..decoding.loading import LoadedModel
    from ..decoding.named_processors import ProcessorSource
    from ..decoding.timing import SteadyRounds
    from ..lossless.texts.conformance import Conformance

DECODE_BATCH = 16
"""Rows decoded at once."""

_CONTEXT = 128
"""Cached tokens before rounds are timed, where the model has room for them."""


class ModelPool:
    """Loads targets and drafters, and decodes, times and judges with them.

    `unavailable` is the message of an engine whose models cannot be loaded here at all. With
    `outer_targets` only the outer parts of targets are loaded, whose states come from files; with
    `offload` the weights of models stay in their files. `asks_again` says that the same texts pass
    through models more than once, so that states are worth keeping.
    """

    def __init__(
        self,
        device: str = "auto",
        dtype: str = "float32",
        *,
        report: Progress = no_progress,
        unavailable: str | None = None,
        outer_targets: bool = False,
        offload: bool = False,
        asks_again: bool = False,
    ) -> None:
        self.device, self.dtype, self.report = device, dtype, report
        self._unavailable, self._outer_targets = unavailable, outer_targets
        self._offload, self._asks_again = offload, asks_again
        self._refused: dict[tuple[str, bool], RequestError] = {}
        """By a model's name, why it could not be loaded: it is not tried again, on the hub for
        instance.
        """
        self._state_budget: StateBudget | None = None
        self._loaded = functools.cache(self._load)
        self._conformance = functools.cache(_conformance)

    def model(self, name: str) -> LoadedModel:
        """A checkpoint folder or model of the hub. Raises RequestError where it cannot be loaded
        here.
        """
        return self._checked(name, outer=False)

    def target(self, name: str) -> LoadedModel:
        """A target that is replayed: whole, or its outer parts. Errors are those of `model`."""
        return self._checked(name, outer=self._outer_targets)

    def drafter(self, case: Case) -> LoadedModel | MtpModel:
        """The loaded draft model, or the target's own MTP heads. Raises RequestError for a
        drafter that has neither.
        """
        if case.uses_own_heads:
            return self.target(case.target).heads
        if case.draft_model is None:
            name = "prompt lookup" if case.uses_lookup else repr(case.drafter_name)
            raise RequestError(f"{name} has no model; leave specdec_drafter out of this test")
        return self.model(case.draft_model)

    def drafting(self, case: Case) -> LoadedModel | DrafterSpec:
        """What decoding and replay take as the case's drafter: its model, loaded, or what drafts
        in its place.
        """
        return case.drafter if case.draft_model is None else self.model(case.draft_model)

    def load_drafter(self, case: Case) -> None:
        """Load now what drafting would load on first use."""
        self._ready_drafter(case).prepare()

    def _ready_drafter(self, case: Case) -> Drafter:
        target, drafter = self.target(case.target), self.drafting(case)
        from ..decoding.drafters.registry import drafter_for

        return drafter_for(target, drafter, case.depth)

    def fingerprints(self, case: Case) -> Fingerprints:
        """Of the weights of the case's target and drafter."""
        target = self.target(case.target).checkpoint
        target.hash_now(self.report)
        drafter = self._ready_drafter(case).fingerprint(self.report)
        return Fingerprints(target_fingerprint(target), drafter)

    def decode(
        self, case: Case, prompts: Sequence[Sequence[int]] | Sequence[str], **options: object
    ) -> Decoded:
        """Decode speculatively as the case says; `options` are those of `decode` and win."""
        target, drafter = self.model(case.target), self.drafting(case)
        if case.tree is not None:
            return self._decode_tree(case, prompts, options.get("progress"))
        from ..decoding.decode import decode

        wanted: dict[str, object] = {
            "k": case.k,
            "depth": case.depth,
            "rule": case.rule,
            "temperature": case.temperature,
            "top_k": case.texts.top_k,
            "top_p": case.texts.top_p,
            "new_tokens": case.texts.new_tokens,
            "batch_size": case.batch or DECODE_BATCH,
            "seed": case.texts.seed,
            "processors": case.texts.processors,
            "drafting": case.drafting,
        }
        return decode(target, drafter, prompts, **(wanted | options))  # type: ignore[arg-type]

    def _decode_tree(
        self,
        case: Case,
        prompts: Sequence[Sequence[int]] | Sequence[str],
        progress: Any = None,
    ) -> Decoded:
        from ..decoding.trees.decode import decode_tree

        assert case.tree is not None
        return decode_tree(
            self.model(case.target),
            self.drafting(case),
            prompts,
            tree=case.tree,
            depth=case.depth,
            rule=case.rule,
            temperature=case.temperature,
            top_k=case.texts.top_k,
            top_p=case.texts.top_p,
            new_tokens=case.texts.new_tokens,
            seed=case.texts.seed,
            progress=progress,
        )

    def tree_field(self, case: Case, texts: Sequence[Text], *, quiet: bool = False) -> TreeField:
        """What the case's trees accept of texts; `quiet` reports no progress. Raises RequestError
        for a rule that cannot be replayed.
        """
        from ..decoding.trees.replay import TreePair, tree_fields

        assert case.tree is not None
        target = self.target(case.target)
        (field,) = tree_fields(
            target,
            self._ready_drafter(case),
            texts,
            [TreePair(case.tree, case.rule)],
            case.texts.sampling,
            None if quiet else functools.partial(self.report, f"{case.id}: replay of trees"),
        )
        return field

    def likeliest_drafts(self, case: Case, texts: Sequence[Text]) -> list[LikeliestDrafts] | None:
        """What the case's drafter finds likeliest at each position of texts; None where it does not
        show that, and for a target whose weights stay in files.
        """
        from ..decoding.likeliest_drafts import likeliest_drafts

        target = self.target(case.target)
        if target.stream is not None or case.texts.processors is not None:
            return None
        sampling = case.drafting.sampling(case.texts.sampling)
        return likeliest_drafts(target, self._ready_drafter(case), texts, sampling)

    def rounds(
        self, case: Case, *, batch_size: int = 1, context: int = _CONTEXT, plain: bool = False
    ) -> SteadyRounds:
        """Endless rounds of the case's decoder, to be timed; with `plain` steps of the target
        alone.
        """
        target = self.model(case.target)
        from ..decoding.replay import check_drafter
        from ..decoding.timing import Setting, emitted_starts, steady_rounds

        setting = Setting(batch_size, context, case.temperature, self.dtype)
        starts = emitted_starts(target, setting)
        if plain:
            return steady_rounds(target, None, 0, 0, setting, starts)
        check_drafter(target, self.drafting(case), case.depth)
        return steady_rounds(target, self.drafting(case), case.k, case.depth, setting, starts)

    def costs(self, cases: Sequence[Case]) -> CostProfile:
        """Times of the rounds of cases that share their models and temperature, at batch size 1."""
        first = cases[0]
        target = self.model(first.target)
        drafter = None if first.draft_model is None else self.model(first.draft_model)
        from ..decoding.timing import Setting, measure_costs

        context = min(_CONTEXT, (target.checkpoint.context or 2 * _CONTEXT) // 2)
        return measure_costs(
            target,
            drafter,
            ks={size for case in cases for size in (case.verified, case.drafted)},
            depths={case.depth for case in cases},
            setting=Setting(context=context, temperature=first.temperature, dtype=self.dtype),
            own_heads=first.uses_own_heads,
            lookup=first.uses_lookup,
            registered=[first.drafter] if isinstance(first.drafter, RegisteredSpec) else [],
            progress=lambda what, done, total: self.report(f"{first.suite}: {what}", done, total),
        )

    def words(self, case: Case, tokens: Sequence[int]) -> list[str]:
        """Tokens as the target's tokenizer decodes them; their ids where no model is here."""
        if self._unavailable is not None:
            return [f"<{token}>" for token in tokens]
        from ..decoding.loading import resolve, tokenizer_in

        tokenizer = tokenizer_in(resolve(case.target))
        return [tokenizer.decode([token]) for token in tokens]

    def conformance(
        self,
        case: Case,
        texts: Sequence[Text],
        alpha: float,
        rounds: Sequence[Sequence[Round]] | None = None,
        processors: ProcessorSource = None,
    ) -> Conformance:
        """Judge texts by the distributions of the case's target, see `lossless.conformance`; equal
        texts are judged once. `processors` are the case's if None.
        """
        target = self.model(case.target)
        known = case.draft_model not in (None, SERVED) and not case.depth
        drafter = self.model(str(case.draft_model)) if known else None
        played = None if rounds is None else tuple(map(tuple, rounds))
        settings = (case.texts.sampling, processors or case.texts.processors)
        return self._conformance(target, tuple(texts), settings, drafter, alpha, played)

    def _checked(self, name: str, *, outer: bool) -> LoadedModel:
        if self._unavailable is not None:
            raise RequestError(self._unavailable)
        if name == SERVED:
            raise RequestError(
                "this needs the models' weights here; name them by --specdec-target and "
                "--specdec-draft"
            )
        return self._loaded(name, outer)

    def _load(self, name: str, outer: bool) -> LoadedModel:
        """A whole model, or a target's outer parts alone."""
        if (name, outer) in self._refused:
            raise self._refused[name, outer].with_traceback(None)
        with naming_extras():
            from ..decoding.layer_stream import load_streamed
            from ..decoding.loading import load_model, load_outer_parts
        what = f"loading {Path(name).name}"
        self.report(what, 0, 1)
        try:
            whole = load_streamed if self._offload else load_model
            load = load_outer_parts if outer else whole
            model = load(name, self.device, self.dtype)
        except RequestError as error:
            self._refused[name, outer] = error
            raise
        self.report(what, 1, 1)
        return self._keeping(model) if self._asks_again else model

    def _keeping(self, model: LoadedModel) -> LoadedModel:
        """The model, which keeps states of texts where its own layers compute them."""
        if model.stored is not None or model.stream is not None:
            return model
        from ..decoding.kept_states import KeptStates, StateBudget

        if self._state_budget is None:
            self._state_budget = StateBudget.on(model.device.type)
        kept = KeptStates(model.model.get_decoder(), self._state_budget)
        return dataclasses.replace(model, kept=kept)


def _conformance(
    target: LoadedModel,
    texts: tuple[Text, ...],
    settings: tuple[Sampling, ProcessorSource],
    drafter: LoadedModel | None,
    alpha: float,
    rounds: tuple[tuple[Round, ...], ...] | None,
) -> Conformance:
    from ..lossless.texts.conformance import conformance

    sampling, processors = settings
    return conformance(
        target,
        texts,
        temperature=sampling.temperature,
        top_k=sampling.top_k,
        top_p=sampling.top_p,
        drafter=drafter,
        alpha=alpha,
        rounds=rounds,
        processors=processors,
    )
