"""Acceptance as a training metric: a callback of transformers' `Trainer`."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from transformers import TrainerCallback

from ..cases.texts import Text
from ..common.errors import RequestError
from .loading import LoadedModel
from .training_curve import CurveSettings, TrainingCurve

if TYPE_CHECKING:
    from transformers import PreTrainedModel, Trainer, TrainerControl, TrainerState
    from transformers.modeling_layers import MtpModel
    from transformers.training_args import TrainingArguments

PREFIX = "specdec/"
"""Of the values' names in logs."""


class SpecdecCallback(TrainerCallback):  # type: ignore[misc]
    """Logs the acceptance of the drafter in training at each evaluation.

    The target's texts are sampled once. Each evaluation replays the model in training as their
    drafter and logs, as `specdec/...`: `acceptance_length` with its 95 % interval over prompts like
    these (`_low`, `_high`), and `change_since_best`, the paired difference from the best evaluation
    so far, with its own. At temperature 0 evaluations are compared by
    `smoothed_acceptance_length`, which is logged, too. The evaluation's metrics hold all values as
    `eval_specdec/...`, so `metric_for_best_model="specdec/acceptance_length"` keeps the best
    drafter.

    Parameters
    ----------
    target
        The model that the drafter is trained for: a checkpoint folder, a hub id, or a model from
        `load_model`. A path is loaded to the device and in the number format of the drafter and
        stays there.
    prompts
        What the target continues: texts, or the path of a prompt file.
    texts
        In the place of prompts: token ids that the target has emitted at this temperature, from
        `texts_from_ids` for instance.
    k
        Draft tokens per round.
    depth
        MTP layers of the drafter used in one pass; above 0 `heads` is needed.
    temperature, top_k, top_p
        How target and drafter sample; temperature 0 is greedy.
    new_tokens
        Tokens of text for each prompt.
    seed
        Seed of the texts.
    every
        Measure at one evaluation in so many, the first included; 1 where the best model is chosen
        by these values.
    heads
        From the model in training to its MTP layers, a `transformers` `MtpModel`.

    Raises
    ------
    RequestError
        For neither or both of prompts and texts, k or `every` below 1, or a depth without heads; at
        the first evaluation for a model that cannot draft for the target.

    Examples
    --------
    >>> from pytest_specdec import SpecdecCallback
    >>> callback = SpecdecCallback(
    ...     "suites/models/text-target", prompts=["The function returns"], k=4, new_tokens=32
    ... )
    >>> callback.every
    1

    Then `callback.attach(trainer)` before `trainer.train()`.
    """

    def __init__(
        self,
        target: str | Path | LoadedModel,
        prompts: Sequence[str] | Path | None = None,
        *,
        texts: Sequence[Text] | None = None,
        k: int = 8,
        depth: int = 0,
        temperature: float = 1.0,
        top_k: int = 0,
        top_p: float = 1.0,
        new_tokens: int = 128,
        seed: int = 0,
        every: int = 1,
        heads: Callable[[PreTrainedModel], MtpModel] | None = None,
    ) -> None:
        for name, value in (("k", k), ("every", every)):
            if value < 1:
                raise RequestError(f"{name}={value} is below 1; pass a whole number of at least 1")
        if depth and heads is None:
            raise RequestError(
                f"depth={depth} drafts with MTP layers; pass heads=, from the model in training to "
                "its MtpModel"
            )
        settings = CurveSettings(
            k=k,
            depth=depth,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            new_tokens=new_tokens,
            seed=seed,
        )
        self.every = every
        self._curve = TrainingCurve(target, prompts, texts, settings)
        self._heads = heads if depth else None
        self._evaluations = 0
        self._log: Callable[[dict[str, float]], None] | None = None

    def attach(self, trainer: Trainer) -> Self:
        """Add the callback to a trainer, so that its values go wherever the trainer logs.

        `Trainer(callbacks=[callback])` works too, but gives a callback no way to the trainer's
        reporters: values are then in `trainer.state.log_history` and in the evaluation's metrics.
        """
        trainer.add_callback(self)
        self._log = trainer.log
        return self

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Warn of a training that never evaluates."""
        if args.eval_strategy == "no":
            warnings.warn(
                "SpecdecCallback measures at evaluations and the trainer makes none; set "
                "eval_strategy",
                stacklevel=2,
            )

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Measure the model as it is, and log."""
        number, self._evaluations = self._evaluations, self._evaluations + 1
        if number % self.every:
            return
        model: PreTrainedModel = kwargs["model"]
        heads = None if self._heads is None else self._heads(model)
        values = {
            f"{PREFIX}{name}": value for name, value in self._curve.measure(model, heads).items()
        }
        if (metrics := kwargs.get("metrics")) is not None:
            metrics.update({f"eval_{name}": value for name, value in values.items()})
        if self._log is not None:
            self._log(values)
        else:
            epoch = {} if state.epoch is None else {"epoch": state.epoch}
            state.log_history.append({**values, **epoch, "step": state.global_step})
