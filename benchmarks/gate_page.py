"""The page of the gate's promises, from what gate_proof.py printed.

python benchmarks/gate_page.py benchmarks/results/gate-*.json > docs/proof.md
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from scipy import stats

MODES = {"counted": "counted by a decoder", "replayed": "replayed", "nightly": "accumulated"}


def page(found: dict[str, list[dict[str, Any]]]) -> Iterator[str]:
    """Lines of Markdown."""
    yield "# The gate's promises, shown"
    yield ""
    yield (
        "Made by `make proof` from simulated sessions (`benchmarks/simulation.py`): prompts differ "
        "in acceptance with heavy"
    )
    yield (
        "tails, a prompt's acceptance wanders from one text to the next with heavier ones, and "
        "rounds come in whole numbers"
    )
    yield (
        "from a decoder or as expectations from replay. Every gate is judged by "
        "`pytest_specdec.gate`, the code of every run."
    )
    yield "[gate.md](gate.md) says what the gate does."
    yield ""
    yield from _level(found["level"])
    yield from _sessions(found["session level"][0], found["session power"][0])
    yield from _regimes(found["regime level"])
    yield from _promises(found["power"][0])
    yield from _rules(found["power"][0])
    yield from _evidence(found["evidence"][0])


def _table(headers: list[str], rows: list[list[str]]) -> Iterator[str]:
    for row in (headers, ["---"] * len(headers), *rows):
        yield f"| {' | '.join(row)} |"
    yield ""


def _level(rows: list[dict[str, Any]]) -> Iterator[str]:
    yield "## False alarms: sessions in which nothing changed"
    yield ""
    yield (
        "A session fails where any of its gates says `regressed`; alpha is 1 % a session, the "
        "margin 0.5 %. "
        "*Accumulated* sessions judge every"
    )
    yield "gate after each of several nights and fail where it ever does."
    yield ""
    cells = []
    for row in rows:
        interval = stats.binomtest(row["failed"], row["sessions"]).proportion_ci(method="exact")
        cells.append(
            [
                MODES[row["mode"]],
                str(row["sessions"]),
                str(row["gates"]),
                str(row["prompts"]),
                str(row["nights"]),
                str(row["failed"]),
                f"{row['share']:.2%}",
                f"{interval.low:.2%} to {interval.high:.2%}",
            ]
        )
    yield from _table(
        ["mode", "sessions", "gates each", "prompts", "nights", "failed", "share", "95 % interval"],
        cells,
    )


def _sessions(level: dict[str, Any], power: dict[str, Any]) -> Iterator[str]:
    (row,) = level["rows"]
    interval = stats.binomtest(row["failed"]["together"], row["sessions"]).proportion_ci(
        method="exact"
    )
    yield "## One test for the cases of a session"
    yield ""
    yield f"The {row['cells']} cases of the text suite's draft model (4 k x 4 depths x 2 temperatures)"
    yield "vary together: a run's cases share its texts. `benchmarks/text_grid.py` measured them in 20"
    yield "runs with texts of their own; a simulated session takes two of the runs at random for each"
    yield f"prompt, so nothing changed. Of {row['sessions']} such sessions {row['failed']['together']}"
    yield f"failed: {row['failed']['together'] / row['sessions']:.2%}"
    yield f"({interval.low:.2%} to {interval.high:.2%}) at alpha = {level['alpha']:.0%}."
    yield ""
    yield "With a change in the second run, the share of sessions that fail and of the changed cases"
    yield "that are named: by the gate's max-test, by Bonferroni's inequality (alpha / cells for each),"
    yield "and by the step-down test of the smallest p-value, which takes as many times more labellings"
    yield "as there are cells."
    yield ""
    rules = list(power["rows"][0]["failed"])
    rows = []
    for row in power["rows"]:
        of = {"failed": row["sessions"], "named": row["sessions"] * row["changed"]}
        shares = [f"{row[what][rule] / of[what]:.1%}" for what in of for rule in rules]
        rows.append([row["change"], *shares])
    names = {"together": "max-test"}
    headers = [f"{what}, {names.get(rule, rule)}" for what in ("failed", "named") for rule in rules]
    yield from _table(["fewer accepted tokens in", *headers], rows)


def _regimes(rows: list[dict[str, Any]]) -> Iterator[str]:
    yield "## Changed weights that change nothing on average"
    yield ""
    yield "Noise of 2 % on the weights moves every prompt's acceptance; today's accepted tokens are then"
    yield "rescaled until the acceptance length of all prompts is the baseline's. A session is the text"
    yield "suite's 32 cases with prompts drawn anew (`benchmarks/regime_level.py`). At the default margin"
    yield "nearly nothing can fail; at the small one only the bound over prompts keeps the promise of"
    yield "1 %. `improved` has an alpha of its own."
    yield ""
    outcomes = ("regressed", "improved", "inconclusive")
    cells = [
        [
            f"{row['regime']} changed",
            f"{100 * row['margin']:g} %",
            str(row["sessions"]),
            *(f"{row[outcome] / row['sessions']:.2%}" for outcome in outcomes),
        ]
        for row in rows
    ]
    yield from _table(["regime", "margin", "sessions", *outcomes], cells)
    yield "A share is that of the sessions in which at least one case says so. Greedy cases with k of 8"
    yield "and more are what 40 prompts cannot decide after so large a change of the target: their"
    yield "smallest detectable drop is 2 to 4 % there, and 0.2 to 1.2 % at temperature 1."
    yield ""


def _promises(power: dict[str, Any]) -> Iterator[str]:
    yield "## Power: the printed smallest detectable drop"
    yield ""
    yield (
        "A gate prints a smallest detectable drop where nothing changed; then just that drop "
        "happens. At least 80 % must fail."
    )
    yield (
        "More do: the promise is made for a loss that shows in the length alone, and one that "
        "shows at every position, as this"
    )
    yield (
        "one, is seen more easily. Where the prompts can promise nothing (a total collapse might "
        "pass for chance) the gate says"
    )
    yield "so and is left out."
    yield ""
    rows = [
        [
            MODES[row["mode"]],
            str(row["gates"]),
            str(row["prompts"]),
            f"{row['promised']} of {row['runs']}",
            f"{row['failed'] / row['promised']:.1%}" if row["promised"] else "-",
        ]
        for row in power["promises"]
    ]
    yield from _table(
        ["mode", "gates in the session", "prompts", "promised", "failed at the promised drop"], rows
    )


def _rules(power: dict[str, Any]) -> Iterator[str]:
    yield "## Beside the field's rules, on the same data"
    yield ""
    yield (
        "Two counted runs of 80 prompts, the second with a true drop of the acceptance length: the "
        "share of comparisons that"
    )
    yield (
        "fail. vLLM's rule fails where the lengths differ by more than 5 %; SGLang's retries, and "
        "fails where the best of three"
    )
    yield (
        "runs is below 95 % of the reference. Short texts have 128 tokens and wander much, long "
        "ones 2,048 and wander little."
    )
    yield ""
    names = list(power["rules"][0]["shares"])
    rows = [
        [row["texts"], f"{row['drop']:.0%}", *(f"{row['shares'][name]:.1%}" for name in names)]
        for row in power["rules"]
    ]
    yield from _table(["texts", "true drop", *names], rows)


def _evidence(evidence: dict[str, Any]) -> Iterator[str]:
    yield "## Evidence over nights"
    yield ""
    yield ("A lasting drop, one gate: nights until `--specdec-accumulate` fails, within ten.")
    yield ""
    rows = []
    for row in evidence["rows"]:
        seen = [nights for nights in row["nights"] if nights <= 10]
        middle = (
            f"{statistics.median(row['nights']):g}"
            if len(seen) * 2 > row["runs"]
            else "more than 10"
        )
        rows.append(
            [
                row["texts"],
                str(row["prompts"]),
                str(row["repeats"]),
                str(row["quiet"]),
                f"{row['drop']:.0%}",
                f"{len(seen) / row['runs']:.0%}",
                middle,
            ]
        )
    before = ["runs in the baseline", "unchanged nights before"]
    yield from _table(["texts", "prompts", *before, "true drop", "found", "nights, median"], rows)


def main() -> None:
    found: dict[str, list[dict[str, Any]]] = {}
    for name in sys.argv[1:]:
        for line in Path(name).read_text(encoding="utf-8").splitlines():
            one = json.loads(line)
            found.setdefault(one["what"], []).append(one)
    found["level"].sort(key=lambda row: list(MODES).index(row["mode"]))
    print("\n".join(page(found)).rstrip())


if __name__ == "__main__":
    main()
