"""The museum as a page: what each defect costs, who sees it, and who else would have seen it.

    python tests/museum/table.py > docs/museum.md
    python tests/museum/table.py "causal blocks" ...   # anew; other rows are the page's

Others' tests are given our baseline, which has no noise.
"""

from __future__ import annotations

import dataclasses
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from museum import edits, edits_eagle3
from museum.doctor_view import Size, doctor_says, is_named
from museum.exhibit import Exhibit, Setting
from museum.exhibits import DRAFT, EXHIBITS
from museum.exhibits_blocks import BLOCK_EXHIBITS
from museum.exhibits_heads import HEAD_EXHIBITS
from museum.exhibits_residual import RESIDUAL_EXHIBITS
from museum.measure import NEW_TOKENS, Lab, Measured, conditionals

from pytest_specdec.cases.case import OWN_HEADS
from pytest_specdec.config.options import MARGIN
from pytest_specdec.gate.paired import Pair
from pytest_specdec.gate.verdict import Verdict

DOCTOR = Size(texts=24, new_tokens=48)
BLOCK_DOCTOR = Size(texts=40)
"""All prompts, which are of all categories, for drafters whose readings differ by category."""

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
    "oracle",
    "doctor",
    "falls at",
    "hides at",
    "vLLM's test",
    "95 % floor",
)
HEAD = """# A museum of acceptance bugs

{rows} defects of real engines and checkpoints, most of which leave the emitted text right. Each is built
into this project's decoder or into a copy of its embedded checkpoints, and shown to

- the [gate](gate.md), which has the record of the sound decoder for a baseline: it flags {flagged};
- the [oracle](conformance.md#what-the-oracle-judges), which has no baseline and replays the decoder's texts from the files: it
  disagrees with {oracle}. It reads the same files, so it repeats what is wrong in them;
- the [doctor](doctor.md), which has the files of heads, block drafters or MTP layers alone: it names what
  to correct in {corrected}, and in {named} the engine that is known to read such files in another way.

Given the same baseline, vLLM's acceptance test would see {by_length} by the length and {by_position} more by a
position; a one-sided floor at 95 % of the length, as TensorRT-LLM has it, {floor}.

"""
FOOT = """*oracle*: whether it disagrees. *doctor*: a correction of the files, or an engine, that it names; empty
for draft models, which it does not examine. *falls at*: draft positions whose conditional acceptance
fell by half a point or more, of rounds that both decoders start at the same place (of all rounds where
texts were sampled). *hides at*: what of the setting is another where the very same defect changes
nothing at all. *vLLM's test* fails if the length is off by more than 5 % or one of the first three
positions survives less than 95 % of what is expected. Where a mechanism says *here*, the report gives
symptoms only and ours stands in for the cause, or ours is made smaller. An *uneven norm* is what large
models have; the embedded target's is nearly flat.

The tests beside the exhibits pass the right twin of each part: the same decoder without a defect.
[Some of them on a real pair](real-model-claims.md#the-museum).

## What the gate does not flag

- *norm before fc dropped*: the head's `hidden_norm` takes back nearly all that the lost norm did, and
  which way acceptance moves depends on the prompts. The oracle finds every round that differs, and the doctor lists the engine.
- *target's cache in float8*: it changes the target, not the drafter. Greedy texts differ, so the gate
  compares different texts, and {few} prompts are too few for a drop that small. The oracle finds the
  rounds in which the texts are not the target's, and [conformance](conformance.md) judges the texts themselves.
- *heads read the raw state*: on these prompts at temperature 0 the embedded target's Medusa heads draft a little better
  so. The oracle finds every round that differs.

What is wrong in the files of a head from its first day on has no sound baseline to be compared with:
there the doctor is what sees it. Where it names no correction, it gives the outcome alone; of *map of
zeros* and *skipped projection* next to nothing is accepted, and the gate refuses a dead drafter as a
baseline. Of *ids left out* it names neighbours of the states 2, 5, 7
that the head was trained on; with its default of 32 texts of 64 new tokens it names those.

{prompts} prompts, of 2026 {few} unless *all prompts* are named, {tokens} new tokens each, greedy unless a temperature T is named; margin
{margin:.1%}. The doctor: {doctor_texts} texts of {doctor_tokens} new tokens, of block drafters {block_texts} of {block_tokens}. Made by `python tests/museum/table.py > docs/museum.md`.
"""
EDITED = {
    edits.uneven_norm: "uneven norm",
    edits_eagle3.interleaved: "rotary neighbours",
    edits_eagle3.own_embeddings: "own embeddings",
}
"""How the page names what is done to a setting's checkpoint."""
PARTS = {
    "Draft models and MTP layers": EXHIBITS,
    "EAGLE-3 heads and MTP layers, 2026": HEAD_EXHIBITS,
    "Block drafters, 2026": BLOCK_EXHIBITS,
    "Heads on the target's last state, 2026": RESIDUAL_EXHIBITS,
}
PAGE = Path(__file__).parents[2] / "docs" / "museum.md"
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
    names = {"draft": "draft model", OWN_HEADS: "own heads"}
    name = names.get(setting.drafter, setting.drafter)
    rest = [f"T {setting.temperature:g}"] * (setting.temperature > 0)
    rest += [f"batch {setting.batch}"] * (setting.batch != Setting.batch)
    rest += [EDITED[edit] for edit in setting.edits]
    rest += ["all prompts"] * (setting.target != "text-target" and setting.prompts is None)
    return ", ".join([f"{name} {setting.k} / {setting.depth}", *rest])


def source(exhibit: Exhibit) -> str:
    repository, number = exhibit.source.split("#")
    return f"[{repository.split('/')[1]}#{number}](https://github.com/{repository}/issues/{number})"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shown:
    """An exhibit and what is said of it."""

    exhibit: Exhibit
    verdict: Verdict
    fell: str
    oracle: bool
    doctor: str

    @property
    def cells(self) -> tuple[str, ...]:
        exhibit, verdict = self.exhibit, self.verdict
        return (
            exhibit.name,
            source(exhibit),
            exhibit.mechanism,
            drafter(exhibit.setting),
            f"{verdict.before:.3f} -> {verdict.now:.3f}",
            f"{-verdict.drop:+.1%}",
            verdict.outcome,
            "yes" if self.oracle else "no",
            "" if exhibit.setting.drafter == "draft" else self.doctor or "no",
            self.fell,
            hiding_place(exhibit),
            seen_by_vllm(verdict.pair),
            seen_by_floor(verdict.pair),
        )


def shown(lab: Lab, exhibit: Exhibit) -> Shown:
    before, (now, agreement) = lab.baseline(exhibit.setting), lab.broken_and_judged(exhibit)
    return Shown(
        exhibit=exhibit,
        verdict=now.against(before),
        fell=fell(before, now),
        oracle=not agreement.agrees,
        doctor=doctor_says(lab, exhibit, BLOCK_DOCTOR if exhibit in BLOCK_EXHIBITS else DOCTOR),
    )


def kept(exhibit: Exhibit) -> tuple[str, ...]:
    """The cells that the page has of an exhibit."""
    lines = [line for line in PAGE.read_text().splitlines() if line.startswith("| ")]
    (cells,) = [
        line.strip("|").split("|") for line in lines if line.startswith(f"| {exhibit.name} |")
    ]
    return tuple(cell.strip() for cell in cells)


def summary(rows: Sequence[tuple[Exhibit, Mapping[str, str]]]) -> dict[str, object]:
    """The numbers of the page's head, from its cells by the names of their columns."""
    named = [
        (exhibit, cells)
        for exhibit, cells in rows
        if cells["doctor"] != "no" and is_named(cells["doctor"])
    ]
    floors = [cells["vLLM's test"] for _, cells in rows]
    return {
        "rows": len(rows),
        "flagged": sum(cells["verdict"] == "regressed" for _, cells in rows),
        "oracle": sum(cells["oracle"] == "yes" for _, cells in rows),
        "corrected": sum(exhibit.defect is None for exhibit, _ in named),
        "named": sum(exhibit.defect is not None for exhibit, _ in named),
        "by_length": floors.count("yes"),
        "by_position": floors.count("by position"),
        "floor": sum(cells["95 % floor"] == "yes" for _, cells in rows),
    }


def main() -> None:
    every = [exhibit for part in PARTS.values() for exhibit in part]
    anew = sys.argv[1:] or [exhibit.name for exhibit in every]
    if unknown := sorted(set(anew) - {exhibit.name for exhibit in every}):
        raise SystemExit(f"no exhibits {unknown}")
    with tempfile.TemporaryDirectory() as folder:
        lab = Lab(Path(folder))
        cells = {
            exhibit: shown(lab, exhibit).cells if exhibit.name in anew else kept(exhibit)
            for exhibit in every
        }
        prompts = len(lab.baseline(DRAFT).record.as_counts().prompts)
    rows = [(exhibit, dict(zip(HEADER, cells[exhibit], strict=True))) for exhibit in every]
    print(HEAD.format(**summary(rows)), end="")
    for title, part in PARTS.items():
        print(f"## {title}\n\n| {' | '.join(HEADER)} |")
        print("|---" * len(HEADER) + "|")
        for exhibit in part:
            print(f"| {' | '.join(cells[exhibit])} |")
        print()
    foot = FOOT.format(
        prompts=prompts,
        few=HEAD_EXHIBITS[0].setting.prompts,
        tokens=NEW_TOKENS,
        margin=MARGIN.default,
        doctor_texts=DOCTOR.texts,
        doctor_tokens=DOCTOR.new_tokens,
        block_texts=BLOCK_DOCTOR.texts,
        block_tokens=BLOCK_DOCTOR.new_tokens,
    )
    print(foot, end="")


if __name__ == "__main__":
    main()
