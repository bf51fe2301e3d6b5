"""The charts of the report as Vega-Lite specifications.

Names from outside stand in data alone, never in an expression. Colours are the CSS variables of
`palette`, so a chart follows the page from light to dark.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .candidates import CurvePoint
from .curves import Picture, Point
from .drawing import Spec
from .palette import SERIES, SHAPES
from .row import ReportRow
from .sides import Side
from .words import Phrases

_BAND = 22
"""Height of a name on a vertical axis."""


def positions(sides: Sequence[Side], name: str, say: Phrases) -> Spec:
    """Survival or conditional acceptance over the draft positions, one curve a side, with
    intervals.
    """
    values = [
        {
            "position": place,
            "value": point.value,
            "low": point.low,
            "high": point.high,
            "side": say(side.name),
            "says": say(
                "chart_position",
                side=say(side.name),
                position=place,
                value=f"{point.value:.3f}",
                low=f"{point.low:.3f}",
                high=f"{point.high:.3f}",
            ),
        }
        for side in sides
        for place, point in enumerate(getattr(side, name), 1)
        if point is not None
    ]
    many = len({value["position"] for value in values}) > 16
    axis = {"title": say("chart_position_axis"), "labelAngle": 0, "labelOverlap": many}
    x = {"field": "position", "type": "ordinal", "axis": axis}
    y = {
        "field": "value",
        "type": "quantitative",
        "scale": {"domain": [0, 1]},
        "axis": {"title": say(f"chart_{name}"), "tickCount": 5},
    }
    return _curves(values, x, y, [say(side.name) for side in sides])


def categories(sides: Sequence[Side], say: Phrases) -> Spec:
    """The acceptance length of each category of prompts, one point a side, with intervals."""
    values = [
        {
            "category": name,
            "value": point.value,
            "low": point.low,
            "high": point.high,
            "side": say(side.name),
            "says": f"{say(side.name)}, {name}: {point.value:.3f} ({point.low:.3f} - "
            f"{point.high:.3f})",
        }
        for side in sides
        for name, point in side.categories.items()
        if point is not None
    ]
    names = [say(side.name) for side in sides]
    y = {
        "field": "category",
        "type": "nominal",
        "sort": None,
        "axis": {"title": None, "grid": True, "labelFontSize": 12},
    }
    offset = {"field": "side", "scale": {"domain": names}}
    x = {
        "field": "value",
        "type": "quantitative",
        "scale": {"zero": False, "nice": True},
        "axis": {"title": say("chart_length")},
    }
    look = _look(names)
    rule = {
        "mark": {"type": "rule", "strokeWidth": 2, "aria": False},
        "encoding": {
            "y": y,
            "yOffset": offset,
            "x": {**x, "field": "low"},
            "x2": {"field": "high"},
            "color": look["color"],
        },
    }
    point = {
        "mark": {"type": "point", "filled": True, "size": 55, "opacity": 1},
        "encoding": {"y": y, "yOffset": offset, "x": x, **look, "description": {"field": "says"}},
    }
    height = 80 + _BAND * len({value["category"] for value in values})
    return {"data": {"values": values}, "height": height, "layer": [rule, point]}


def speedups(picture: Picture, say: Phrases) -> Spec:
    """Speed-up over k, one curve a depth, the best cell ringed, plain decoding dashed."""
    values = [
        {
            "k": point.k,
            "value": point.speedup,
            "low": point.low,
            "high": point.high,
            "side": say("depth", depth=point.depth),
            "best": point.best,
            "says": said(point, say),
        }
        for point in picture.points
    ]
    x = {
        "field": "k",
        "type": "quantitative",
        "scale": {"zero": False, "padding": 12},
        "axis": {"title": say("curves_axis"), "values": picture.ks, "format": "d", "grid": False},
    }
    y = {
        "field": "value",
        "type": "quantitative",
        "scale": {"zero": True},
        "axis": {"title": say("chart_speedup"), "tickCount": 6},
    }
    drawn = _curves(values, x, y, [say("depth", depth=depth) for depth in picture.curves])
    plain = {
        "data": {"values": [{"value": 1.0}]},
        "mark": {"type": "rule", "stroke": "var(--ink)", "strokeDash": [5, 4], "aria": False},
        "encoding": {"y": y},
    }
    ring = {
        "transform": [{"filter": {"field": "best", "equal": True}}],
        "mark": {
            "type": "point",
            "shape": "circle",
            "filled": False,
            "size": 260,
            "stroke": "var(--ink)",
            "strokeWidth": 2,
        },
        "encoding": {"x": x, "y": y, "description": {"field": "says"}},
    }
    return {**drawn, "layer": [plain, *drawn["layer"], ring]}


def said(point: Point, say: Phrases) -> str:
    """A point of a curve of speed-ups in words."""
    speedups = {
        name: f"{value:.3f}"
        for name, value in (("value", point.speedup), ("low", point.low), ("high", point.high))
    }
    return say("curves_point", cell=say("cell", k=point.k, depth=point.depth), **speedups)


def costs(rows: Sequence[ReportRow], say: Phrases) -> Spec:
    """What a round takes, drafting and verifying, beside one pass of the target."""
    values = [
        {
            "cell": say("cell", k=row["k"], depth=row["depth"]),
            "part": say(f"chart_{part}"),
            "order": order,
            "ms": row[part],  # type: ignore[literal-required]
            "says": f"{say('cell', k=row['k'], depth=row['depth'])}, {say(f'chart_{part}')}: "
            f"{row[part]:.2f} ms",  # type: ignore[literal-required]
        }
        for row in rows
        for order, part in enumerate(("draft_ms", "verify_ms"))
    ]
    parts = [say("chart_draft_ms"), say("chart_verify_ms")]
    bars = {
        "mark": {"type": "bar", "stroke": "var(--paper)"},
        "encoding": {
            "y": {"field": "cell", "type": "nominal", "sort": None, "axis": {"title": None}},
            "x": {
                "field": "ms",
                "type": "quantitative",
                "stack": True,
                "axis": {"title": say("chart_ms")},
            },
            "order": {"field": "order", "type": "quantitative"},
            "color": {
                "field": "part",
                "type": "nominal",
                "scale": {"domain": parts, "range": _variables(2)},
                "legend": {"symbolType": "square"},
            },
            "description": {"field": "says"},
        },
    }
    target = {
        "data": {"values": [{"ms": rows[0]["target_ms"]}]},
        "mark": {
            "type": "rule",
            "stroke": "var(--ink)",
            "strokeDash": [5, 4],
            "strokeWidth": 2,
        },
        "encoding": {"x": {"field": "ms", "type": "quantitative"}},
    }
    height = 80 + _BAND * len(rows)
    return {"data": {"values": values}, "height": height, "layer": [bars, target]}


def candidates(points: Sequence[CurvePoint], say: Phrases) -> Spec:
    """Acceptance lengths of candidates in their order, the best ringed, falls as triangles."""
    values = [
        {
            "place": place,
            "name": point.name,
            "value": point.length,
            "low": point.low,
            "high": point.high,
            "best": point.best,
            "says": say("candidates_point", name=point.name, length=f"{point.length:.3f}"),
        }
        for place, point in enumerate(points)
    ]
    x = {
        "field": "name",
        "type": "ordinal",
        "sort": {"field": "place"},
        "axis": {"title": say("candidates_axis"), "labelAngle": -40, "labelOverlap": True},
    }
    y = {
        "field": "value",
        "type": "quantitative",
        "scale": {"zero": False},
        "axis": {"title": say("chart_length")},
    }
    drawn = _curves([{**value, "side": ""} for value in values], x, y, [""])
    ring = {
        "transform": [{"filter": {"field": "best", "equal": True}}],
        "mark": {"type": "point", "filled": False, "size": 260, "stroke": "var(--ink)"},
        "encoding": {"x": x, "y": y, "description": {"field": "says"}},
    }
    return {**drawn, "layer": [*drawn["layer"], ring]}


def _curves(values: list[dict[str, Any]], x: Spec, y: Spec, names: list[str]) -> dict[str, Any]:
    """Curves with points and intervals, a colour and a shape for each name."""
    look = _look(names)
    interval = {
        "mark": {"type": "rule", "strokeWidth": 1.5, "aria": False},
        "encoding": {
            "x": x,
            "y": {**y, "field": "low"},
            "y2": {"field": "high"},
            "color": look["color"],
        },
    }
    line = {
        "mark": {"type": "line", "strokeWidth": 2, "aria": False},
        "encoding": {"x": x, "y": y, "color": look["color"]},
    }
    point = {
        "mark": {"type": "point", "filled": True, "size": 55, "opacity": 1},
        "encoding": {"x": x, "y": y, **look, "description": {"field": "says"}},
    }
    return {"data": {"values": values}, "height": 230, "layer": [interval, line, point]}


def _look(names: list[str]) -> dict[str, Any]:
    """Colour and shape of each name, in one legend; none for a single one."""
    legend = {"legend": None} if len(names) == 1 else {}
    return {
        "color": {
            "field": "side",
            "type": "nominal",
            "scale": {"domain": names, "range": _variables(len(names))},
            **legend,
        },
        "shape": {
            "field": "side",
            "type": "nominal",
            "scale": {
                "domain": names,
                "range": [SHAPES[place % len(SHAPES)] for place in range(len(names))],
            },
            **legend,
        },
    }


def _variables(number: int) -> list[str]:
    """The first colours as CSS variables."""
    return [f"var(--{SERIES[place % len(SERIES)]})" for place in range(number)]
