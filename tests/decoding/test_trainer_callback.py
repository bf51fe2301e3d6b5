"""The callback in trainings by transformers' own Trainer."""

from __future__ import annotations

import importlib.util
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from helpers.support import letter_tokenizer
from transformers import AutoModelForCausalLM, Trainer, TrainerCallback, TrainingArguments

from pytest_specdec import SpecdecCallback, load_model

needs_trainer = pytest.mark.skipif(
    importlib.util.find_spec("accelerate") is None,
    reason="transformers' Trainer needs accelerate; pip install accelerate, or -e '.[test]'",
)
PROMPTS = ["apple", "banana", "cherry", "elder"]
VALUES = {"acceptance_length", "acceptance_length_low", "acceptance_length_high"}
CHANGES = {"change_since_best", "change_since_best_low", "change_since_best_high"}


class Reporter(TrainerCallback):
    """What TensorBoard and others receive."""

    def __init__(self) -> None:
        self.logs: list[dict[str, float]] = []

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.logs.append(dict(kwargs["logs"]))


def trainer(draft: Path, folder: Path, **options: Any) -> Trainer:
    """A training of four steps with an evaluation after every second one."""
    ids = letter_tokenizer()(["the apple and the banana"] * 4)["input_ids"]
    rows = [{"input_ids": torch.tensor(row), "labels": torch.tensor(row)} for row in ids]
    callbacks = options.pop("callbacks", [])
    arguments = TrainingArguments(
        output_dir=str(folder),
        max_steps=4,
        learning_rate=1e-2,
        per_device_train_batch_size=2,
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
        **{"eval_strategy": "steps", "eval_steps": 2, "logging_steps": 2, **options},
    )
    model = AutoModelForCausalLM.from_pretrained(draft, attention_dropout=0.1)
    return Trainer(model, arguments, train_dataset=rows, eval_dataset=rows, callbacks=callbacks)


def logged(logs: list[dict[str, float]]) -> list[dict[str, float]]:
    """The values of each measurement, without their prefix."""
    return [
        {name.removeprefix("specdec/"): value for name, value in line.items() if "specdec" in name}
        for line in logs
        if any(name.startswith("specdec/") for name in line)
    ]


@pytest.fixture
def callback(tiny_target: Path) -> SpecdecCallback:
    return SpecdecCallback(load_model(str(tiny_target), "cpu"), prompts=PROMPTS, k=4, new_tokens=24)


@needs_trainer
def test_a_training_logs_acceptance_wherever_the_trainer_logs(
    callback: SpecdecCallback, tiny_draft: Path, tmp_path: Path
) -> None:
    reporter = Reporter()
    training = trainer(tiny_draft, tmp_path, callbacks=[reporter])
    assert callback.attach(training) is callback
    training.train()
    first, second = logged(reporter.logs)
    assert set(first) == VALUES
    assert set(second) == VALUES | CHANGES
    assert second["change_since_best"] == pytest.approx(
        second["acceptance_length"] - first["acceptance_length"]
    )
    assert logged(training.state.log_history) == [first, second]


@needs_trainer
def test_a_measured_training_ends_with_the_weights_of_one_without(
    callback: SpecdecCallback, tiny_draft: Path, tmp_path: Path
) -> None:
    weights = []
    for callbacks in ([], [callback]):
        training = trainer(tiny_draft, tmp_path, callbacks=callbacks)
        training.train()
        weights.append(training.model.state_dict())
    without, measured = weights
    assert all(torch.equal(without[name], measured[name]) for name in without)


@needs_trainer
def test_the_best_model_can_be_chosen_by_acceptance(
    callback: SpecdecCallback, tiny_draft: Path, tmp_path: Path
) -> None:
    training = trainer(
        tiny_draft,
        tmp_path,
        callbacks=[callback],
        metric_for_best_model="specdec/acceptance_length",
        greater_is_better=True,
        save_steps=2,
        load_best_model_at_end=True,
    )
    training.train()
    values = [line["acceptance_length"] for line in logged(training.state.log_history)]
    assert training.state.best_metric == max(values)


def event(callback: SpecdecCallback, model: Any, **state: Any) -> tuple[Any, dict[str, float]]:
    """One evaluation, as the trainer reports it."""
    shown = SimpleNamespace(**({"epoch": 0.5, "global_step": 2, "log_history": []} | state))
    metrics = {"eval_loss": 1.0}
    arguments, control = SimpleNamespace(), SimpleNamespace()
    callback.on_evaluate(arguments, shown, control, model=model, metrics=metrics)
    return shown, metrics


def test_without_a_trainer_values_are_in_its_history_and_metrics(
    callback: SpecdecCallback, tiny_draft: Path
) -> None:
    state, metrics = event(callback, load_model(str(tiny_draft), "cpu").model)
    (line,) = state.log_history
    assert set(line) == {f"specdec/{name}" for name in VALUES} | {"epoch", "step"}
    assert metrics == {
        "eval_loss": 1.0,
        **{f"eval_{name}": value for name, value in line.items() if name.startswith("specdec/")},
    }


def test_every_second_evaluation_is_measured(tiny_target: Path, tiny_draft: Path) -> None:
    target, model = (load_model(str(folder), "cpu") for folder in (tiny_target, tiny_draft))
    callback = SpecdecCallback(target, prompts=PROMPTS, k=4, new_tokens=24, every=2)
    measured = [len(event(callback, model.model)[0].log_history) for _ in range(4)]
    assert measured == [1, 0, 1, 0]


def test_heads_of_the_model_in_training_draft(tiny_target: Path, tiny_draft: Path) -> None:
    target, draft = (load_model(str(folder), "cpu") for folder in (tiny_target, tiny_draft))
    callback = SpecdecCallback(
        target, prompts=PROMPTS, k=4, depth=2, new_tokens=24, heads=lambda model: draft.heads
    )
    state, _ = event(callback, draft.model)
    assert state.log_history[0]["specdec/acceptance_length"] > 1


def test_a_training_without_evaluations_is_warned_of(callback: SpecdecCallback) -> None:
    nothing: Any = SimpleNamespace()
    with pytest.warns(UserWarning, match="set eval_strategy"):
        callback.on_train_begin(SimpleNamespace(eval_strategy="no"), nothing, nothing)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        callback.on_train_begin(SimpleNamespace(eval_strategy="steps"), nothing, nothing)
