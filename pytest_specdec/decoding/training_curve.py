"""Replay of a drafter in training: its acceptance on texts of the target that never change."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from ..acceptance.counts import Counts
from ..acceptance.renewal import expected_counts
from ..cases.case import Sampling
from ..cases.prompts import Prompt, key_of, read_prompts
from ..cases.rules import default_rule
from ..cases.texts import Text, texts_of_prompts
from ..checkpoints.checkpoint import check_pair
from ..common.errors import MeasurementError, RequestError
from ..common.student import student_quantile
from ..gate.paired import Pair
from .drafters.draft_model import DraftModel
from .live_model import evaluating, live_model
from .loading import LoadedModel, load_model
from .replay import DrafterPlan, text_scores
from .sampling import encode_prompts, sample_new_tokens

if TYPE_CHECKING:
    from transformers import PreTrainedModel
    from transformers.modeling_layers import MtpModel

_LEVEL = 0.95


@dataclasses.dataclass(frozen=True, kw_only=True)
class CurveSettings:
    """What is measured in training; the fields are `SpecdecCallback`'s parameters."""

    k: int
    depth: int
    temperature: float
    top_k: int
    top_p: float
    new_tokens: int
    seed: int

    @property
    def sampling(self) -> Sampling:
        return Sampling(self.temperature, self.top_k, self.top_p)


@dataclasses.dataclass(frozen=True)
class TrainingPoint:
    """A drafter at one step of its training."""

    counts: Counts
    compared: Counts
    """The counts by which steps are compared: at temperature 0 the smoothed ones."""


class TrainingCurve:
    """Measures one drafter again and again on the same texts, each time against the best so far."""

    def __init__(
        self,
        target: str | Path | LoadedModel,
        prompts: Sequence[str] | Path | None,
        texts: Sequence[Text] | None,
        settings: CurveSettings,
    ) -> None:
        """Raises RequestError unless either prompts or texts are given."""
        if (prompts is None) == (texts is None):
            raise RequestError(
                "SpecdecCallback needs prompts or texts: prompts=[...] for the target to continue, "
                "or texts=[...] that it has emitted"
            )
        self._target, self._settings = target, settings
        self._prompts = prompts if prompts is None or isinstance(prompts, Path) else list(prompts)
        self._texts = None if texts is None else tuple(texts)
        self._target_scores: NDArray[np.floating] | None = None
        self._best: TrainingPoint | None = None

    def measure(self, model: PreTrainedModel, heads: MtpModel | None = None) -> dict[str, float]:
        """Replay the model as it is now, and compare it with the best so far.

        Returns the values to be logged, by name. The model's mode, gradients and random numbers are
        left alone. Raises RequestError for a model that cannot draft for the target,
        MeasurementError for NaN or texts without a round.
        """
        modules = [model] if heads is None else [model, heads]
        drafter = live_model(model, heads)
        devices = [model.device] if model.device.type == "cuda" else []
        with evaluating(*modules), torch.random.fork_rng(devices=devices):
            target = self._loaded_target(drafter)
            point = self._replayed(target, drafter)
        best = self._best
        if best is None or point.compared.acceptance_length > best.compared.acceptance_length:
            self._best = point
        return _values(point, best)

    def _loaded_target(self, drafter: LoadedModel) -> LoadedModel:
        """The target, loaded on first use to the device and in the number format of the drafter."""
        if not isinstance(self._target, LoadedModel):
            dtype = str(drafter.model.dtype).removeprefix("torch.")
            self._target = load_model(str(self._target), str(drafter.device), dtype)
        check_pair(self._target.checkpoint, drafter.checkpoint, 0)
        return self._target

    def _replayed(self, target: LoadedModel, drafter: LoadedModel) -> TrainingPoint:
        settings = self._settings
        plan = DrafterPlan(DraftModel(drafter, settings.depth), settings.depth, settings.k)
        texts = self._texts_of(target)
        (scores,) = text_scores(target, [plan], texts, settings.sampling, known=self._target_scores)
        self._target_scores = scores.target
        counts = expected_counts(scores.field(default_rule(settings.temperature)), settings.k)
        if not counts.total_rounds > 0:
            raise MeasurementError(
                f"no text is long enough for a round of k={settings.k}; use longer texts or a "
                "smaller k"
            )
        smoothed = settings.temperature == 0
        return TrainingPoint(
            counts=counts,
            compared=expected_counts(scores.smoothed_field(), settings.k) if smoothed else counts,
        )

    def _texts_of(self, target: LoadedModel) -> tuple[Text, ...]:
        """The texts, sampled from the target on first use."""
        if self._texts is None:
            assert self._prompts is not None
            prompts = _as_prompts(self._prompts)
            ids = encode_prompts(target.tokenizer, prompts)
            new = sample_new_tokens(
                target,
                ids,
                new_tokens=self._settings.new_tokens,
                sampling=self._settings.sampling,
                seed=self._settings.seed,
                keys=[prompt.key for prompt in prompts],
            )
            self._texts = tuple(texts_of_prompts(prompts, ids, new))
        return self._texts


def _as_prompts(prompts: Sequence[str] | Path) -> Sequence[Prompt]:
    """Prompts of a file or of texts, each once."""
    if isinstance(prompts, Path):
        return read_prompts(prompts)
    return [
        Prompt(key=key_of(text, None), category="all", text=text) for text in dict.fromkeys(prompts)
    ]


def _values(point: TrainingPoint, best: TrainingPoint | None) -> dict[str, float]:
    """A step's values, without those that are not finite numbers: an interval needs two prompts."""
    counts, compared = point.counts, point.compared
    length, prompts = counts.acceptance_length, len(counts.prompts)
    values = {"acceptance_length": length}
    if prompts > 1:
        reach = student_quantile((1 + _LEVEL) / 2, prompts) * counts.standard_error
        values |= {
            "acceptance_length_low": length - reach,
            "acceptance_length_high": length + reach,
        }
    if compared is not counts:
        values["smoothed_acceptance_length"] = compared.acceptance_length
    if best is not None:
        pair = Pair.of(best.compared, compared)
        values["change_since_best"] = 0.0 - pair.length_drop
        if prompts > 1:
            low, high = pair.interval(_LEVEL)
            values |= {"change_since_best_low": -high, "change_since_best_high": -low}
    return values
