"""The parts of a divided session, where `merge` hands them over."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from ..engines.part_files import ShardPart


def merged_parts(config: pytest.Config) -> Sequence[ShardPart] | None:
    """All parts of the session; None where it is not divided."""
    module = sys.modules.get("pytest_specdec.engines.shards")
    if module is None:  # nobody can have handed any over
        return None
    plugins = config.pluginmanager.get_plugins()
    return next(
        (plugin.parts for plugin in plugins if isinstance(plugin, module.MergedParts)), None
    )
