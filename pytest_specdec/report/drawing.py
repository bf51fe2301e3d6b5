"""Vega-Lite charts as static SVG: drawn here, without a browser, a script or a request."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ..common.errors import naming_extras

Spec = Mapping[str, Any]
MOST = 240
"""Most charts of a report: each takes some 10 kB and some 50 ms."""
_WIDTH = 336
"""Of a chart with its axes, in CSS pixels: what a telephone shows without shrinking it."""
_CONFIG: Spec = {
    "background": None,
    "font": "Arial, Helvetica, sans-serif",
    "view": {"stroke": None},
    "axis": {
        "labelColor": "var(--muted)",
        "titleColor": "var(--ink)",
        "gridColor": "var(--line)",
        "domainColor": "var(--line)",
        "tickColor": "var(--line)",
        "labelFontSize": 11,
        "titleFontSize": 12,
        "titleFontWeight": "normal",
        "labelLimit": 110,
        "aria": False,
        "titlePadding": 8,
    },
    "legend": {
        "labelColor": "var(--ink)",
        "labelFontSize": 12,
        "labelLimit": 130,
        "aria": False,
        "columns": 2,
        "columnPadding": 26,
        "orient": "top",
        "title": None,
    },
}
_ROOT = re.compile(r"^<svg\b[^>]*?(width=\"[\d.]+\") (height=\"[\d.]+\") (viewBox=\"[^\"]*\")>")
_MARK = re.compile(r"<(path|line|text|rect)\b([^>]*?) aria-label=\"([^\"]*)\"([^>]*)/>")
"""A mark with words of its own; Vega escapes `<`, `>` and quotes in attributes."""

_ROLES = re.compile(r' (?:role|class|pointer-events|aria-\w+)="[^"]*"')
"""What a picture with a name does not need in its parts."""


class Drawer:
    """Draws the charts of one report. Without the extra `plots` it draws none, and `missing` says
    what to install.
    """

    def __init__(self) -> None:
        self.missing = ""
        self.left_out = 0
        self._drawn = 0
        try:
            with naming_extras():
                import vl_convert
        except ImportError as error:  # also one that cannot be loaded here
            self.missing = str(error)
        else:
            self._convert = vl_convert.vegalite_to_svg

    def __call__(self, spec: Spec, title: str) -> str:
        """A chart as an SVG element whose name is `title`; empty where it is not drawn."""
        if self.missing:
            return ""
        if self._drawn >= MOST:
            self.left_out += 1
            return ""
        self._drawn += 1
        whole = {
            "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
            "width": _WIDTH,
            "autosize": {"type": "fit", "contains": "padding"},
            "padding": 2,
            **spec,
            "config": _CONFIG,
        }
        return inlined(self._convert(whole, allowed_base_urls=[]), title)


def inlined(svg: str, title: str) -> str:
    """An SVG document as an element of a page: named, without addresses of namespaces, and with
    the words of each mark as its tooltip.
    """
    from markupsafe import escape

    named, found = _ROOT.subn(
        lambda root: (
            f'<svg role="img" aria-label="{escape(title)}" class="chart" '
            f"{root[1]} {root[2]} {root[3]}>"
        ),
        svg,
    )
    assert found == 1, svg[:200]
    titled = _MARK.sub(r"<\1\2\4><title>\3</title></\1>", named)
    root, rest = titled.split(">", 1)
    return f"{root}>{_ROLES.sub('', rest)}"
