"""What each kind of run may write, report and delete: one table of runs, and every update and
pruning over it.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Collection
from pathlib import Path

import pytest
from helpers.stored_files import resealed
from helpers.support import add_noise

from pytest_specdec.baselines.store import load_baseline

CELLS = tuple(f"letters/tiny-draft-k{k}-depth{depth}-t1.json" for k in (4, 8) for depth in (0, 2))
TEXTS = "letters/texts/t1-n24-s0.json"
FILE = "suites/letters/test_letters.py"
STOPPER = "suites/letters/test_zz_stop.py"
AFTER_TWO_CELLS = "def pytest_collection_modifyitems(items):\n    items.insert(2, items.pop())\n"


@dataclasses.dataclass(frozen=True)
class Kind:
    """A kind of run, and what may come of it."""

    arguments: tuple[str, ...] = ()
    cells: Collection[str] = CELLS
    """Records that it may write."""
    partial: str | None = None
    """Why nothing can be said of stale files, and pruning is refused."""
    cut: bool = False
    """Whether it ends before its last test, so that stale files are neither reported nor deleted."""
    files: tuple[tuple[str, str], ...] = ()
    """Files of the project that make it so."""


KINDS = {
    "serial": Kind(),
    "the-suite-by-path": Kind(("suites/letters",)),
    "k-expression": Kind(
        ("-k", "k4 or depth0"), CELLS[:3], "only 3 of 4 tests of the suites were selected"
    ),
    "m-expression": Kind(
        ("-m", "k8 and depth2"), CELLS[3:], "only 1 of 4 tests of the suites were selected"
    ),
    "node-id": Kind(
        (f"{FILE}::test_draft[k4-depth2]",), CELLS[1:2], "the command line names single tests"
    ),
    "one-file-of-two": Kind(
        (FILE,),
        CELLS,
        "test_other.py was not collected",
        files=(("suites/letters/test_other.py", "def test_other(): pass\n"),),
    ),
    "shard": Kind(
        (),
        CELLS[::2],
        "only 2 of 4 tests of the suites were selected",
        files=(
            ("conftest.py", "def pytest_collection_modifyitems(items):\n    del items[1::2]\n"),
        ),
    ),
    "deselect": Kind(
        ("--deselect", f"{FILE}::test_draft[k8-depth2]"),
        CELLS[:3],
        "only 3 of 4 tests of the suites were selected",
    ),
    "cells-by-hand": Kind(("--specdec-k=8",), CELLS[2:], "--specdec-k chooses cells by hand"),
    "collect-only": Kind(("--collect-only",), (), "--collect-only runs nothing"),
    "stopped-by-a-failure": Kind(
        ("-x",),
        CELLS[:2],
        cut=True,
        files=((STOPPER, "def test_stop(): assert False\n"), ("conftest.py", AFTER_TWO_CELLS)),
    ),
    "interrupted": Kind(
        (),
        (),
        cut=True,
        files=(
            (STOPPER, "import pytest\n\ndef test_stop(): pytest.exit('enough')\n"),
            ("conftest.py", AFTER_TWO_CELLS),
        ),
    ),
}
FOUR_WORKERS = Kind(("-n4",))
every_kind = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)

STALE = (
    "letters/tiny-draft-k5-depth0-t1.json",
    "letters/evidence/tiny-draft-k5-depth0-t1.json",
    "letters/texts/t1-n24-s9.json",
    "letters/tokens/tiny-draft-head0-t1-n24-s9.json",
)
"""In the order in which they are reported."""
BYSTANDERS = (
    "letters/tiny-draft-k5-depth0-t1-decode.json",  # another engine's record
    "letters/tiny-draft-k6-depth0-t1.json",  # in merge conflict
    "letters/evidence/tiny-draft-k4-depth0-t1.json",  # evidence of a living case
    "letters/texts/t1-n24-s8.json",  # no texts at all
    "numbers/tiny-draft-k5-depth0-t1.json",  # another suite's record
    "numbers/texts/t1-n24-s9.json",  # another suite's texts
)


@pytest.fixture
def created(project, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """All files as a full serial run writes them, measured once and copied for each test."""
    shared, copied = (
        tmp_path_factory.getbasetemp() / "created-once",
        project.pytester.path / "baselines",
    )
    if shared.exists():
        shutil.copytree(shared, copied)
    else:
        project.create()
        shutil.copytree(copied, shared)
    return project.stored


@pytest.fixture
def littered(project, created: dict[str, str]) -> dict[str, str]:
    """The same with files of a renamed case and of another seed, and with files that these runs
    must leave alone.
    """
    record = created[CELLS[0]]
    files = created | dict.fromkeys((*STALE, *BYSTANDERS), record)
    files[STALE[2]] = created[TEXTS]
    files[STALE[3]] = created["letters/tokens/tiny-draft-head0-t1-n24-s0.json"]
    files[BYSTANDERS[0]] = resealed(record, lambda data: data["conditions"].update(engine="decode"))
    files[BYSTANDERS[1]] = f"<<<<<<< ours\n{record}"
    restore(project, files)
    return files


@pytest.fixture
def worse(project, created: dict[str, str], tmp_path: Path) -> None:
    """The drafter that the tests name is exchanged for a worse one, without any option that says
    so.
    """
    project.draft = add_noise(project.draft, tmp_path / project.draft.name, 0.1)
    project.write_test()


def run(project, kind: Kind, *arguments: str) -> pytest.RunResult:
    for name, text in kind.files:
        (project.pytester.path / name).write_text(text)
    return project.run(*kind.arguments, *arguments)


def records(stored: dict[str, str]) -> set[str]:
    return {name for name in stored if name.count("/") == 1}


def changed(before: dict[str, str], after: dict[str, str]) -> set[str]:
    """Files that were written or deleted, but for what only explains."""
    return {
        name
        for name in before.keys() | after.keys()
        if before.get(name) != after.get(name) and "/tokens/" not in name
    }


def restore(project, stored: dict[str, str]) -> None:
    shutil.rmtree(project.pytester.path / "baselines", ignore_errors=True)
    for name, text in stored.items():
        path = project.pytester.path / "baselines" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def without(stored: dict[str, str], *names: str) -> dict[str, str]:
    return {name: text for name, text in stored.items() if name not in names}


@pytest.mark.usefixtures("warm_processes")
@pytest.mark.parametrize("kind", [*KINDS.values(), FOUR_WORKERS], ids=[*KINDS, "four-workers"])
def test_what_is_created_is_what_a_full_serial_run_creates(
    project, created: dict[str, str], kind: Kind
) -> None:
    restore(project, {})
    run(project, kind, "--specdec-update=new")
    assert records(project.stored) == set(kind.cells)
    assert (TEXTS in project.stored) == bool(kind.cells)
    assert project.stored == {name: created[name] for name in project.stored}
    assert project.stored == created or len(kind.cells) < len(CELLS)


@pytest.mark.usefixtures("worse")
@every_kind
def test_all_rewrites_what_ran_and_only_whole_suites_report_stale_files(
    project, littered: dict[str, str], kind: Kind
) -> None:
    before = without(littered, CELLS[1])
    restore(project, before)
    result = run(project, kind, "--specdec-update=all")
    assert changed(before, project.stored) == set(kind.cells)
    stale_lines = [line for line in result.outlines if "no test asks for" in line]
    first = ", ".join(f"baselines/{name}" for name in STALE[:3])
    whole = kind.partial is None and not kind.cut
    assert (
        stale_lines
        == [f"4 stored files that no test asks for: {first}, ...; delete with --specdec-prune"]
        * whole
    )


@pytest.mark.usefixtures("worse")
@pytest.mark.parametrize(
    ("name", "update", "written"),
    [
        ("serial", "new", CELLS[1:2]),
        ("node-id", "new", CELLS[1:2]),
        ("m-expression", "new", ()),
        ("serial", "changed", (CELLS[0], *CELLS[2:])),
        ("m-expression", "changed", CELLS[3:]),
        ("stopped-by-a-failure", "changed", CELLS[:1]),
        ("interrupted", "changed", ()),
    ],
)
def test_new_writes_what_is_missing_and_changed_what_is_there(
    project, created: dict[str, str], name: str, update: str, written: tuple[str, ...]
) -> None:
    """The second record is missing, all others are of a better drafter."""
    before = without(created, CELLS[1])
    restore(project, before)
    run(project, KINDS[name], f"--specdec-update={update}")
    assert changed(before, project.stored) == set(written)


@pytest.mark.usefixtures("worse")
def test_changed_shows_old_and_new_lengths(project, created: dict[str, str]) -> None:
    def lengths() -> list[float]:
        return [
            load_baseline(project.pytester.path / "baselines" / name).as_counts().acceptance_length
            for name in CELLS
        ]

    old = lengths()
    result = project.run("--specdec-update=changed", ok=True)
    shown = [line.split() for line in result.outlines if line.endswith(" updated")]
    # k, depth, rate and its sign, length, speed-up, baseline, change and its sign, verdict
    assert [(line[4], line[6], line[7]) for line in shown] == [
        (f"{now:.3f}", f"{before:.3f}", f"{(now / before - 1) * 100:+.2f}")
        for before, now in zip(old, lengths(), strict=True)
    ]


@every_kind
def test_pruning_deletes_exactly_the_stale_files_or_is_refused_with_the_reason(
    project, littered: dict[str, str], kind: Kind
) -> None:
    result = run(project, kind, "--specdec-prune")
    gone = littered.keys() - project.stored.keys()
    if kind.partial is None:
        assert gone == (set() if kind.cut else {*STALE})
        assert {line for line in result.outlines if line.startswith("deleted ")} == {
            f"deleted baselines/{name}" for name in gone
        }
        assert "no test asks for" not in result.stdout.str()
    else:
        assert gone == set()
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        printed = result.stdout.str() + result.stderr.str()
        assert (
            printed.count(f"--specdec-prune needs a full run, and {kind.partial}; run whole suites")
            == 1
        )
        assert printed.count("--specdec-prune needs") == 1
    assert project.stored == without(littered, *gone)


@pytest.mark.usefixtures("worse", "warm_processes")
def test_two_workers_update_and_prune_as_one_process_does(
    project, littered: dict[str, str]
) -> None:
    """Everything at once: records of a worse drafter, texts that are missing and sampled again, and
    stale files.
    """
    before = without(littered, TEXTS, CELLS[1])
    reports = []
    after = []
    for workers in ("-n0", "-n2"):
        restore(project, before)
        result = project.run(workers, "--specdec-update=all", "--specdec-prune", ok=True)
        reports.append(
            [line for line in result.outlines if line.startswith(("wrote ", "deleted "))]
        )
        after.append(project.stored)
    assert after[0] == after[1]
    assert reports[0] == reports[1]
    assert changed(before, after[1]) == {
        *CELLS,
        TEXTS,
        *without(dict.fromkeys(STALE, ""), STALE[-1]),
    }
    assert STALE[-1] not in after[1]


@pytest.mark.usefixtures("warm_processes")
def test_two_workers_refuse_to_prune_once_where_tests_are_deselected(
    project, littered: dict[str, str]
) -> None:
    result = project.run("-n2", "-k", "k4", "--specdec-prune")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    printed = result.stdout.str() + result.stderr.str()
    assert (
        printed.count(
            "--specdec-prune needs a full run, and only 2 of 4 tests of the suites were selected"
        )
        == 1
    )
    assert project.stored == littered


@pytest.mark.usefixtures("worse", "warm_processes")
def test_an_interrupted_run_writes_and_deletes_nothing(project, littered: dict[str, str]) -> None:
    (project.pytester.path / STOPPER).write_text("def test_stop():\n    raise KeyboardInterrupt\n")
    result = project.pytester.runpytest_subprocess(
        "-p", "no:cacheprovider", "--specdec-update=all", "--specdec-prune"
    )
    assert result.ret == pytest.ExitCode.INTERRUPTED
    assert project.stored == littered
    result.stdout.fnmatch_lines(
        ["interrupted: none of * baseline files was written; run again to the end"]
    )


def test_pruning_under_another_engine_deletes_its_records_alone(
    project, littered: dict[str, str]
) -> None:
    project.run("--specdec-engine=decode", "--specdec-prune", ok=False)
    assert littered.keys() - project.stored.keys() == {
        "letters/tiny-draft-k5-depth0-t1-decode.json"
    }


def test_nothing_is_pruned_without_the_option_nor_by_an_update(
    project, littered: dict[str, str]
) -> None:
    project.run("--specdec-update=all", ok=True)
    assert littered.keys() <= project.stored.keys()


def test_a_run_without_cases_prunes_nothing(project, littered: dict[str, str]) -> None:
    project.write_test("def test_other(): pass\n")
    result = project.run("--specdec-prune")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    printed = result.stdout.str() + result.stderr.str()
    assert (
        printed.count(
            "--specdec-prune needs a full run, and no test of a suite was selected; run whole "
            "suites"
        )
        == 1
    )
    assert project.stored == littered
