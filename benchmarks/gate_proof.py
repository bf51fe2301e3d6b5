"""The gate's promises, shown: false alarms of unchanged sessions, and failures at the printed
smallest drop.

    python benchmarks/gate_proof.py level counted --sessions 10000
    python benchmarks/gate_proof.py power

Each prints one JSON line; `make proof` runs all and writes docs/proof.md.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import Any

import numpy as np
from simulation import (
    ALPHA,
    K,
    Prompts,
    nightly,
    session,
    sides,
    unchanged_gates,
    unchanged_session,
)

MODES = ("counted", "replayed", "nightly")
GATES, NIGHTS = 16, 3
PROMPTS = {"counted": 80, "replayed": 40, "nightly": 40}
_BLOCK = 50
"""Sessions that share a random stream, so that any number of processes plays the same ones."""


def block_of_unchanged(mode: str, block: int) -> list[list[str]]:
    rng = np.random.default_rng([MODES.index(mode), block])
    return [
        unchanged_session(rng, mode, gates=GATES, prompts=PROMPTS[mode], nights=NIGHTS)
        for _ in range(_BLOCK)
    ]


def level(mode: str, sessions: int, jobs: int) -> dict[str, Any]:
    """Sessions of 16 gates in which nothing changed; a session fails where any gate says
    `regressed`.
    """
    with ProcessPoolExecutor(jobs) as pool:
        blocks = pool.map(partial(block_of_unchanged, mode), range(sessions // _BLOCK))
        played = [session for block in blocks for session in block]
    outcomes = Counter(outcome for session in played for outcome in session)
    failed = sum("regressed" in session for session in played)
    return {
        "what": "level",
        "mode": mode,
        "sessions": len(played),
        "gates": GATES,
        "prompts": PROMPTS[mode],
        "nights": NIGHTS if mode == "nightly" else 1,
        "failed": failed,
        "share": failed / len(played),
        "outcomes": dict(outcomes),
    }


def power_at_promise(mode: str, gates: int, prompts: int, seed: int) -> bool | None:
    """Print a smallest detectable drop for a gate where nothing changed; let just that drop happen;
    does the gate fail? Nothing changed in the session's other gates.
    """
    rng = np.random.default_rng([MODES.index(mode), gates, prompts, seed])
    drawn = Prompts.drawn(rng, prompts)
    before, again = drawn.run(rng, mode), drawn.run(rng, mode)
    others = unchanged_gates(rng, mode, gates=gates - 1, prompts=prompts)
    printed = session([sides(before, again), *others], 1)[0].smallest_detectable_drop
    if printed is None or printed >= 1 - 1 / drawn.length(0.0):
        # Nothing was promised, or more than these prompts, seen over many texts, have to lose.
        return None
    now = drawn.run(rng, mode, drawn.loss_for(printed))
    return session([sides(before, now), *others], 1)[0].outcome == "regressed"


TEXTS = {
    "short texts": {"tokens": 128, "wander": 0.3},
    "long texts": {"tokens": 2048, "wander": 0.05},
}


def beside(texts: str, drop: float, seed: int) -> dict[str, bool]:
    """One comparison of two counted runs of 80 prompts, judged by the field's rules and by the
    gate.
    """
    rng = np.random.default_rng([len(texts), int(drop * 1e4), seed])
    own = Prompts.drawn(rng, PROMPTS["counted"], **TEXTS[texts])
    loss = own.loss_for(drop)
    before = own.run(rng, "counted")
    tries = [own.run(rng, "counted", loss) for _ in range(3)]
    kept = [now.acceptance_length / before.acceptance_length for now in tries]
    judged = sides(before, tries[0])
    others = unchanged_gates(rng, "counted", gates=GATES - 1, prompts=PROMPTS["counted"])
    return {
        "gate, alone": session([judged])[0].outcome == "regressed",
        "gate, one of 16": session([judged, *others], 1)[0].outcome == "regressed",
        "within 5 % (vLLM)": abs(kept[0] - 1) > 0.05,
        "best of 3 above 95 % (SGLang)": max(kept) < 0.95,
    }


def power(runs: int, jobs: int) -> dict[str, Any]:
    """Failures at the printed smallest drop, and beside other rules at given drops."""
    with ProcessPoolExecutor(jobs) as pool:
        promises = []
        for mode in ("counted", "replayed"):
            for gates, prompts in ((1, 12), (1, 40), (1, 80), (16, 24), (16, 80), (16, 200)):
                found = list(
                    pool.map(
                        partial(power_at_promise, mode, gates, prompts), range(runs), chunksize=20
                    )
                )
                kept = [failed for failed in found if failed is not None]
                promises.append(
                    {
                        "mode": mode,
                        "gates": gates,
                        "prompts": prompts,
                        "promised": len(kept),
                        "failed": sum(kept),
                        "runs": runs,
                    }
                )
        rules = []
        for texts, drops in (
            ("short texts", (0.0, 0.02, 0.05, 0.1, 0.15)),
            ("long texts", (0.0, 0.01, 0.02, 0.03, 0.05)),
        ):
            for drop in drops:
                said = list(pool.map(partial(beside, texts, drop), range(runs), chunksize=20))
                shares = {rule: sum(one[rule] for one in said) / runs for rule in said[0]}
                rules.append({"texts": texts, "drop": drop, "shares": shares})
    return {"what": "power", "k": K, "alpha": ALPHA, "promises": promises, "rules": rules}


def evidence(runs: int, jobs: int) -> dict[str, Any]:
    """Runs until a lasting change is found by accumulating, after none or ten unchanged ones."""
    rows = []
    with ProcessPoolExecutor(jobs) as pool:
        for texts, prompts, quiet, repeats, drop in (
            ("short texts", 40, 0, 1, 0.5),
            ("short texts", 40, 0, 8, 0.1),
            ("short texts", 40, 0, 8, 0.2),
            ("short texts", 40, 10, 1, 0.1),
            ("short texts", 40, 10, 1, 0.2),
            ("short texts", 40, 0, 8, 0.02),
            ("long texts", 40, 0, 8, 0.02),
            ("long texts", 120, 0, 8, 0.02),
        ):
            needed = partial(nights_needed, texts, prompts, quiet, repeats, drop)
            found = list(pool.map(needed, range(runs), chunksize=5))
            rows.append(
                {
                    "texts": texts,
                    "prompts": prompts,
                    "quiet": quiet,
                    "repeats": repeats,
                    "drop": drop,
                    "nights": sorted(found),
                    "runs": runs,
                }
            )
    return {"what": "evidence", "rows": rows}


def nights_needed(
    texts: str, prompts: int, quiet: int, repeats: int, drop: float, seed: int, most: int = 10
) -> int:
    """Nights after the change until the gate fails; one more than `most` where it did not."""
    rng = np.random.default_rng([quiet, repeats, int(drop * 100), seed])
    own = Prompts.drawn(rng, prompts, **TEXTS[texts])
    losses = [0.0] * quiet + [own.loss_for(drop)] * most
    said = [verdict.outcome for verdict in nightly(rng, own, losses, gates=1, repeats=repeats)]
    return next(
        (at for at, outcome in enumerate(said[quiet:], 1) if outcome == "regressed"), most + 1
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("level")
    one.add_argument("mode", choices=MODES)
    one.add_argument("--sessions", type=int, default=10_000)
    commands.add_parser("power").add_argument("--runs", type=int, default=200)
    commands.add_parser("evidence").add_argument("--runs", type=int, default=30)
    for command in commands.choices.values():
        command.add_argument("--jobs", type=int, default=2)
    asked = parser.parse_args()
    if asked.command == "level":
        found = level(asked.mode, asked.sessions, asked.jobs)
    else:
        found = {"power": power, "evidence": evidence}[asked.command](asked.runs, asked.jobs)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
