"""The hook pytest_specdec_attachments and the fixture specdec_texts, through pytest itself."""

from __future__ import annotations

import json
from typing import Any

import pytest

TEST = """
import pytest

@pytest.mark.specdec(target={target!r}, drafter={draft!r}, k=4, depth=0, new_tokens=24)
class TestLetters:
    def test_acceptance(self, specdec_run, specdec_baseline):
        assert specdec_run == specdec_baseline

    def test_texts(self, request, specdec_texts):
        request.node.stash["ids"] = specdec_texts[0].ids
        assert len(specdec_texts) == 12
        assert len(specdec_texts[0].ids) == specdec_texts[0].prompt_length + 24
"""
CONFTEST = """
from pytest_specdec import Attachment

def pytest_specdec_attachments(item, case):
    if "ids" in item.stash:
        content = f"{case.id}: {item.stash['ids']}".encode()
        return [Attachment(title="first text", media_type="text/plain", content=content)]
"""


@pytest.fixture
def attaching(project) -> Any:
    project.write_test(TEST)
    write_conftest(project, CONFTEST)
    return project


def write_conftest(project: Any, text: str, folder: str = "suites/letters") -> None:
    path = project.pytester.path / folder
    path.mkdir(parents=True, exist_ok=True)
    (path / "conftest.py").write_text(text)


@pytest.mark.usefixtures("warm_processes")
@pytest.mark.parametrize("workers", ["-n0", "-n2"])
def test_attachments_reach_the_page(attaching, workers: str) -> None:
    attaching.create(workers, "--specdec-report=out.html", "--specdec-report=out.json")
    page = (attaching.pytester.path / "out.html").read_text()
    assert page.count("<summary>first text</summary>") == 1
    assert "letters/tiny-draft-k4-depth0-t1: (" in page
    (row,) = json.loads((attaching.pytester.path / "out.json").read_text())["cases"]
    assert "attachments" not in row


def test_the_texts_are_those_that_are_stored(attaching) -> None:
    attaching.create("--specdec-report=out.html")
    page = (attaching.pytester.path / "out.html").read_text()
    stored = json.loads(attaching.baselines["letters/texts/t1-n24-s0.json"])["texts"]
    assert any(", ".join(map(str, new)) in page for new in stored.values())


def test_a_suite_is_not_asked_for_another_suites_cases(attaching) -> None:
    write_conftest(attaching, CONFTEST.replace('"ids" in item.stash', "True"), "suites/others")
    result = attaching.run("--specdec-update=new", "--specdec-report=out.html", "suites", ok=True)
    result.assert_outcomes(passed=2)


def test_texts_alone_give_a_row_that_is_not_judged(attaching) -> None:
    (row,) = attaching.report("-k", "texts")
    assert (row["verdict"], row["samples"]["count"]) == ("not judged", 12)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("--specdec-k=40",), "no text is long enough"),
        (("--specdec-judged=0:32:2",), "the texts do not consist of steps of 2 tokens"),
    ],
)
def test_a_case_whose_texts_are_read_and_that_cannot_be_measured_is_an_error_in_the_report(
    attaching, arguments: tuple[str, ...], reason: str
) -> None:
    result = attaching.run(
        "-k", "texts", "--specdec-report=out.html", "--specdec-report=out.json", *arguments
    )
    result.assert_outcomes(passed=1, deselected=1)
    assert "<summary>first text</summary>" in (attaching.pytester.path / "out.html").read_text()
    (row,) = json.loads((attaching.pytester.path / "out.json").read_text())["cases"]
    assert row["verdict"] == "error"
    assert reason in row["reason"]


def test_attachments_of_a_failed_test_are_shown_too(attaching) -> None:
    attaching.write_test(TEST.replace("== 12", "== 13"))
    attaching.run("-k", "texts", "--specdec-report=out.html", ok=False)
    assert "<summary>first text</summary>" in (attaching.pytester.path / "out.html").read_text()


@pytest.mark.parametrize(
    ("returned", "complaint"),
    [
        ("[3]", "int is not an attachment; return pytest_specdec.Attachment objects"),
        (
            "[Attachment(title='a', media_type='text/html', content=b'a')]",
            "attachment 'a': media type 'text/html' is not shown; use one of *",
        ),
        ("missing", "raised:"),
        ("3", "raised:"),
    ],
)
def test_an_invalid_attachment_fails_the_test_and_names_the_hook(
    attaching, returned: str, complaint: str
) -> None:
    write_conftest(
        attaching,
        "from pytest_specdec import Attachment\n\n"
        f"def pytest_specdec_attachments(case):\n    return {returned}\n",
    )
    result = attaching.run("-k", "texts", "--specdec-report=out.html", ok=False)
    result.assert_outcomes(failed=1, deselected=1)
    result.stdout.fnmatch_lines(
        [f"pytest_specdec_attachments of letters/tiny-draft-k4-depth0-t1*{complaint}"]
    )
    assert "<h2>Attachments" not in (attaching.pytester.path / "out.html").read_text()


def test_without_a_page_nothing_is_attached(attaching) -> None:
    write_conftest(attaching, "def pytest_specdec_attachments(case):\n    return [3]\n")
    result = attaching.run("-k", "texts", "--specdec-report=out.json", ok=True)
    result.assert_outcomes(passed=1, deselected=1)


def test_a_failed_test_keeps_its_message_beside_that_of_the_hook(attaching) -> None:
    attaching.write_test(TEST.replace("== 12", "== 13"))
    write_conftest(attaching, "def pytest_specdec_attachments(case):\n    return [3]\n")
    result = attaching.run("-k", "texts", "--specdec-report=out.html", ok=False)
    result.stdout.fnmatch_lines(
        ["*assert 12 == 13*", "*int is not an attachment; return pytest_specdec.Attachment*"]
    )
