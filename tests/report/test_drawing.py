"""Charts as elements of a page: named, without addresses, with tooltips, and drawn to scale."""

from __future__ import annotations

import re
import sys
from typing import Any

import pytest
from helpers.report_rows import needs_plots
from report.test_curves import GRID

from pytest_specdec.report import charts, drawing
from pytest_specdec.report.curves import pictures
from pytest_specdec.report.drawing import Drawer, inlined
from pytest_specdec.report.words import Phrases

SVG = (
    '<svg xmlns="http://www.w3.org/2000/svg" version="1.1" class="marks" width="10" height="20" '
    'viewBox="0 0 10 20"><path aria-label="k: &lt;4&gt;" role="graphics-symbol" d="M0,0"/>'
    '<path d="M1,1"/></svg>'
)


def test_an_element_has_a_name_tooltips_and_no_address() -> None:
    assert inlined(SVG, 'a "name" <b>') == (
        '<svg role="img" aria-label="a &#34;name&#34; &lt;b&gt;" class="chart" width="10" '
        'height="20" viewBox="0 0 10 20"><path d="M0,0">'
        '<title>k: &lt;4&gt;</title></path><path d="M1,1"/></svg>'
    )


def test_without_the_extra_nothing_is_drawn_and_the_cure_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "vl_convert", None)
    draw = Drawer()
    assert draw({}, "title") == ""
    assert draw.missing == "vl_convert is not installed; pip install 'pytest-specdec[plots]'"


@needs_plots
def test_beyond_the_limit_charts_are_counted_and_not_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drawing, "MOST", 0)
    draw = Drawer()
    assert (draw({}, "title"), draw.left_out) == ("", 1)


@needs_plots
def test_points_lie_where_their_numbers_say() -> None:
    (picture,) = pictures(GRID)
    spec: Any = charts.speedups(picture, Phrases("en"))
    text = Drawer()(spec, "title")
    places = {
        (float(x), float(y)): words
        for x, y, words in re.findall(
            r'<path transform="translate\(([\d.]+),([\d.]+)\)"[^>]*><title>([^<]+)<',
            text,
        )
    }
    points = {words.split("x (")[0]: place for place, words in places.items()}
    assert points.keys() == {
        f"k={point.k}, MTP={point.depth}: {point.speedup:.3f}" for point in picture.points
    }
    height = {words: y for words, (_, y) in points.items()}
    slope = (height["k=4, MTP=0: 1.200"] - height["k=8, MTP=0: 1.500"]) / 0.3
    assert slope > 0
    assert height["k=4, MTP=0: 1.200"] - height["k=4, MTP=3: 1.800"] == pytest.approx(
        0.6 * slope, rel=1e-3
    )
    assert points["k=4, MTP=0: 1.200"][0] == points["k=4, MTP=3: 1.800"][0]
    assert "var(--series-1)" in text
    assert "#" not in re.sub(r"&#?\w+;", "", text)
