"""Models in this process, each loaded once: what replay and decode, the engines of our own,
share.
"""

from __future__ import annotations

import abc
import functools
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ...acceptance.lookup import NGRAM
from ...acceptance.rounds import Round
from ...cases.case import LOOKUP, LOSSY_RULES, Case, Sampling, TextKey
from ...cases.prompts import Prompt
from ...cases.texts import Text
from ...common.errors import MeasurementError, RequestError
from ...decoding.decode import Decoded, decode
from ...decoding.loading import LoadedModel, load_model
from ...decoding.replay import check_drafter
from ...decoding.timing import Setting, SteadyRounds, emitted_starts, measure_costs, steady_rounds
from ...lossless.texts.conformance import Conformance, conformance
from ...records.conditions import Fingerprints
from ...records.text_set import TextSet
from ...speedup.cost_profile import CostProfile
from ..counting.oracle import Agreement
from ..kept_texts import KeptTexts
from ..protocol import Engine

if TYPE_CHECKING:
    from transformers.modeling_layers import MtpModel

Report = Callable[[str, int, int], None]
"""Progress: (what, texts done, texts in all)."""

DECODE_BATCH = 16
"""Rows decoded at once."""

_CONTEXT = 128
"""Cached tokens before rounds are timed, where the model has room for them."""


class LocalEngine(Engine):
    """Models of a session, each loaded once. `plan` is every case of it; in `kept` sampled texts
    wait for the next run.
    """

    def __init__(
        self,
        plan: Sequence[Case],
        *,
        device: str = "auto",
        dtype: str = "float32",
        stored_texts: Callable[[TextKey], TextSet | None] = lambda key: None,
        kept: Path | None = None,
        report: Report = lambda what, done, total: None,
    ) -> None:
        self._plan = tuple(plan)
        self._device, self._dtype = device, dtype
        self._stored_texts, self._report = stored_texts, report
        self._kept = KeptTexts(kept, f"{device} {dtype}")
        self.model = functools.cache(self._load)
        self._refused: dict[str, RequestError] = {}
        """By a model's name, why it could not be loaded: it is not tried again, on the hub for
        instance.
        """
        self._judged = functools.cache(_conformance_of)

    def drafter(self, case: Case) -> LoadedModel | MtpModel:
        """The loaded draft model, or the target's own MTP heads. Raises RequestError for prompt
        lookup, which has neither.
        """
        if case.uses_own_heads:
            return self.model(case.target).heads
        if case.draft_model is None:
            raise RequestError("prompt lookup has no model; leave specdec_drafter out of this test")
        return self.model(case.draft_model)

    def decode(
        self, case: Case, prompts: Sequence[Sequence[int]] | Sequence[str], **options: object
    ) -> Decoded:
        """Decode speculatively as the case says; `options` are those of `decode` and win."""
        wanted: dict[str, object] = {
            "k": case.k,
            "depth": case.depth,
            "rule": case.rule,
            "temperature": case.temperature,
            "top_k": case.texts.top_k,
            "top_p": case.texts.top_p,
            "new_tokens": case.texts.new_tokens,
            "batch_size": DECODE_BATCH,
            "seed": case.texts.seed,
        }
        return decode(self.model(case.target), self._drafting(case), prompts, **(wanted | options))  # type: ignore[arg-type]

    @abc.abstractmethod
    def emitted(self, case: Case) -> Sequence[Text]:
        """The texts that this engine emits for a case."""

    def conformance(self, case: Case, alpha: float) -> Conformance:
        """Judge the emitted texts by the target's own distributions, see `lossless.conformance`.
        Raises RequestError for a lossy rule.
        """
        if case.rule in LOSSY_RULES:
            raise RequestError(
                f"rule {case.rule!r} is lossy by design, so its texts cannot conform; leave "
                "specdec_conformance out"
            )
        drafter = None if case.draft_model is None or case.depth else self.model(case.draft_model)
        texts = tuple(self.emitted(case))
        return self._judged(
            self.model(case.target),
            texts,
            case.texts.sampling,
            drafter,
            alpha,
            self._rounds_of(case),
        )

    def _rounds_of(self, case: Case) -> tuple[tuple[Round, ...], ...] | None:
        """The rounds of the emitted texts; None where there are none, or where another rule than
        rejection sampling ends them.
        """
        return None

    def oracle(self, case: Case, alpha: float) -> Agreement:
        raise RequestError(
            f"engine {self.name!r} counts no rounds of its own to be judged; leave specdec_oracle "
            "out"
        )

    def costs(self, cases: Sequence[Case]) -> CostProfile:
        """Times of the rounds of cases that share their models and temperature, at batch size 1."""
        one = cases[0]
        context = min(_CONTEXT, (self.model(one.target).checkpoint.context or 2 * _CONTEXT) // 2)
        drafter = None if one.draft_model is None else self.model(one.draft_model)
        return measure_costs(
            self.model(one.target),
            drafter,
            ks={size for case in cases for size in (case.verified, case.drafted)},
            depths={case.depth for case in cases},
            setting=Setting(context=context, temperature=one.temperature, dtype=self._dtype),
            own_heads=one.uses_own_heads,
            lookup=one.drafter == LOOKUP,
            progress=lambda what, done, total: self._report(f"{one.suite}: {what}", done, total),
        )

    def rounds(
        self, case: Case, *, batch_size: int = 1, context: int = _CONTEXT, plain: bool = False
    ) -> SteadyRounds:
        """Endless rounds of the case's decoder, to be timed; with `plain` steps of the target
        alone.
        """
        target = self.model(case.target)
        setting = Setting(batch_size, context, case.temperature, self._dtype)
        starts = emitted_starts(target, setting)
        if plain:
            return steady_rounds(target, None, 0, 0, setting, starts)
        check_drafter(target, self._drafting(case), case.depth)
        return steady_rounds(target, self._drafting(case), case.k, case.depth, setting, starts)

    def words(self, case: Case, tokens: Sequence[int]) -> list[str]:
        """Tokens as the target's tokenizer decodes them."""
        tokenizer = self.model(case.target).tokenizer
        return [tokenizer.decode([token]) for token in tokens]

    def _load(self, name: str) -> LoadedModel:
        if name in self._refused:
            raise self._refused[name].with_traceback(None)
        what = f"loading {Path(name).name}"
        self._report(what, 0, 1)
        try:
            model = load_model(name, self._device, self._dtype)
        except RequestError as error:
            self._refused[name] = error
            raise
        self._report(what, 1, 1)
        return model

    def _drafting(self, case: Case) -> LoadedModel | str:
        return case.drafter if case.draft_model is None else self.model(case.draft_model)

    def _load_drafter(self, case: Case) -> None:
        """Load now what drafting would load on first use."""
        model = self._drafting(case)
        if case.depth:
            _ = (model if isinstance(model, LoadedModel) else self.model(case.target)).heads

    def _drafter_fingerprint(self, case: Case) -> str:
        if case.uses_own_heads:
            return self.model(case.target).checkpoint.heads_fingerprint
        if case.draft_model is None:
            return f"{LOOKUP}-{NGRAM}"
        checkpoint = self.model(case.draft_model).checkpoint
        checkpoint.hash_now(self._report)
        return "-".join(
            [checkpoint.model_fingerprint, *([checkpoint.heads_fingerprint] if case.depth else [])]
        )

    def _fingerprints(self, case: Case) -> Fingerprints:
        target = self.model(case.target).checkpoint
        target.hash_now(self._report)
        return Fingerprints(target.model_fingerprint, self._drafter_fingerprint(case))


def _conformance_of(
    target: LoadedModel,
    texts: tuple[Text, ...],
    sampling: Sampling,
    drafter: LoadedModel | None,
    alpha: float,
    rounds: tuple[tuple[Round, ...], ...] | None,
) -> Conformance:
    return conformance(
        target,
        texts,
        temperature=sampling.temperature,
        top_k=sampling.top_k,
        top_p=sampling.top_p,
        drafter=drafter,
        alpha=alpha,
        rounds=rounds,
    )


def no_rounds(case: Case) -> MeasurementError:
    return MeasurementError(
        f"no text is long enough for a round of k={case.k}; raise --specdec-new-tokens"
    )


def template_of(target: LoadedModel, prompts: Sequence[Prompt]) -> str | None:
    """Hash of the chat template where any prompt goes through it."""
    if not any(prompt.messages for prompt in prompts):
        return None
    return hashlib.sha256(str(target.tokenizer.chat_template).encode()).hexdigest()[:16]
