"""Files of sessions and of other programs, as originals for `fuzz_inputs.py`: parts of sharded
sessions, journals of updates, reports that are read again, published runs, saved times, profiles of
speculation, settings of processors and trees.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
from served_inputs import Served

from pytest_specdec.baselines.update import JOURNAL, recover
from pytest_specdec.cases.processors import ProcessorSpec, parse_processors
from pytest_specdec.cases.tree import tree_of
from pytest_specdec.commands.profile import measured_rows
from pytest_specdec.common.printable import printable
from pytest_specdec.engines.part_files import ShardPart
from pytest_specdec.engines.shards import read_parts
from pytest_specdec.report.profile_gate import judge_profile, read_profile
from pytest_specdec.report.published import ReconciledRun, read_published
from pytest_specdec.report.speculation_profile import speculation_profile
from pytest_specdec.speedup.benchmark_file import profile_from_benchmark
from pytest_specdec.speedup.cost_profile import CostProfile

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from helpers.report_rows import session_rows  # noqa: E402

_MAGIC = b"specdec-part\n"
_PART = {
    "header": {
        "schema": 1,
        "shard": 1,
        "shards": 1,
        "arguments": ["--specdec-k=4", "suites/text"],
        "commit": "4" * 40,
        "version": "0.1.0",
    },
    "work": {"texts a": {"units": 1, "everywhere": False, "results": {"0": "AAEC"}}},
}
_TABLE = {
    "schema": 1,
    "runs": [
        {"name": "paper", "metric": "acceptance_length", "value": 3.5, "k": 4},
        {"name": "blog", "metric": "acceptance_rate", "k": 3, "categories": {"code": 0.5}},
    ],
}
_TREES = ["topk=4,depth=5,nodes=16", [[0], [1], [0, 0]], "0 1 0.0 sampled"]
_PROCESSORS = [
    {"repetition_penalty": 1.1, "no_repeat_ngram": 3, "on_drafts": False},
    {"json_schema": {"type": "object"}, "canonical": True},
    {"logit_bias": {"5": -1.5}, "min_p": 0.1},
]


def further_kinds(costs: Callable[[CostProfile], Iterator[str]]) -> list[Served]:
    """Each kind; `costs` says what is wrong with a cost profile."""
    rows = session_rows(4, (2,))[:2]
    report = json.dumps({"schema": 1, "cases": rows}, indent=1).encode()
    timed = json.dumps({"benchmarks": _timed(), "machine_info": {}}).encode()
    profile = json.dumps(speculation_profile(rows[0], rows, "draft_model"), indent=1).encode()
    return [
        Served("parts", [json.dumps(_PART).encode()], _part, _wrong_part),
        Served("journals", [_journal()], _recovered, _wrong_recovery),
        Served("reports", [report], _read_report, lambda value: iter(())),
        Served("profiles of speculation", [profile], _read_speculation, lambda value: iter(())),
        Served("published runs", [json.dumps(_TABLE).encode()], _published, _wrong_runs),
        Served("saved times", [timed], _saved_times, costs),
        Served(
            "processors",
            [json.dumps(given).encode() for given in _PROCESSORS],
            lambda raw, folder: parse_processors(_shell_text(raw)),
            _wrong_processors,
        ),
        Served(
            "trees",
            [json.dumps(tree).encode() for tree in _TREES],
            lambda raw, folder: tree_of(_plain_value(raw)),
            _wrong_tree,
        ),
    ]


def _shell_text(raw: bytes) -> str:
    """A mutant as the shell hands it over, with halves of surrogates for bytes that are no text."""
    return raw.decode(errors="surrogateescape")


def _plain_value(raw: bytes) -> Any:
    """A value as a marker has it."""
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):
        return _shell_text(raw)


def _part(raw: bytes, folder: Path) -> list[ShardPart]:
    """The part that somebody writes who knows how; mutants that are no JSON as they are."""
    try:
        value = json.loads(raw)
        content = msgspec.msgpack.encode(_with_numbers(value))
    except (ValueError, RecursionError, TypeError, OverflowError):
        content = raw
    path = folder / "part"
    path.write_bytes(_MAGIC + hashlib.sha256(content).digest() + content)
    return read_parts([path])


def _with_numbers(value: Any) -> Any:
    """A part's units by their numbers, which are texts in JSON."""
    work = value.get("work") if isinstance(value, dict) else None
    for done in work.values() if isinstance(work, dict) else ():
        if isinstance(done, dict) and isinstance(done.get("results"), dict):
            done["results"] = {
                int(key) if key.isdecimal() else key: str(unit).encode()
                for key, unit in done["results"].items()
            }
    return value


def _wrong_part(parts: list[ShardPart]) -> Iterator[str]:
    for part in parts:
        if not 1 <= part.header.shard <= part.header.shards:
            yield f"shard {part.header.shard} of {part.header.shards}"


def _journal() -> bytes:
    return json.dumps({"text/a.json": "{}\n", "text/texts/b.json": None}, indent=0).encode()


def _recovered(raw: bytes, folder: Path) -> tuple[Path, list[str]]:
    """A journal whose hash fits its files, in a folder beside another one."""
    inside = folder / "baselines"
    inside.mkdir()
    (folder / "beside.json").write_text("kept")
    head = {"schema": 1, "sha256": hashlib.sha256(raw).hexdigest()}
    (inside / JOURNAL).write_bytes(json.dumps(head).encode() + b"\n" + raw)
    return folder, recover(inside)


def _wrong_recovery(value: tuple[Path, list[str]]) -> Iterator[str]:
    folder, _ = value
    if {path.name for path in folder.iterdir()} != {"baselines", "beside.json"}:
        yield "a file beside the folder"
    if (folder / "baselines" / JOURNAL).exists():
        yield "the journal is still there"
    stored = (path for path in folder.rglob("*") if ".specdec" not in path.parts)
    if any(path.is_file() and path.suffix != ".json" for path in stored):
        yield "a file that is no .json"


def _read_report(raw: bytes, folder: Path) -> Any:
    """All that is made of a report that is read again."""
    (folder / "report.json").write_bytes(raw)
    rows = measured_rows(folder / "report.json")
    for row in rows:
        json.dumps(speculation_profile(row, rows, "draft_model"), allow_nan=False)
        printable(row["id"])
    return rows


def _read_speculation(raw: bytes, folder: Path) -> Any:
    (folder / "profile.json").write_bytes(raw)
    profile = read_profile(folder / "profile.json")
    return judge_profile(session_rows(4, (2,))[0], profile, margin=0.01, alpha=0.01).message


def _published(raw: bytes, folder: Path) -> list[ReconciledRun]:
    (folder / "table.json").write_bytes(raw)
    return read_published(folder / "table.json")


def _wrong_runs(runs: list[ReconciledRun]) -> Iterator[str]:
    for run in runs:
        for length in (*([] if run.length is None else [run.length]), *run.categories.values()):
            if not 1 <= length < 1e6:
                yield f"a length of {length}"


def _timed() -> list[dict[str, Any]]:
    def of(part: str, k: int, ms: float) -> dict[str, Any]:
        extra = {"part": part, "k": k, "depth": 0, "machine": "cpu", "software": "torch 3"}
        return {
            "stats": {"median": ms / 1e3, "iqr": ms / 1e4, "rounds": 40},
            "extra_info": {"specdec": extra | {"batch_size": 1}},
        }

    return [of("target", 0, 76.0), of("verify", 4, 90.0), of("draft", 4, 20.0)]


def _saved_times(raw: bytes, folder: Path) -> CostProfile:
    (folder / "times.json").write_bytes(raw)
    return profile_from_benchmark(folder / "times.json")


def _wrong_processors(spec: ProcessorSpec | None) -> Iterator[str]:
    if spec is not None:
        if parse_processors(str(spec)) != spec:
            yield "its text is read as others"
        if not spec.name or len(spec.name) > 200:
            yield f"the name {spec.name[:300]!r}"


def _wrong_tree(tree: Any) -> Iterator[str]:
    if not 1 <= tree.depth <= 64 or tree.nodes > 4096:
        yield f"{tree.nodes} nodes, depth {tree.depth}"
    if tree_of(str(tree)) != tree:
        yield "its text is read as another"
