"""Trees replayed in units are those replayed at once."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from helpers.fruit import heads_case

from pytest_specdec.cases.case import Case
from pytest_specdec.cases.tree import tree_of
from pytest_specdec.decoding.trees.replay import tree_batches
from pytest_specdec.engines.models import ModelPool
from pytest_specdec.engines.own.replay_engine import ReplayEngine
from pytest_specdec.engines.own.tree_work import TreeScoring
from pytest_specdec.engines.part_files import decoded, encoded


@pytest.mark.parametrize("drafter", ["draft", "heads"])
@pytest.mark.parametrize("tree", ["0 1 0.0 1.0", "0 1 sampled", "topk=2,depth=2,nodes=5"])
def test_units_in_any_order_make_the_field_of_all_texts(
    case: Case, tree: str, drafter: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shape = tree_of(tree)
    of_drafter = case if drafter == "draft" else heads_case(case)
    wide = dataclasses.replace(of_drafter, tree=shape, k=shape.depth)
    models = ModelPool("cpu")
    texts = tuple(ReplayEngine([wide], models).emitted(wide))
    vocabulary = models.target(wide.target).model.config.vocab_size
    monkeypatch.setattr("pytest_specdec.decoding.trees.replay._LOGITS", vocabulary * 40)
    whole = models.tree_field(wide, texts)
    work = TreeScoring(case=wide, texts=texts, batches=tree_batches(texts, vocabulary))
    units = range(len(work.sizes))
    assert len(units) > 1
    compute = work.opened(models, units)
    results = [(unit, decoded(encoded(compute(unit)), work.result)) for unit in reversed(units)]
    assert np.array_equal(work.field(results).reach, whole.reach)
    assert whole.reach.max() > 0
