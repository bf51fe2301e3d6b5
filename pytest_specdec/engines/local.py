"""Replay on models in this process: every case of a session from one pass of each model over each set of texts."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import msgspec

from ..acceptance.case import Case, TextKey
from ..acceptance.prompts import Prompt, read_prompts
from ..acceptance.renewal import AcceptanceField, expected_counts
from ..acceptance.texts import Text
from ..baselines.schema import SCHEMA, Fingerprints, TextSet
from ..checkpoint import check_pair
from ..decoding.environment import environment
from ..decoding.loading import LoadedModel, load_model
from ..decoding.replay import DrafterPlan, acceptance_fields
from ..decoding.sampling import encode_prompts, sample_new_tokens
from ..errors import MeasurementError, SpecdecError
from .protocol import Measurement

if TYPE_CHECKING:
    from transformers.modeling_layers import MtpModel

Report = Callable[[str, int, int], None]
"""Progress: (what, texts done, texts in all)."""

_FieldKey = tuple[str, int | None]
"""Drafter, and the depth where each depth needs a field of its own."""


@dataclasses.dataclass(frozen=True)
class _TextGroup:
    """All that the cases of one text key share."""

    texts: tuple[Text, ...]
    stored: TextSet
    fields: dict[_FieldKey, AcceptanceField | SpecdecError]


class ReplayEngine:
    """Measures by replay. `plan` is every case of the session: fields reach as far as any of them needs."""

    name = "replay"

    def __init__(
        self,
        plan: Sequence[Case],
        *,
        device: str = "auto",
        dtype: str = "float32",
        stored_texts: Callable[[TextKey], TextSet | None] = lambda key: None,
        report: Report = lambda what, done, total: None,
    ) -> None:
        self._plan = tuple(plan)
        self._device, self._dtype = device, dtype
        self._stored_texts, self._report = stored_texts, report
        self.model = functools.cache(self._load)
        self._group = functools.cache(self._measure_group)

    def measure(self, case: Case) -> Measurement:
        target = self.model(case.target)
        group = self._group(case.texts)
        field = group.fields[_field_key(case)]
        if isinstance(field, SpecdecError):
            raise field
        counts = expected_counts(field if case.uses_own_heads else field.first_heads(1 + case.depth), case.k)
        if not counts.total_rounds > 0:
            raise MeasurementError(f"no text is long enough for a round of k={case.k}; raise --specdec-new-tokens")
        return Measurement(
            counts,
            Fingerprints(target.checkpoint.model_fingerprint, self._drafter_fingerprint(case)),
            environment(target.device, self._dtype),
            group.stored.tokenizer,
            group.stored.template,
            {text.key: text.fingerprint for text in group.texts},
            group.stored,
        )

    def drafter(self, case: Case) -> LoadedModel | MtpModel:
        """The loaded draft model, or the target's own MTP heads."""
        return self.model(case.target).heads if case.uses_own_heads else self.model(case.drafter)

    def _load(self, name: str) -> LoadedModel:
        return load_model(name, self._device, self._dtype)

    def _drafter_fingerprint(self, case: Case) -> str:
        if case.uses_own_heads:
            return self.model(case.target).checkpoint.heads_fingerprint
        checkpoint = self.model(case.drafter).checkpoint
        return "-".join([checkpoint.model_fingerprint, *([checkpoint.heads_fingerprint] if case.depth else [])])

    def _measure_group(self, key: TextKey) -> _TextGroup:
        target = self.model(key.target)
        texts, stored = self._texts(key, target)
        cases = [case for case in self._plan if case.texts == key]
        fields: dict[_FieldKey, AcceptanceField | SpecdecError] = {}
        plans: dict[_FieldKey, DrafterPlan] = {}
        for name in dict.fromkeys(map(_field_key, cases)):
            try:
                plans[name] = self._drafter_plan([case for case in cases if _field_key(case) == name])
            except SpecdecError as error:
                fields[name] = error
        measured = acceptance_fields(
            target, list(plans.values()), texts, key.temperature, functools.partial(self._report, f"{key.suite}: replay")
        )
        return _TextGroup(texts, stored, fields | dict(zip(plans, measured, strict=True)))

    def _drafter_plan(self, cases: list[Case]) -> DrafterPlan:
        """One drafter's plan for its cases; loads what it needs, so that a bad drafter fails alone."""
        depth, steps = max(case.depth for case in cases), max(case.k for case in cases)
        target = self.model(cases[0].target)
        model = None if cases[0].uses_own_heads else self.model(cases[0].drafter)
        check_pair(target.checkpoint, model.checkpoint if model else None, depth)
        if depth:
            _ = (model or target).heads
        return DrafterPlan(model, depth, steps)

    def _texts(self, key: TextKey, target: LoadedModel) -> tuple[tuple[Text, ...], TextSet]:
        """The stored texts where they fit the target; the missing ones are sampled."""
        prompts = read_prompts(key.prompts, key.prompt_limit)
        ids = encode_prompts(target.tokenizer, prompts)
        wanted = TextSet(
            SCHEMA,
            target.checkpoint.model_fingerprint,
            target.checkpoint.tokenizer_fingerprint,
            _template(target, prompts),
            key.new_tokens,
            key.temperature,
            key.seed,
            {},
        )
        stored = self._stored_texts(key)
        known = dict(stored.texts) if stored is not None and stored.fits(wanted) else {}
        missing = [row for row, prompt in enumerate(prompts) if prompt.key not in known]
        if missing:
            sampled = sample_new_tokens(
                target,
                [ids[row] for row in missing],
                new_tokens=key.new_tokens,
                temperature=key.temperature,
                seed=key.seed,
                progress=functools.partial(self._report, f"{key.suite}: sampling texts"),
            )
            known |= {prompts[row].key: new for row, new in zip(missing, sampled, strict=True)}
        texts = tuple(
            Text(prompt.key, prompt.category, (*own, *known[prompt.key]), len(own))
            for prompt, own in zip(prompts, ids, strict=True)
        )
        used = {prompt.key: known[prompt.key] for prompt in prompts}
        return texts, msgspec.structs.replace(wanted, texts=used)


def _field_key(case: Case) -> _FieldKey:
    return (case.drafter, case.depth if case.uses_own_heads else None)


def _template(target: LoadedModel, prompts: Sequence[Prompt]) -> str | None:
    """Hash of the chat template where any prompt goes through it."""
    if not any(prompt.messages for prompt in prompts):
        return None
    return hashlib.sha256(str(target.tokenizer.chat_template).encode()).hexdigest()[:16]
