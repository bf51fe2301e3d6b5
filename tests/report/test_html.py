"""The HTML page: whole, self-contained, escaped, and with every number, charts or none."""

from __future__ import annotations

import html
import re
import sys
from html.parser import HTMLParser

import pytest
from helpers.records import row
from helpers.report_rows import DIAGNOSIS, FACTS, needs_plots, session_rows
from report.test_curves import GRID

from pytest_specdec.report import render
from pytest_specdec.report.attachments import Attachment, attachment_rows
from pytest_specdec.report.drawing import Drawer

NASTY = "<script>alert(1)</script>&\"'"
VOID = {"meta", "br", "img", "link"}


class Tags(HTMLParser):
    """Checks that tags are closed in order, and collects them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def page(rows: list) -> str:
    return render(".html", rows)


def test_tags_are_closed_and_nothing_is_loaded() -> None:
    text = page([*GRID, row()])
    tags = Tags(text).seen
    assert {"table", "figure", "nav", "main"} <= {tag for tag, _ in tags}
    assert not {"script", "img", "iframe"} & {tag for tag, _ in tags}
    loaded = [
        attributes[name] or ""
        for _, attributes in tags
        for name in ("src", "href")
        if name in attributes
    ]
    assert loaded
    assert all(address.startswith(("#", "data:")) for address in loaded)
    assert "http:" not in text
    assert "https:" not in text
    assert "url(" not in text


def test_places_that_the_page_leads_to_exist_once() -> None:
    text = page([*GRID, row(id="text/other-k8-depth0-t1", attachments=ATTACHMENTS)])
    tags = Tags(text).seen
    ids = [attributes["id"] for _, attributes in tags if "id" in attributes]
    assert len(set(ids)) == len(ids)
    assert {
        address[1:]
        for _, attributes in tags
        if (address := attributes.get("href") or "").startswith("#")
    } <= set(ids)


SAMPLES = {
    "count": 3,
    **{
        name: {"mean": 0.5, "deviation": None, "least": 0.1, "most": 0.9}
        for name in ("rate", "accepted", "drafted")
    },
    "survival": [0.9, None],
    "worst": [{"prompt": "p0", "text": NASTY, "category": NASTY, "accepted": 0.1}],
}
ATTACHMENTS = attachment_rows(
    [
        Attachment(title=NASTY, media_type="audio/wav", content=b"RIFF", alternative_text=NASTY),
        Attachment(title=NASTY, media_type="image/png", content=b"\x89PNG", alternative_text=NASTY),
        Attachment(title=NASTY, media_type="text/plain", content=NASTY.encode()),
    ]
)


@pytest.mark.parametrize("language", ["en", "zh"])
def test_chapters_and_attachments_are_closed_escaped_and_inside_the_page(language: str) -> None:
    text = render(".html", [row(samples=SAMPLES, attachments=ATTACHMENTS)], language)
    assert isinstance(text, str)
    tags = Tags(text).seen
    sources = [attributes["src"] or "" for _, attributes in tags if "src" in attributes]
    assert sources == ["data:audio/wav;base64,UklGRg==", "data:image/png;base64,iVBORw=="]
    assert ("html", {"lang": language}) in tags
    assert "<script>" not in text
    assert text.count("&lt;script&gt;") >= 6
    assert ("Assessment" in text, "评估" in text) == (language == "en", language == "zh")


@pytest.mark.parametrize("field", ["suite", "reason", "verdict"])
def test_what_comes_from_users_is_escaped(field: str) -> None:
    text = page([row(**{field: NASTY, "changed": [NASTY]})])
    assert "<script>" not in text
    assert "&lt;script&gt;" in text
    Tags(text)


def test_every_case_is_a_line_and_failures_are_explained() -> None:
    text = page(
        [
            *GRID,
            row(verdict="regressed", reason="fell"),
            row(id="text/draft-k2-depth0-t1", verdict="pass"),
        ]
    )
    (table,) = re.findall(r'<section id="summary".*?</table>', text, re.S)
    assert table.count("<tr>") == 1 + 6
    assert re.findall(r"[^ ]</span> (\w+)</span></td>", table).count("pass") == 1
    (failures,) = re.findall(r'<section id="failures".*?</section>', text, re.S)
    assert "fell" in failures
    assert "text/draft-k2-depth0-t1" not in failures


def test_verdicts_are_counted_gravest_first_with_a_sign() -> None:
    text = page([*GRID, row(verdict="pass", id="text/b"), row(verdict="error", id="text/c")])
    (totals,) = re.findall(r'<ul class="totals">(.*?)</ul>', text, re.S)
    assert re.sub(r"<[^>]+>", "", totals).split() == [
        "1",
        "!",
        "error",
        "4",
        "✗",
        "regressed",
        "1",
        "✓",
        "pass",
    ]


def test_the_diagnosis_stands_as_the_terminal_has_it() -> None:
    text = page([row(diagnosis=DIAGNOSIS)])
    (shown,) = re.findall(r"<pre[^>]*Diagnosis[^>]*>(.*?)</pre>", text, re.S)
    assert html.unescape(shown).split("\n") == DIAGNOSIS


def test_positions_and_categories_stand_beside_the_baseline() -> None:
    text = page(
        [
            row(
                survival=[0.8],
                conditional=[0.8],
                survival_error=[0.01],
                conditional_error=[None],
                categories={"code": 4.0, "prose": 5.0},
                category_errors={"code": 0.1, "prose": None},
                baseline={
                    "acceptance_length": 5.1,
                    "survival": [0.9],
                    "conditional": [0.9],
                    "survival_error": [0.02],
                    "conditional_error": [0.02],
                    "categories": {"code": 5.0},
                    "category_errors": {"code": 0.1},
                },
            )
        ]
    )
    cells = re.findall(r"<tr>(.*?)</tr>", text)
    words = [re.sub(r"<[^>]+>", "|", line).strip("|").split("||") for line in cells]
    assert [
        "1",
        "0.800 ± 0.020",
        "0.900 ± 0.039",
        "-11.11 %",
        "0.800",
        "0.900 ± 0.039",
        "-11.11 %",
    ] in words
    assert ["code", "4.000 ± 0.196", "5.000 ± 0.196", "-20.00 %"] in words
    assert ["prose", "5.000", "-", "-"] in words


def test_the_speed_up_table_marks_the_best_and_says_where_it_stops_paying() -> None:
    text = page(GRID)
    assert re.findall(r'<td class="best"[^>]*>([^<]+)<', text) == ["1.80x"]
    assert "MTP=3: fastest at k=4 (1.80x); more drafts stop paying at k=8." in text
    assert "MTP=0: fastest at k=8 (1.50x), the largest k measured" in text


def test_checks_facts_environment_and_definitions_are_there() -> None:
    checks = [
        {"name": "oracle", "passes": True, "message": "every round"},
        {"name": "conformance", "passes": False, "message": NASTY},
    ]
    text = render(".html", [row(checks=checks)], facts=FACTS)
    (table,) = re.findall(r'<section id="checks".*?</section>', text, re.S)
    assert table.index("holds") < table.index(">oracle<") < table.index("violated")
    (session,) = re.findall(r'<section id="session".*?</section>', text, re.S)
    for fact in (FACTS["command"], FACTS["date"], FACTS["commit"], "3.11.9", "torch 2.13.0"):
        assert fact in session
    (terms,) = re.findall(r'<section id="definitions".*?</section>', text, re.S)
    assert terms.count("<dt>") == terms.count("<dd>") == 11


def test_without_the_extra_the_page_is_whole_and_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "vl_convert", None)
    text = page(GRID)
    Tags(text)
    assert (
        "Without charts: vl_convert is not installed; pip install &#39;pytest-specdec[plots]&#39;"
        in text
    )
    assert "<svg" not in text
    assert "1.80x" in text


def test_charts_beyond_the_limit_are_those_of_the_mildest_verdicts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    drawn: list[str] = []

    class Drawn(Drawer):
        def __init__(self) -> None:
            self.missing, self.left_out = "", 7

        def __call__(self, spec: object, title: str) -> str:
            drawn.append(title)
            return ""

    monkeypatch.setattr("pytest_specdec.report.html.Drawer", Drawn)
    text = page([row(id="text/a", verdict="pass"), row(id="text/b", verdict="regressed")])
    assert drawn[:4] == [
        f"{name}: text/{case}" for case in "ba" for name in ("survival", "conditional acceptance")
    ]
    assert "7 charts of cases with the mildest verdicts are left out" in text


@needs_plots
def test_a_report_of_sixteen_cases_is_small_whole_and_asks_for_nothing() -> None:
    text = render(".html", session_rows(), facts=FACTS)
    assert len(text.encode()) < 3e6
    tags = Tags(text).seen
    charts = [attributes for tag, attributes in tags if tag == "svg"]
    assert len(charts) == 16 * 3 + 2
    assert len({chart["aria-label"] for chart in charts}) == len(charts)
    assert not any((attributes.get("href") or "#").startswith("http") for _, attributes in tags)
    assert not {"script", "image", "foreignObject", "a-elsewhere"} & {tag for tag, _ in tags}


@needs_plots
def test_hostile_names_stay_text_in_charts() -> None:
    names = {NASTY: 4.0, "'); alert(1); ('": 5.0, "${1+1}": 4.0}
    text = page(
        [row(categories=names, category_errors=dict.fromkeys(names, 0.1), id=f"{NASTY}/{NASTY}")]
    )
    assert "<script>" not in text
    tags = Tags(text).seen
    assert {"svg", "text"} <= {tag for tag, _ in tags}
    assert not any(name.startswith("on") for _, attributes in tags for name in attributes)


@pytest.mark.parametrize(
    "field", ["drafter", "target", "rule", "judged", "engine", "reason", "verdict", "suite"]
)
@pytest.mark.parametrize("language", ["en", "zh"])
def test_chapters_escape_what_they_quote(field: str, language: str) -> None:
    text = render(
        ".html", [row(samples=SAMPLES, attachments=ATTACHMENTS, **{field: NASTY})], language
    )
    assert isinstance(text, str)
    assert "<script>" not in text
    tags = Tags(text).seen
    assert not {"script", "iframe", "object"} & {tag for tag, _ in tags}
    assert not any(name.startswith("on") for _, attributes in tags for name in attributes)
    assert all((attributes.get("src") or "data:").startswith("data:") for _, attributes in tags)


def test_attachments_that_cases_share_are_shown_once() -> None:
    other = [{**ATTACHMENTS[0], "content": "AAAA"}]
    rows = [row(id=f"text/draft-k{k}-depth0-t1", k=k, attachments=ATTACHMENTS) for k in (4, 8)]
    assert page(rows).count("<audio") == 1
    another = row(id="text/other-k4-depth0-t1", k=4, attachments=other)
    assert page([*rows, another]).count("<audio") == 2
    assert page([row()]).count("<audio") == 0


def test_control_characters_of_an_attached_text_are_made_visible() -> None:
    content = b"a\x1b[31mb\nc"
    attached = attachment_rows([Attachment(title="t", media_type="text/plain", content=content)])
    text = page([row(attachments=attached)])
    assert "\x1b" not in text
    assert "b\nc" in text


def test_accumulated_runs_are_listed_with_their_evidence() -> None:
    nights = [
        {"length": 3.1, "p_value": 0.4, "evidence": 0.9},
        {"length": 2.9, "p_value": 0.001, "evidence": 12.5},
    ]
    text = page([row(nights=nights, evidence=12.5, evidence_limit=1600.0)])
    assert "Evidence over the accumulated runs" in text
    assert "evidence of 1600 fails the case" in text
    cells = ("2", "2.9000", "0.0010", "12.500")
    assert "".join(f"<td>{cell}</td>" for cell in cells) in text.replace(
        '<td class="word">', "<td>"
    )
    assert "Evidence over" not in page([row()])


def test_only_pairs_with_samples_have_a_chapter() -> None:
    assert "Conclusions" not in page([row()])
    text = page([row(samples=SAMPLES), row(id="text/other-k8-depth0-t1")])
    assert text.count("Conclusions") == 1
    assert "text/draft-t1</h2>" in text


def test_tokens_are_shaded_by_acceptance_and_say_their_probabilities() -> None:
    def token(
        accept: float | None, before: float | None = None, instead: str | None = None
    ) -> dict[str, object]:
        known = None if accept is None else 0.25
        return {
            "text": NASTY,
            "target": known,
            "draft": known,
            "accept": accept,
            "before": before,
            "instead": instead,
            "instead_draft": None if instead is None else 0.7,
        }

    tokens = [token(None), token(1.0), token(0.0, instead=NASTY), token(0.6, before=0.8)]
    shown = {"prompt": NASTY, "category": NASTY, "length": 2.0, "before": 2.5, "more": 3}
    text = page([row(token_texts=[{**shown, "tokens": tokens}])])
    Tags(text)
    assert "<script>" not in text
    (spans,) = re.findall(r'<p class="tokens">(.*?)</p>', text, re.S)
    found = re.findall(r'<span(?: class="shade-(\d)")?(?: title="([^"]*)")?>', spans)
    assert [(shade, html.unescape(says)) for shade, says in found[:4]] == [
        ("", ""),
        ("", "p 0.250, q 0.250, accepted 1.000"),
        (
            "5",
            f"p 0.250, q 0.250, accepted 0.000, likeliest draft {NASTY} (q 0.700)",
        ),
        ("2", "p 0.250, q 0.250, accepted 0.600, before 0.800"),
    ]
    assert "acceptance length 2.000 (before: 2.500)" in text
    assert "and 3 more tokens" in text
