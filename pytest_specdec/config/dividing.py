"""Options by which a run is divided among processes, or fits one that is smaller than its models:
further rows of `options`' table.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from .option_type import Option
from .parsers import file_path, ray_address, shard, switch, whole_number

if TYPE_CHECKING:
    from ..cases.shard import Shard

SHARD: Option[Shard | None] = Option(
    name="shard",
    parser=shard(),
    metavar="I/N",
    help="Measure one of N shares of the work and write a part; `merge` judges all parts",
    default=None,
    ini=False,
)
PART = Option[Path | None](
    name="part",
    parser=file_path,
    help="Where a shard writes its part",
    default=None,
    default_words=".specdec/shards/I-of-N.part",
)
RAY = Option[str | None](
    name="ray",
    parser=ray_address,
    metavar="ADDRESS",
    help="Divide the work among actors of a Ray cluster: its address, or local for this machine",
    default=None,
    ini=False,
)
RAY_CPUS = Option[int](
    name="ray-cpus",
    parser=whole_number(1, 1024),
    help="CPUs of one actor, which are its threads",
    default=1,
)
RAY_GPUS = Option[int | None](
    name="ray-gpus",
    parser=whole_number(0, 64),
    help="GPUs of one actor; 1 where the cluster has any",
    default=None,
)
OFFLOAD = Option[bool](
    name="offload",
    parser=switch,
    help="Leave weights in their files and read each layer when it runs, for large models",
    default=False,
)

DIVIDING: tuple[Option[Any], ...] = (SHARD, PART, RAY, RAY_CPUS, RAY_GPUS, OFFLOAD)
