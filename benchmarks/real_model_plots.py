"""The picture of docs/real-model.md, from the rows of `real_model.py`.

    python benchmarks/real_model.py page benchmarks/results/real-*.json

Needs matplotlib (`pip install '.[plots]'`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")
"""Of Okabe and Ito, which colour-blind people can tell apart."""
MARKERS = ("o", "s", "^", "D")


def write_picture(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Four panels: acceptance by position, by category, by length of the context, and speed by k.

    Raises SystemExit without matplotlib.
    """
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ImportError:
        raise SystemExit("the picture needs matplotlib; run: pip install '.[plots]'") from None
    mpl.rcParams.update({"svg.hashsalt": "real-model", "svg.fonttype": "none", "font.size": 9})
    figure = Figure(figsize=(9.6, 7.2), layout="constrained")
    positions, categories, stretches, speeds = figure.subplots(2, 2).flat
    _by_position(positions, [row for row in rows if row["what"] == "positions"])
    _by_category(categories, rows)
    _by_stretch(stretches, [row for row in rows if row["what"] == "stretch"])
    _by_k(speeds, [row for row in rows if row["what"] == "speed"])
    figure.savefig(path, format="svg", metadata={"Date": None})


def _names(rows: Sequence[dict[str, Any]]) -> list[str]:
    return list(dict.fromkeys(row["drafter"] for row in rows))


def _by_position(axes: Any, rows: Sequence[dict[str, Any]]) -> None:
    for number, name in enumerate(_names(rows)):
        for row in rows:
            if row["drafter"] == name and row["temperature"] in (0, 1):
                greedy = row["temperature"] == 0
                axes.plot(
                    range(1, len(row["conditional"]) + 1),
                    row["conditional"],
                    color=COLOURS[number],
                    marker=MARKERS[number],
                    linestyle="-" if greedy else ":",
                    label=f"{name}, T = {row['temperature']:g}",
                )
    axes.set(
        title="Acceptance by draft position",
        xlabel="position",
        ylabel="conditional acceptance",
        ylim=(0, 1.4),
    )
    axes.legend(fontsize=7, ncols=2, loc="upper center")


def _by_category(axes: Any, rows: Sequence[dict[str, Any]]) -> None:
    greedy = [row for row in rows if row["what"] == "positions" and row["temperature"] == 0]
    names = _names(greedy)
    for number, row in enumerate(greedy):
        values = [shares[0] for shares in row["categories"].values()]
        at = [place + (number - (len(names) - 1) / 2) * 0.25 for place in range(len(values))]
        axes.bar(at, values, 0.25, color=COLOURS[number], label=row["drafter"])
        axes.set_xticks(range(len(values)), row["categories"], rotation=35, ha="right")
    axes.set(title="First draft, T = 0, by category", ylabel="conditional acceptance", ylim=(0, 1))
    axes.legend(fontsize=7)


def _by_stretch(axes: Any, rows: Sequence[dict[str, Any]]) -> None:
    for number, name in enumerate(_names(rows)):
        own = [row for row in rows if row["drafter"] == name]
        axes.plot(
            [row["begin"] for row in own],
            [row["length"] for row in own],
            color=COLOURS[number],
            marker=MARKERS[number],
            label=name,
        )
    axes.set(
        title="By length of the answer so far (k = 4, T = 0)",
        xlabel="tokens before",
        ylabel="acceptance length",
        ylim=(1, None),
    )
    axes.legend(fontsize=7)


def _by_k(axes: Any, rows: Sequence[dict[str, Any]]) -> None:
    for number, name in enumerate(_names(rows)):
        own = [row for row in rows if row["drafter"] == name]
        ks = [row["k"] for row in own]
        style = {"color": COLOURS[number], "marker": MARKERS[number]}
        axes.plot(ks, [row["ratio"] for row in own], label=f"{name}, measured", **style)
        theory = [row.get("theory") for row in own]
        if all(theory):
            axes.plot(ks, theory, linestyle=":", label=f"{name}, theory", **style)
    axes.axhline(1, color="0.5", linewidth=0.8)
    axes.set_xticks(sorted({row["k"] for row in rows}))
    axes.set(title="Speed by k, batch 1, T = 0", xlabel="k", ylabel="times plain decoding")
    axes.legend(fontsize=7)
