"""A session's work divided among actors of a Ray cluster, each with models of its own.

Ray places the actors and moves the results. An actor that dies, or whose node does, is replaced,
and what it had begun is done again: units do not depend on where they are computed, so nothing else
changes.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

from ..common.errors import MeasurementError, RequestError, SpecdecError
from .executor import ResultT, Work, WorkProgress
from .models import ModelPool

LOCAL = "local"
"""In the place of an address: a cluster of this machine alone, for this session."""
MOST_ATTEMPTS = 3
"""How often a unit is begun before its failure is the session's."""
IN_FLIGHT = 2
"""Units that an actor has at once: one that it computes, and the next one."""
PATIENCE = 600.0
"""Seconds for which no actor at all may be ready."""


@dataclasses.dataclass(frozen=True)
class Refused:
    """An error of ours in the place of a result."""

    message: str


class Worker:
    """What an actor runs: it holds models, and the work that it has opened last."""

    def __init__(self, make_models: Callable[[], ModelPool]) -> None:
        self._models = make_models()
        self._name: str | None = None
        self._compute: Callable[[int], Any] | None = None

    def ready(self) -> None:
        """Answers once the actor has started."""

    def run(self, name: str, held: list[Any], unit: int) -> Any:
        """A unit's result, or `Refused`; `held` has a reference to the work in Ray's store."""
        import ray

        try:
            if name != self._name or self._compute is None:
                self._name, self._compute = name, ray.get(held[0]).opened(self._models, ())
            return self._compute(unit)
        except SpecdecError as error:
            self._name = None
            return Refused(str(error))


@dataclasses.dataclass(eq=False)
class Actor:
    """An actor and what it is doing."""

    handle: Any
    group: Any
    """Its placement group."""
    starting: Any
    """The answer that it is ready; None once it has come."""
    units: dict[Any, int] = dataclasses.field(default_factory=dict)
    """What it was given, by the reference of the result."""


class RayExecutor:
    """Units are handed to actors as these become free, and results taken as they come."""

    def __init__(
        self,
        models: ModelPool,
        make_models: Callable[[], ModelPool],
        address: str,
        *,
        gpus: int | None = None,
        cpus: int = 1,
    ) -> None:
        """Each actor makes its models by `make_models` and has so many CPUs, which are its threads,
        and GPUs; None is one GPU where the cluster has any. WorkProgress goes to the session's
        `models`.
        """
        self._models, self._make_models, self._address = models, make_models, address
        self._gpus, self._cpus = gpus, cpus
        self._actors: list[Actor] = []
        self._failed_starts = 0
        """In a row."""

    def results(self, work: Work[ResultT]) -> Iterator[tuple[int, ResultT]]:
        """In the order in which they come. Raises SpecdecError as the work does, and where no actor
        can be placed or a unit's actor dies again and again.
        """
        import ray

        total = len(work.sizes)
        self._start(min(total, self._capacity))
        name, held = work.name, [ray.put(work)]
        waiting = collections.deque(range(total))
        attempts: collections.Counter[int] = collections.Counter()
        progress = WorkProgress(self._models, work, sum(work.sizes))
        done = 0
        while done < total:
            for actor in self._actors:
                while waiting and actor.starting is None and len(actor.units) < IN_FLIGHT:
                    given = waiting.popleft()
                    attempts[given] += 1
                    actor.units[actor.handle.run.remote(name, held, given)] = given
            for actor, unit, result in self._finished():
                if result is None or unit is None:
                    lost = [*actor.units.values(), *([] if unit is None else [unit])]
                    self._check_attempts(work.label, lost, attempts)
                    waiting.extendleft(sorted(lost, reverse=True))
                    self._replace(actor)
                    break  # the others' results are asked for again
                if isinstance(result, Refused):
                    raise MeasurementError(result.message)
                done += 1
                progress.add(work.sizes[unit])
                yield unit, result

    @functools.cached_property
    def _capacity(self) -> int:
        """Actors that the cluster has room for. Raises RequestError where that is none."""
        import ray

        self._connect()
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        if self._gpus is None:
            self._gpus = int(any(node.get("GPU", 0) >= 1 for node in nodes))
        room = sum(
            int(
                min(
                    node.get("CPU", 0) // self._cpus,
                    node.get("GPU", 0) // self._gpus if self._gpus else node.get("CPU", 0),
                )
            )
            for node in nodes
        )
        if not room:
            raise RequestError(
                f"no node of the Ray cluster has {self._cpus} CPUs and {self._gpus} GPUs for an "
                "actor; lower --specdec-ray-gpus, or --specdec-ray-cpus"
            )
        return room

    def _connect(self) -> None:
        """Join the cluster. Raises RequestError where there is none."""
        import ray

        if ray.is_initialized():
            return
        address = None if self._address == LOCAL else self._address
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a project may turn warnings of others into errors
            try:
                ray.init(
                    address="local" if address is None else address,
                    log_to_driver=False,
                    logging_level="ERROR",
                    **({"include_dashboard": False} if address is None else {}),
                )
            except (ConnectionError, ValueError, RuntimeError) as error:
                raise RequestError(
                    f"there is no Ray cluster at {self._address} "
                    f"({str(error).splitlines()[0][:200]}); check --specdec-ray"
                ) from None

    def _start(self, wanted: int) -> None:
        """Have so many actors."""
        while len(self._actors) < wanted:
            self._actors.append(self._new_actor())

    def _new_actor(self) -> Actor:
        import ray
        from ray.util.placement_group import placement_group
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        resources: dict[str, float] = {"CPU": self._cpus}
        if self._gpus:
            resources["GPU"] = self._gpus
        group = placement_group([resources], strategy="PACK")  # all GPUs of an actor on one node
        remote = ray.remote(num_cpus=self._cpus, num_gpus=self._gpus or 0, max_restarts=0)(Worker)
        handle = remote.options(
            scheduling_strategy=PlacementGroupSchedulingStrategy(placement_group=group)
        ).remote(self._make_models)
        return Actor(handle, group, handle.ready.remote())

    def _finished(self) -> Iterator[tuple[Actor, int | None, Any]]:
        """Wait, then what came: actor, unit and result; None for a result where the actor died,
        and for a unit where it died before it had begun one.
        """
        import ray

        asked = {ref: (actor, unit) for actor in self._actors for ref, unit in actor.units.items()}
        starting = {actor.starting: actor for actor in self._actors if actor.starting is not None}
        begun = time.monotonic()
        ready: list[Any] = []
        while not ready:
            ready, _ = ray.wait([*asked, *starting], num_returns=1, timeout=10.0)
            if not asked and not ready and time.monotonic() - begun > PATIENCE:
                raise MeasurementError(
                    f"no actor could be placed on the Ray cluster for {PATIENCE:.0f} s; free "
                    "resources, or add nodes"
                )
        for ref in ready:
            actor, unit = asked.get(ref, (starting.get(ref), None))
            assert actor is not None
            try:
                result = ray.get(ref)
            except ray.exceptions.RayTaskError as error:
                raise MeasurementError(
                    f"an actor failed: {str(error).strip().splitlines()[-1][:300]}; run without "
                    "--specdec-ray to see where"
                ) from None
            except ray.exceptions.RayError:  # the actor, its node or its result is gone
                actor.units.pop(ref, None)
                yield actor, unit, None
                return
            if unit is None:
                actor.starting, self._failed_starts = None, 0
            else:
                del actor.units[ref]
                yield actor, unit, result

    def close(self) -> None:
        """Free what the actors hold; the end of the process does it, too."""
        while self._actors:
            self._drop(self._actors[0])

    def _replace(self, actor: Actor) -> None:
        """Start another actor in the place of one that died."""
        self._drop(actor)
        self._actors.append(self._new_actor())

    def _drop(self, actor: Actor) -> None:
        import ray
        from ray.util.placement_group import remove_placement_group

        self._actors.remove(actor)
        ray.kill(actor.handle)
        remove_placement_group(actor.group)

    def _check_attempts(
        self, label: str, lost: list[int], attempts: collections.Counter[int]
    ) -> None:
        """Raises MeasurementError for a unit whose actors died too often, and where no actor
        starts.
        """
        self._failed_starts += not lost
        worst = max(lost, key=lambda unit: attempts[unit], default=None)
        if worst is not None and attempts[worst] >= MOST_ATTEMPTS:
            raise MeasurementError(
                f"{label}: {MOST_ATTEMPTS} actors died in batch {worst}; look for what kills them, "
                "memory above all"
            )
        if self._failed_starts > MOST_ATTEMPTS * len(self._actors):
            raise MeasurementError(
                "actors die as they start; look into Ray's logs, and check that this package is "
                "installed on every node"
            )
