"""Exhibits of the museum of acceptance bugs on a real pretrained pair: SmolLM2-135M-Instruct with its
EAGLE-3 head and with its first 20 layers (`python suites/smollm2/build.py` makes them).

    OMP_NUM_THREADS=1 python benchmarks/museum_real_pair.py [--into docs/real-model-claims.md]

Each defect is built into this project's decoder or into a copy of the head's files, as in docs/museum.md,
and shown to gate, oracle and conformance; so is the decoder without a defect, in batches of another size
and with another seed. Rows are kept in benchmarks/results/museum-smollm2.jsonl, and what is there is not
measured again. With `--into` alone nothing is left to measure once all rows are there.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

os.environ.setdefault("OMP_NUM_THREADS", "1")
ROOT = Path(__file__).parent.parent
SUITE = ROOT / "suites" / "smollm2"
RESULTS = ROOT / "benchmarks" / "results" / "museum-smollm2.jsonl"
sys.path.insert(0, str(ROOT / "tests"))

from marked_page import marks_of, write_lines  # noqa: E402
from museum import defects, defects_eagle3, edits_eagle3  # noqa: E402
from museum.exhibit import Exhibit, Setting  # noqa: E402
from museum.exhibits import EXHIBITS  # noqa: E402
from museum.exhibits_heads import HEAD_EXHIBITS  # noqa: E402
from museum.measure import ALPHA, Lab, Measured  # noqa: E402
from museum.sampling_defects import SAMPLING_DEFECTS  # noqa: E402
from museum.table import HEADER, fell, kept  # noqa: E402

from pytest_specdec.cases.case import Sampling  # noqa: E402
from pytest_specdec.cases.texts import Text  # noqa: E402
from pytest_specdec.decoding.loading import LoadedModel  # noqa: E402
from pytest_specdec.decoding.replay import DrafterPlan, Scores  # noqa: E402
from pytest_specdec.engines.counting import possible_rounds  # noqa: E402
from pytest_specdec.engines.model_checks import conformance, oracle  # noqa: E402
from pytest_specdec.engines.own import decode_engine  # noqa: E402

MARK = "museum_real_pair.py"
PROMPTS, NEW_TOKENS = 8, 40
RIGHT = "no defect"
HEAD = Setting("eagle3", 4, 0, batch=PROMPTS, prompts=PROMPTS, target="target")
ROTARY = dataclasses.replace(HEAD, edits=(edits_eagle3.interleaved,))
SAMPLED = dataclasses.replace(HEAD, temperature=1.0)
EXIT = dataclasses.replace(HEAD, drafter="exit-20", k=2)
"""Its third draft is hardly ever reached."""
EXIT_ONE = dataclasses.replace(EXIT, k=1)


def named(name: str, setting: Setting, **changes: object) -> Exhibit:
    """An exhibit of the museum, or a defect of sampling, on this pair."""
    for exhibit in (*EXHIBITS, *HEAD_EXHIBITS):
        if exhibit.name == name:
            return dataclasses.replace(exhibit, setting=setting, hides=None, **changes)
    (defect,) = [one for one in SAMPLING_DEFECTS if one.name == name]
    return Exhibit(name, defect.source, defect.mechanism, setting, defect.defect)


SHOWN = (
    named("first layer's inputs", HEAD),
    named("logits without the norm", HEAD),
    named("normed state passed on", HEAD),
    named("request index not rebuilt", HEAD),
    named("wrong state after hand-over", HEAD),
    named(
        "states one layer late",
        HEAD,
        edit=None,
        defect=defects_eagle3.reads_states(defects_eagle3.one_later),
    ),
    named("map of zeros", HEAD),
    named("missing key", EXIT_ONE),
    named("greedy drafts", SAMPLED),
    named("recovered token from p", SAMPLED),
    named("arg-max drafts, softmax q", SAMPLED),
    named("exact match", SAMPLED),
    named("usual states hard-coded", HEAD),
    named("evicted keys", EXIT_ONE),
    named("weights lost on resume", HEAD),
    named("norm_output of another meaning", HEAD),
    named("rotary halves hard-coded", ROTARY),
    named("full cache", EXIT_ONE),
    named("short buffer", HEAD, defect=defects.short_buffer(2), first=3, falls=3),
    named("doubled sequence", EXIT),
    named("q a tenth too small", SAMPLED),
)
"""In the order in which they are measured."""
HARMLESS = "usual states hard-coded"
"""A defect that is none of this head."""
HERE = {
    "states one layer late": "in the engine, not in the files",
    "short buffer": "drafts past the second",
    HARMLESS: "harmless: they are this head's",
    "doubled sequence": "few rounds are accepted in full",
}
"""What is another than in the museum."""


def right_twins() -> dict[str, tuple[Setting, Setting]]:
    """Settings before and after harmless changes: batches of other sizes, other seeds."""
    greedy = {
        f"{RIGHT}, batches of 3: {one.drafter}": (one, dataclasses.replace(one, batch=3))
        for one in (HEAD, EXIT_ONE)
    }
    return greedy | {f"{RIGHT}, another seed: {SAMPLED.drafter}": (SAMPLED, SAMPLED)}


@contextmanager
def replayed_once() -> Iterator[None]:
    """Scores of the same texts by the same drafter are computed once: greedy texts are the same with
    most defects, and none of them reaches replay.
    """
    kept: dict[tuple[object, ...], list[Scores]] = {}
    compute = decode_engine.text_scores

    def scores(
        target: LoadedModel,
        plans: Sequence[DrafterPlan],
        texts: Sequence[Text],
        sampling: Sampling,
        *rest: object,
        **options: object,
    ) -> list[Scores]:
        (plan,) = plans
        whole = isinstance(plan.drafter, LoadedModel)
        drafter = plan.drafter.checkpoint.folder if whole else plan.drafter
        ids = tuple(text.ids for text in texts)
        key = target.checkpoint.folder, drafter, plan.steps, plan.rules, sampling, ids
        if key not in kept:
            kept[key] = compute(target, plans, texts, sampling, *rest, **options)
        return kept[key]

    with (
        mock.patch.object(decode_engine, "text_scores", scores),
        mock.patch.object(possible_rounds, "text_scores", scores),
    ):
        yield


class Bench:
    """Measures and judges on the real pair, and keeps a row of each."""

    def __init__(self, folder: Path) -> None:
        self._lab = Lab(
            folder,
            models=SUITE / "models",
            prompts=SUITE / "prompts.jsonl",
            new_tokens=NEW_TOKENS,
        )

    def exhibit(self, exhibit: Exhibit) -> dict[str, object]:
        before = self._lab.baseline(exhibit.setting)
        return self._judged(
            exhibit.name, exhibit, before, lambda: self._lab.broken(exhibit), seed=0
        )

    def twin(self, name: str, before: Setting, now: Setting) -> dict[str, object]:
        seed = int(now.temperature > 0)
        exhibit = Exhibit(name, "", "", now)
        return self._judged(
            name,
            exhibit,
            self._lab.baseline(before),
            lambda: self._lab.measure(now, seed=seed),
            seed=seed,
        )

    def _judged(
        self,
        name: str,
        exhibit: Exhibit,
        before: Measured,
        measure: Callable[[], Measured],
        *,
        seed: int,
    ) -> dict[str, object]:
        begun = time.process_time()
        now = measure()
        engine, case = self._lab.engine, self._lab.case(exhibit)
        case = dataclasses.replace(case, texts=dataclasses.replace(case.texts, seed=seed))
        agreement, verdict = oracle(engine, case, ALPHA), now.against(before)
        same = now.decoded.texts == before.decoded.texts
        lossy = (not same or name.startswith(RIGHT)) and not conformance(
            engine, case, ALPHA
        ).conforms
        return {
            "name": name,
            "drafter": exhibit.setting.drafter,
            "k": exhibit.setting.k,
            "T": exhibit.setting.temperature,
            "prompts": PROMPTS,
            "new_tokens": NEW_TOKENS,
            "before": round(verdict.before, 4),
            "now": round(verdict.now, 4),
            "drop": round(verdict.drop, 5),
            "verdict": verdict.outcome,
            "oracle": not agreement.agrees,
            "texts": lossy,
            "same_texts": same,
            "fell": fell(before, now),
            "seconds": round(time.process_time() - begun, 1),
        }


def read_rows() -> list[dict]:
    return (
        [json.loads(line) for line in RESULTS.read_text().splitlines()] if RESULTS.exists() else []
    )


def measure(wanted: Sequence[str]) -> None:
    """Append what is not there yet."""
    twins, exhibits = right_twins(), {exhibit.name: exhibit for exhibit in SHOWN}
    if unknown := {*wanted} - {*twins, *exhibits}:
        raise SystemExit(f"no exhibits {sorted(unknown)}; there are {[*exhibits, *twins]}")
    with tempfile.TemporaryDirectory() as folder, replayed_once():
        bench = Bench(Path(folder))
        for name in [*wanted] or [*exhibits, *twins]:
            if name in {row["name"] for row in read_rows()}:
                continue
            row = (
                bench.exhibit(exhibits[name])
                if name in exhibits
                else bench.twin(name, *twins[name])
            )
            with RESULTS.open("a") as file:
                file.write(json.dumps(row) + "\n")
            print(json.dumps(row), flush=True)


def table(rows: list[dict]) -> list[str]:
    """In Markdown, in the order of `SHOWN`, the toy's verdicts beside."""
    columns = (
        "exhibit",
        "drafter, k",
        "T",
        "length",
        "change",
        "falls at",
        "gate",
        "oracle",
        "texts",
    )
    lines = [
        summary(rows),
        "",
        f"| {' | '.join(columns)} | toy's change | toy's gate, oracle |",
        "|---" * (len(columns) + 2) + "|",
    ]
    toys = {exhibit.name: exhibit for exhibit in (*EXHIBITS, *HEAD_EXHIBITS)}
    by_name = {row["name"]: row for row in rows}
    for name in [*(exhibit.name for exhibit in SHOWN), *right_twins()]:
        if (row := by_name.get(name)) is None:
            continue
        toy = ("", "")
        if name in toys:
            cells = dict(zip(HEADER, kept(toys[name]), strict=True))
            toy = (cells["change"], f"{cells['verdict']}, {cells['oracle']}")
        own = f" ({HERE[name]})" if name in HERE else ""
        lines.append(
            f"| {name}{own} | {row['drafter']}, {row['k']} | {row['T']:g} | {row['before']:.3f} -> "
            f"{row['now']:.3f} | {0.0 - row['drop']:+.1%} | {row['fell']} | {row['verdict']} | "
            f"{yes(row['oracle'])} | {yes(row['texts'])} | {' | '.join(toy)} |"
        )
    return lines


def summary(rows: Sequence[dict]) -> str:
    """In a paragraph: who flags how many of the defects."""
    names = {exhibit.name for exhibit in SHOWN} - {HARMLESS}
    own = [row for row in rows if row["name"] in names]
    flagged = sum(row["verdict"] == "regressed" for row in own)
    undecided = sum(row["verdict"] == "inconclusive" for row in own)
    found = sum(row["verdict"] == "regressed" or row["oracle"] or row["texts"] for row in own)
    return (
        f"Of {len(own)} defects that are harmful here the gate flags {flagged} and is inconclusive about "
        f"{undecided}, the oracle disagrees with {sum(row['oracle'] for row in own)}, and the texts of "
        f"{sum(row['texts'] for row in own)} violate; {found} are found by at least one of them."
    )


def yes(found: bool) -> str:
    return "yes" if found else "no"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("exhibits", nargs="*", help="by name; all unless given")
    parser.add_argument("--into", type=Path, help="a page with the marks of this script")
    parser.add_argument("--only-table", action="store_true", help="measure nothing")
    options = parser.parse_args()
    if not options.only_table:
        measure(options.exhibits)
    lines = table(read_rows())
    print("\n".join(lines))
    if options.into:
        write_lines(options.into, marks_of(MARK), "\n".join(lines))


if __name__ == "__main__":
    main()
