"""Pages are rendered without charts, which take most of the time, unless a test asks for them."""

from __future__ import annotations

import pytest

from pytest_specdec.report import drawing


@pytest.fixture(autouse=True)
def _undrawn(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.node.get_closest_marker("skipif") is None:  # `needs_plots`
        monkeypatch.setattr(drawing, "MOST", 0)
