"""A type of drafter from another package, written as docs/add-a-drafter.md says."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from helpers.packages import example, installed
from helpers.support import LETTERS, llama

import pytest_specdec
from pytest_specdec.acceptance.rounds import Round
from pytest_specdec.cases.case import Sampling
from pytest_specdec.cases.drafter import (
    DRAFTER_TYPES,
    DraftModelSpec,
    RegisteredSpec,
    parse_drafter,
)
from pytest_specdec.common.errors import MeasurementError, RequestError
from pytest_specdec.decoding.decode import decode
from pytest_specdec.decoding.loading import LoadedModel, load_model
from pytest_specdec.decoding.replay import DrafterPlan, text_scores

pytestmark = pytest.mark.slow

PROMPTS = [[0, 2, 3, 4], [0, 5, 6], [0, 7, 8, 9, 10], [0, 11]]
POINTS = {DRAFTER_TYPES.group: "ngram-table = ngram_table"}


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    return load_model(str(llama(tmp_path_factory.mktemp("added") / "target", seed=3)), "cpu")


@pytest.fixture
def package(tmp_path: Path) -> Iterator[Path]:
    """The example of the page, as a separate package."""
    with installed(tmp_path / "site", "ngram_table", example("add-a-drafter.md"), POINTS):
        yield tmp_path


@pytest.fixture
def table(package: Path, target: LoadedModel) -> Path:
    """A folder of the type: what the target itself emits after each pair of its tokens."""
    texts = decode(target, None, PROMPTS, k=0, new_tokens=60, temperature=0).texts
    rows: dict[str, list[int]] = {}
    for text in texts:
        for at in range(2, len(text.ids) - 3):
            rows.setdefault(f"{text.ids[at - 2]} {text.ids[at - 1]}", list(text.ids[at : at + 3]))
    folder = package / "table"
    folder.mkdir()
    (folder / "config.json").write_text('{"drafter": "ngram-table"}')
    (folder / "table.json").write_text(json.dumps(rows))
    return folder


def test_replay_expects_the_rounds_that_decode_counts(target: LoadedModel, table: Path) -> None:
    """At temperature 0 both are exact: round for round the same."""
    decoded = decode(target, str(table), PROMPTS, k=3, new_tokens=60, temperature=0)
    counts = pytest_specdec.replay(target, str(table), decoded.texts, k=3, temperature=0)
    assert counts.acceptance_length > 1.5
    for name in ("rounds", "drafted", "accepted"):
        assert np.array_equal(getattr(counts, name), getattr(decoded.counts, name)), name


def test_decoding_with_it_emits_the_targets_own_text(target: LoadedModel, table: Path) -> None:
    plain = decode(target, None, PROMPTS, k=0, new_tokens=40, temperature=0)
    drafted = decode(target, str(table), PROMPTS, k=3, new_tokens=40, temperature=0)
    assert [text.ids for text in drafted.texts] == [text.ids for text in plain.texts]


def test_sampled_rounds_follow_replay(target: LoadedModel, table: Path) -> None:
    """The mean over seeds, to three standard errors over the texts."""
    cold = Sampling(0.3)
    decoded = decode(
        target, str(table), PROMPTS * 50, k=3, new_tokens=40, batch_size=200, temperature=0.3
    )
    (scores,) = text_scores(target, [DrafterPlan(str(table), 0, 3)], decoded.texts, cold)
    counts = pytest_specdec.replay(target, str(table), decoded.texts, k=3, temperature=0.3)
    assert scores.available is not None
    assert counts.acceptance_length > 1.1
    difference = decoded.counts.acceptance_length - counts.acceptance_length
    assert abs(difference) < 3 * decoded.counts.standard_error


def test_its_name_and_folder_may_be_given(target: LoadedModel, table: Path) -> None:
    named = f"ngram-table:{table}"
    assert parse_drafter(named) == RegisteredSpec("ngram-table", table)
    assert str(parse_drafter(named)) == named
    texts = decode(target, named, PROMPTS, k=3, new_tokens=40, temperature=0).texts
    counts = [
        pytest_specdec.replay(target, name, texts, k=3, temperature=0)
        for name in (named, str(table))
    ]
    assert counts[0].acceptance_length == counts[1].acceptance_length


def test_what_its_check_refuses_costs_no_loading(
    target: LoadedModel, table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "pytest_specdec.decoding.loading.load_model", lambda *arguments: pytest.fail("loaded")
    )
    folder = str(target.checkpoint.folder)
    with pytest.raises(RequestError, match="a table has no MTP layers; use --specdec-depth=0"):
        pytest_specdec.replay(folder, str(table), [], k=3, depth=1)
    (table / "table.json").unlink()
    with pytest.raises(RequestError, match=r"has no table\.json; name a folder with one"):
        pytest_specdec.replay(folder, str(table), [], k=3)


@pytest.mark.parametrize("drafts", [[99], [-1], [1, 1, 1, 1]])
def test_drafts_that_cannot_be_verified_are_refused(
    target: LoadedModel, table: Path, drafts: list[int]
) -> None:
    rows = json.loads((table / "table.json").read_text())
    (table / "table.json").write_text(json.dumps(dict.fromkeys(rows, drafts)))
    import ngram_table

    ngram_table.Table.propose = lambda self, k: self.table.get(tuple(self.tokens[-2:]), [])
    with pytest.raises(MeasurementError, match=r"correct its propose\(k\)"):
        decode(target, str(table), PROMPTS, k=3, new_tokens=40, temperature=0)


def test_nothing_is_read_for_a_name_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DRAFTER_TYPES, "added", lambda: pytest.fail("read"))
    for name in ("mtp", "prompt-lookup", "served", "/models/draft", "owner/name"):
        assert str(parse_drafter(name)) == name


def test_a_name_that_is_not_registered_is_a_model() -> None:
    assert parse_drafter("ngram-table") == DraftModelSpec("ngram-table")


def test_a_package_that_cannot_be_imported_is_named(tmp_path: Path, target: LoadedModel) -> None:
    with (
        installed(
            tmp_path, "broken", "import nothing_of_this_name", {DRAFTER_TYPES.group: "bad = broken"}
        ),
        pytest.raises(RequestError, match=r"'bad' of broken 1\.0 cannot be imported"),
    ):
        decode(target, "bad", PROMPTS, k=3)


def test_two_packages_of_one_name_are_refused(tmp_path: Path, target: LoadedModel) -> None:
    with (
        installed(tmp_path / "one", "first", "", {DRAFTER_TYPES.group: "same = first"}),
        installed(tmp_path / "two", "second", "", {DRAFTER_TYPES.group: "same = second"}),
        pytest.raises(RequestError, match=r"'same' is registered by first 1\.0 and by second 1\.0"),
    ):
        decode(target, "same", PROMPTS, k=3)


def test_a_name_that_is_no_part_of_file_names_is_refused(
    tmp_path: Path, target: LoadedModel
) -> None:
    with (
        installed(tmp_path, "odd", "", {DRAFTER_TYPES.group: "a/b = odd"}),
        pytest.raises(RequestError, match=r"odd 1\.0 registers the type of drafter 'a/b', which"),
    ):
        decode(target, "same", PROMPTS, k=3)


SUITE = """
import pytest

@pytest.mark.specdec(target={target!r}, drafter={drafter!r}, k=[3], new_tokens=24)
def test_drafter(specdec_run, specdec_baseline):
    assert specdec_run == specdec_baseline
"""


def write_suite(pytester: pytest.Pytester, target: LoadedModel, drafter: str) -> None:
    folder = pytester.mkdir("suite")
    lines = [json.dumps({"category": "letters", "prompt": letter * 2}) for letter in LETTERS[:24]]
    (folder / "prompts.jsonl").write_text("\n".join(lines))
    text = SUITE.format(target=str(target.checkpoint.folder), drafter=drafter)
    (folder / "test_suite.py").write_text(text)


def test_a_session_gates_it(pytester: pytest.Pytester, target: LoadedModel, table: Path) -> None:
    """From the first record to a drop: another table is a changed drafter that the gate judges."""
    write_suite(pytester, target, str(table))
    greedy = "--specdec-temperature=0"
    pytester.runpytest(greedy, "--specdec-update=new").assert_outcomes(passed=1)
    pytester.runpytest(greedy).assert_outcomes(passed=1)
    (path,) = pytester.path.glob("baselines/**/table-k3-depth0-t0.json")
    stored = json.loads(path.read_text())
    assert stored["conditions"]["drafter"] == "ngram-table"
    assert stored["fingerprints"]["drafter"].startswith("ngram-table-")
    rows = json.loads((table / "table.json").read_text())
    worse = {key: [drafts[0], 0, 0] for key, drafts in rows.items()}
    (table / "table.json").write_text(json.dumps(worse))
    result = pytester.runpytest(greedy)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*regressed*"])


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--specdec-engine=transformers", "engine 'transformers' does not draft with*"),
        ("--specdec-judged=5:9", "--specdec-judged does not go with the drafter 'ngram-table'*"),
        ("--specdec-costs=measure", "--specdec-costs=measure does not time 'ngram-table'*"),
    ],
)
def test_a_session_refuses_what_it_does_not_draft_for(
    pytester: pytest.Pytester, target: LoadedModel, table: Path, option: str, message: str
) -> None:
    write_suite(pytester, target, f"ngram-table:{table}")
    result = pytester.runpytest(option)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"*{message}"])


def test_rounds_end_where_the_table_has_nothing(target: LoadedModel, table: Path) -> None:
    (table / "table.json").write_text("{}")
    decoded = decode(target, str(table), [[0, 2]], k=3, new_tokens=4, temperature=0)
    assert decoded.rounds == ((Round(3, 0, 0), Round(4, 0, 0), Round(5, 0, 0)),)
