"""Replay, conformance and contexts ask the same texts of a model; where its states are kept, or its
layers lie in files, these run once.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from helpers.fruit import texts_of, with_texts

from pytest_specdec.cases.case import Case
from pytest_specdec.decoding import text_batches
from pytest_specdec.decoding.layer_states import _blocks
from pytest_specdec.decoding.layer_stream import LayerStream
from pytest_specdec.engines.models import ModelPool
from pytest_specdec.engines.own.replay_engine import ReplayEngine


def measured(case: Case, *, asks_again: bool) -> tuple[list[int], list[object]]:
    """How often the first layers of target and draft model ran, and what replay, conformance and
    contexts found.
    """
    models = ModelPool("cpu", asks_again=asks_again)
    texts = texts_of(case)
    made = [0, 0]
    for at, name in enumerate((case.target, str(case.draft_model))):
        layer = _blocks(models.model(name))[0]

        def counted(*given: object, at: int = at, run: Any = layer.forward, **named: object) -> Any:
            made[at] += 1
            return run(*given, **named)

        layer.forward = counted  # type: ignore[method-assign]
    engine = ReplayEngine([case], models, stored_texts=lambda key: texts)
    replayed = engine.measure(case)
    assert replayed.contexts is not None
    found = [replayed.counts, engine.conformance(case, 0.01, None, None), replayed.contexts()]
    return made, [*map(plain, found)]


def plain(found: Any) -> object:
    """Numbers to the last bit, by name."""
    if dataclasses.is_dataclass(found):
        return {name: plain(value) for name, value in vars(found).items()}
    return found.tolist() if isinstance(found, np.ndarray) else found


@pytest.mark.parametrize(
    ("temperature", "again", "once"), [(1.0, [3, 3], [1, 1]), (0.0, [3, 2], [2, 1])]
)
def test_layers_run_once_and_what_is_found_is_the_same(
    case: Case, temperature: float, again: list[int], once: list[int]
) -> None:
    """At temperature 0 the origin of some texts is judged by a pass over these alone."""
    case = with_texts(case, temperature=temperature)
    asked, found = measured(case, asks_again=False)
    kept, same = measured(case, asks_again=True)
    assert (asked, kept) == (again, once)
    assert same == found


@pytest.mark.parametrize("replays", [True, False])
def test_layers_in_files_are_read_once_for_conformance(
    case: Case, monkeypatch: pytest.MonkeyPatch, replays: bool
) -> None:
    """Replay has read them for the same texts, or they are read over all texts together."""
    case, texts = with_texts(case, new_tokens=12), texts_of(with_texts(case, new_tokens=12))
    monkeypatch.setattr(text_batches, "_LOGIT_BUDGET", {"cpu": 64 * 12})
    read: list[object] = []
    weights = LayerStream._weights

    def counted(stream: LayerStream, module: object) -> object:
        read.append(module)
        return weights(stream, module)

    monkeypatch.setattr(LayerStream, "_weights", counted)
    wholes, streamed = (
        ReplayEngine([case], ModelPool("cpu", offload=offload), stored_texts=lambda key: texts)
        for offload in (False, True)
    )
    if replays:
        streamed.measure(case)
    found = streamed.conformance(case, 0.01, None, None)
    assert found == wholes.conformance(case, 0.01, None, None)
    layers = [module for module in read if "Layer" in type(module).__name__]
    assert len(layers) == len(set(map(id, layers))) == 4
