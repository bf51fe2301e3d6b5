"""Collect what the hook `pytest_specdec_attachments` returns for a test."""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING

from ..common.errors import SpecdecError
from ..common.printable import printable

if TYPE_CHECKING:
    import pytest

    from ..cases.case import Case
    from ..report.row import AttachmentRow

HOOK = "pytest_specdec_attachments"


def attachments_of(item: pytest.Item, case: Case, report: pytest.TestReport) -> list[AttachmentRow]:
    """The attachments of a case. An invalid attachment, or an implementation that raises, fails
    the test; a test that failed already keeps its own message.
    """
    from ..report.attachments import attachment_rows

    try:
        results = getattr(item.ihook, HOOK)(item=item, case=case)
        return attachment_rows(attachment for result in reversed(results) for attachment in result)
    except SpecdecError as error:
        problem = f"{HOOK} of {case.id}: {error}"
    except Exception:
        problem = f"{HOOK} of {case.id} raised:\n{traceback.format_exc()}"
    message = printable(problem, keep="\n")
    if report.passed:
        report.outcome = "failed"
        report.longrepr = message
    else:
        report.sections.append((HOOK, message))
    return []
