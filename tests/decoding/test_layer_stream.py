"""Models whose weights stay in their files: every score is that of the loaded model, bit for bit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from helpers.embedded import Pair
from helpers.support import ROOT

from pytest_specdec.acceptance.scores import Scores
from pytest_specdec.baselines.store import load
from pytest_specdec.cases.case import Sampling
from pytest_specdec.cases.texts import Text, texts_from_ids
from pytest_specdec.common.errors import RequestError
from pytest_specdec.decoding.layer_stream import LayerStream, load_streamed
from pytest_specdec.decoding.loading import LoadedModel
from pytest_specdec.decoding.scoring import BatchScorer, DrafterPlan, assembled
from pytest_specdec.lossless import conformance
from pytest_specdec.records.text_set import TextSet

pytestmark = pytest.mark.slow


def texts_at(temperature: int, count: int) -> tuple[Text, ...]:
    """Stored texts of the embedded target after one prompt: not its own, which is no matter here."""
    stored = load(ROOT / "baselines" / "text" / "texts" / f"t{temperature}-n128-s0.json", TextSet)
    assert stored is not None
    new = [*stored.texts.values()][:count]
    ids = [(0, 450, 27, *text[: 40 + 3 * row]) for row, text in enumerate(new)]
    return texts_from_ids(ids, [3] * len(ids))


def scores(
    target: LoadedModel, drafters: Sequence[object], texts: Sequence[object], sampling: Sampling
) -> list[Scores]:
    plans = [DrafterPlan(drafter, 0, 4) for drafter in drafters]
    scorer = BatchScorer(target, plans, texts, sampling, overlaps=True)
    plan = scorer.plan(judge_origin=True)
    scorer.read_ahead(plan.batches)
    parts = [
        (number, scorer.score(rows) if number < len(plan.batches) else scorer.greedy_origin(rows))
        for number, rows in enumerate(plan.units)
    ]
    return assembled(texts, parts, drafters=len(plans), judge_origin=True)


def same(one: Scores, other: Scores) -> bool:
    arrays = ("target", "draft", "smoothed")
    pairs = [(getattr(one, name), getattr(other, name)) for name in arrays]
    pairs += [(one.overlaps[rule], other.overlaps[rule]) for rule in one.overlaps]
    return (
        all(before is now or np.array_equal(before, now) for before, now in pairs)
        and one.overlaps.keys() == other.overlaps.keys()
    )


@pytest.mark.parametrize("temperature", [0, 1])
def test_scores_are_those_of_the_loaded_models(pair: Pair, temperature: int) -> None:
    folders = [Path(model.checkpoint.folder) for model in (pair.target, pair.draft)]
    target, draft = (load_streamed(str(folder), "cpu") for folder in folders)
    texts, sampling = texts_at(temperature, 24), Sampling(temperature)
    whole = scores(pair.target, [pair.draft], texts, sampling)
    streamed = scores(target, [draft], texts, sampling)
    assert all(map(same, whole, streamed))
    assert all(parameter.is_meta for parameter in target.stream._layers.parameters())


def test_a_head_reads_the_states_between_the_layers(pair: Pair) -> None:
    folder = Path(pair.target.checkpoint.folder)
    head, texts = str(folder.parent / "text-eagle3"), texts_at(1, 8)
    target = load_streamed(str(folder), "cpu")
    (whole,) = scores(pair.target, [head], texts, Sampling(1.0))
    (streamed,) = scores(target, [head], texts, Sampling(1.0))
    assert same(whole, streamed)


def test_each_layer_is_read_once_for_all_texts(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    target = load_streamed(str(pair.target.checkpoint.folder), "cpu")
    read: list[int] = []
    weights = LayerStream._weights

    def counted(stream: LayerStream, module: object) -> object:
        read.extend(at for at, layer in enumerate(stream._layers) if layer is module)
        return weights(stream, module)

    monkeypatch.setattr(LayerStream, "_weights", counted)
    scores(target, [], texts_at(1, 24), Sampling(1.0))
    assert read == [*range(len(target.stream._layers))]


def test_texts_that_were_not_read_ahead_pass_all_the_same(pair: Pair) -> None:
    target, texts = load_streamed(str(pair.target.checkpoint.folder), "cpu"), texts_at(1, 4)
    assert conformance(target, texts) == conformance(pair.target, texts)


def test_mtp_layers_of_a_streamed_model_are_refused(pair: Pair) -> None:
    target = load_streamed(str(pair.target.checkpoint.folder), "cpu")
    with pytest.raises(RequestError, match="--specdec-offload loads none"):
        _ = target.heads
