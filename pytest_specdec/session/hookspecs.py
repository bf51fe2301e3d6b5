"""The hooks that a conftest.py or another plugin may implement."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from ..cases.case import Case
    from ..report.attachments import Attachment


@pytest.hookspec
def pytest_specdec_attachments(item: pytest.Item, case: Case) -> Sequence[Attachment] | None:
    """Return what the .html report is to show with a case.

    Called in a session that writes an .html report, after each test of a case of which the run or
    the texts were asked for, whatever the test's outcome. The case's attachments from all tests and
    implementations are shown in one section; a section that several cases share is shown once.

    :param item: the test; a fixture can leave data for the hook in `request.node.stash`, which
        is `item.stash` here
    :param case: the case under test
    :returns: attachments, or None for none
    """
