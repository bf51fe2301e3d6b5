"""The museum as a page: what each defect costs, and who else would have seen it.

    python tests/museum/table.py > docs/museum.md

Others' tests are given our baseline, which has no noise.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from museum.exhibits import EXHIBITS, Exhibit, Setting
from museum.measure import NEW_TOKENS, Lab, Measured, conditionals

from pytest_specdec.config.options import MARGIN
from pytest_specdec.gate.paired import Pair

WIDE = 0.05
"""The relative tolerance of vLLM's acceptance test, and of TensorRT-LLM's."""
WATCHED = 3
"""Positions that vLLM's test watches besides the length."""
HEADER = (
    "exhibit",
    "source",
    "mechanism",
    "k / depth",
    "length",
    "change",
    "verdict",
    "falls at",
    "hides at",
    "vLLM's test",
    "95 % floor",
)
HEAD = """# A museum of acceptance bugs

{rows} defects of real engines that leave the emitted text right, each built into this project's decoder
or into a copy of its embedded checkpoints and judged against the record of the sound one: the gate
flags {flagged}. Given the same baseline, vLLM's acceptance test would see {by_length} by the length and {by_position}
more by a position; a one-sided floor at 95 % of the length, as TensorRT-LLM has it, {floor}.
"""
FOOT = """
*falls at*: draft positions whose conditional acceptance fell by half a point or more, of rounds
that both decoders start at the same place (of all rounds where texts were sampled). *hides at*:
what of the setting is another where the very same defect changes nothing at all. *vLLM's test*
fails if the length is off by more than 5 % or one of the first three positions survives less than
95 % of what is expected. Where a mechanism says *here*, the report gives symptoms only and ours
stands in for the cause. An *uneven norm* is what large models have; the embedded target's is nearly
flat.

{prompts} prompts, {tokens} new tokens each, greedy unless a temperature T is named; margin {margin:.1%}. Made by
`python tests/museum/table.py > docs/museum.md`.
"""
VISIBLE = 0.005
"""How far a position's conditional acceptance falls to be named."""


def fell(before: Measured, now: Measured) -> str:
    """Positions whose conditional acceptance fell, or that are no longer reached."""
    old, new = conditionals(before, now)
    held = new > old - VISIBLE
    return " ".join(str(position) for position, holds in enumerate(held, 1) if not holds)


def seen_by_vllm(pair: Pair) -> str:
    """Its test wants the length within 5 % and each position's survival above 95 % of what is
    expected.
    """
    before, now = pair.before, pair.now
    if abs(now.acceptance_length / before.acceptance_length - 1) > WIDE:
        return "yes"
    return "by position" if (now.survival < (1 - WIDE) * before.survival)[:WATCHED].any() else "no"


def seen_by_floor(pair: Pair) -> str:
    """TensorRT-LLM's test wants the length above 95 % of the reference."""
    return (
        "yes" if pair.now.acceptance_length < (1 - WIDE) * pair.before.acceptance_length else "no"
    )


def hiding_place(exhibit: Exhibit) -> str:
    """What of the setting is another where the defect changes nothing."""
    if exhibit.hides is None:
        return ""
    names = {"k": "k", "depth": "depth", "temperature": "T", "batch": "batch"}
    pairs = (
        (name, getattr(exhibit.hides, field), getattr(exhibit.setting, field))
        for field, name in names.items()
    )
    return ", ".join(f"{name} {there:g}" for name, there, here in pairs if there != here)


def drafter(setting: Setting) -> str:
    name = "draft model" if setting.drafter == "draft" else "own heads"
    rest = [f"T {setting.temperature:g}"] * (setting.temperature > 0)
    rest += [f"batch {setting.batch}"] * (setting.batch != Setting.batch) + ["uneven norm"] * bool(
        setting.edits
    )
    return ", ".join([f"{name} {setting.k} / {setting.depth}", *rest])


def source(exhibit: Exhibit) -> str:
    repository, number = exhibit.source.split("#")
    return f"[{repository.split('/')[1]}#{number}](https://github.com/{repository}/issues/{number})"


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        lab = Lab(Path(folder))
        shown = [
            (exhibit, lab.baseline(exhibit.setting), lab.broken(exhibit)) for exhibit in EXHIBITS
        ]
    rows = [(exhibit, now.against(before), fell(before, now)) for exhibit, before, now in shown]
    pairs = [verdict.pair for _, verdict, _ in rows]
    numbers = {
        "rows": len(rows),
        "flagged": "all of them"
        if all(verdict.outcome == "regressed" for _, verdict, _ in rows)
        else "not all of them",
        "by_length": sum(seen_by_vllm(pair) == "yes" for pair in pairs),
        "by_position": sum(seen_by_vllm(pair) == "by position" for pair in pairs),
        "floor": sum(seen_by_floor(pair) == "yes" for pair in pairs),
    }
    print(HEAD.format(**numbers))
    print(f"| {' | '.join(HEADER)} |")
    print("|---" * len(HEADER) + "|")
    for exhibit, verdict, positions in rows:
        cells = (
            exhibit.name,
            source(exhibit),
            exhibit.mechanism,
            drafter(exhibit.setting),
            f"{verdict.before:.3f} -> {verdict.now:.3f}",
            f"{-verdict.drop:+.1%}",
            verdict.outcome,
            positions,
            hiding_place(exhibit),
            seen_by_vllm(verdict.pair),
            seen_by_floor(verdict.pair),
        )
        print(f"| {' | '.join(cells)} |")
    print(FOOT.format(prompts=pairs[0].prompts, tokens=NEW_TOKENS, margin=MARGIN.default), end="")


if __name__ == "__main__":
    main()
