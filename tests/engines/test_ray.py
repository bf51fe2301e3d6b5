"""Work divided among Ray actors on a cluster of two nodes, made in this machine: the results of one
process, bit for bit, also where an actor is killed and a node removed in mid-run.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from helpers.embedded import Pair
from helpers.fruit import grid, heads_case

from pytest_specdec.cases.case import Case
from pytest_specdec.cases.drafter import DraftModelSpec
from pytest_specdec.cases.tree import tree_of
from pytest_specdec.common.errors import MeasurementError, RequestError
from pytest_specdec.decoding import text_batches
from pytest_specdec.decoding.trees import replay as trees_replay
from pytest_specdec.engines.executor import Executor, LocalExecutor
from pytest_specdec.engines.models import ModelPool
from pytest_specdec.engines.own import replay_engine
from pytest_specdec.engines.own.replay_engine import ReplayEngine
from pytest_specdec.engines.part_files import encoded
from pytest_specdec.engines.protocol import Measurement
from pytest_specdec.engines.ray_actors import RayExecutor

cluster_utils = pytest.importorskip(
    "ray.cluster_utils", reason="ray is not installed; `make ray` runs these tests"
)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),  # Ray's own, of sockets and processes that it leaves
]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two nodes of one CPU each."""
    import ray

    nodes = cluster_utils.Cluster(
        initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False}
    )
    nodes.add_node(num_cpus=1)
    yield nodes
    ray.shutdown()
    nodes.shutdown()


@pytest.fixture
def executor(cluster: Any) -> Iterator[RayExecutor]:
    models = functools.partial(ModelPool, "cpu")
    made = RayExecutor(models(), models, cluster.address)
    yield made
    made.close()


@pytest.fixture
def cases(pair: Pair, case: Case, monkeypatch: pytest.MonkeyPatch) -> list[Case]:
    """The tiny pair and its heads, texts that are yet to be sampled, in many small batches."""
    monkeypatch.setattr(text_batches, "_LOGIT_BUDGET", {"cpu": 64})
    monkeypatch.setattr(replay_engine, "SAMPLED_TOGETHER", 1)
    return [*grid(case, (4, 0), (8, 2)), *grid(heads_case(case), (6, 2))]


def measured(cases: list[Case], executor: Executor | None = None) -> list[Measurement]:
    engine = ReplayEngine(cases, ModelPool("cpu"), executor=executor)
    return [engine.measure(case) for case in cases]


def same(one: Measurement, other: Measurement) -> bool:
    """Whether two measurements are equal to the last bit."""
    assert one.field is not None
    assert other.field is not None
    arrays = [
        (getattr(one.counts, name), getattr(other.counts, name))
        for name in ("rounds", "drafted", "accepted", "passes")
    ]
    arrays.append((one.field().accept, other.field().accept))
    return (
        all(np.array_equal(before, now) for before, now in arrays)
        and one.texts == other.texts
        and one.fingerprints == other.fingerprints
        and one.environment == other.environment
    )


@pytest.mark.parametrize("tree", ["0 1 0.0 1.0", "topk=2,depth=2,nodes=5"])
def test_two_nodes_replay_the_trees_that_one_process_does(
    case: Case, tree: str, executor: RayExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trees_replay, "_LOGITS", 64)
    shape = tree_of(tree)
    wide = dataclasses.replace(case, tree=shape, k=shape.depth)
    (here,), (there,) = measured([wide]), measured([wide], executor)
    for name in ("rounds", "drafted", "accepted"):
        assert np.array_equal(getattr(here.counts, name), getattr(there.counts, name))
    assert here.counts.accepted.sum() > 0
    assert here.texts == there.texts


def test_two_nodes_sample_and_score_what_one_process_does(
    cases: list[Case], executor: RayExecutor
) -> None:
    divided = measured(cases, executor)
    assert len(executor._actors) == 2
    assert len({_node_of(actor) for actor in executor._actors}) == 2
    assert all(map(same, measured(cases), divided))


def test_a_killed_actor_and_a_lost_node_change_nothing(
    cases: list[Case], executor: RayExecutor, cluster: Any
) -> None:
    """In this order: the node that stays has room for one actor."""
    import ray

    engine = ReplayEngine(cases, ModelPool("cpu"))
    work = engine._begun(cases[0].texts).work()
    units = len(work.sizes)
    assert units == 4
    work = dataclasses.replace(  # each batch five times
        work, plan=dataclasses.replace(work.plan, batches=work.plan.batches * 5)
    )
    expected = dict(LocalExecutor(engine.models).results(work))
    found: dict[int, Any] = {}
    for unit, result in executor.results(work):
        assert unit not in found
        found[unit] = result
        if len(found) == 3:
            ray.kill(executor._actors[0].handle)
        if len(found) == 10:
            other = next(node for node in cluster.list_all_nodes() if not node.head)
            cluster.remove_node(other)
    assert found.keys() == expected.keys()
    assert all(encoded(found[unit]) == encoded(expected[unit]) for unit in expected)


def test_an_error_of_the_work_is_the_sessions(cases: list[Case], executor: RayExecutor) -> None:
    broken = dataclasses.replace(cases[0], drafter=DraftModelSpec("/nowhere"), label="bad")
    engine = ReplayEngine([broken], ModelPool("cpu"), executor=executor)
    with pytest.raises(RequestError, match="/nowhere"):
        engine.measure(broken)
    nowhere = dataclasses.replace(
        cases[0], texts=dataclasses.replace(cases[0].texts, target="/no/target")
    )
    engine = ReplayEngine([nowhere], ModelPool("cpu"), executor=executor)
    with pytest.raises(MeasurementError, match="/no/target"):
        engine.measure(nowhere)


def _node_of(actor: Any) -> str:
    import ray

    node = actor.handle.__ray_call__.remote(lambda worker: ray.get_runtime_context().get_node_id())
    return str(ray.get(node))
