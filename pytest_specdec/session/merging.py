"""The parts of a divided session, where `merge` hands them over."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import pytest

from ..common.errors import RequestError
from ..config.dividing import RAY, SHARD
from ..config.settings import Settings

if TYPE_CHECKING:
    from ..engines.part_files import ShardPart


def check_not_distributed(config: pytest.Config, settings: Settings) -> None:
    """Refuse xdist's workers where the session is divided already: they would neither know the
    parts nor share the work. Raises RequestError.
    """
    if getattr(config.option, "dist", "no") == "no":
        return
    options = [option for option in (SHARD, RAY) if settings.command_line[option] is not None]
    ways = [option.flag for option in options] + ["merge"] * (merged_parts(config) is not None)
    if ways:
        raise RequestError(
            f"{ways[0]} divides the session already; run it without -n, in PYTEST_ADDOPTS and "
            "addopts, too"
        )


def merged_parts(config: pytest.Config) -> Sequence[ShardPart] | None:
    """All parts of the session; None where it is not divided."""
    module = sys.modules.get("pytest_specdec.engines.shards")
    if module is None:  # nobody can have handed any over
        return None
    plugins = config.pluginmanager.get_plugins()
    return next(
        (plugin.parts for plugin in plugins if isinstance(plugin, module.MergedParts)), None
    )
