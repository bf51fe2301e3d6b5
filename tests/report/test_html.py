"""The HTML page: whole, self-contained, escaped, and drawn to scale."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest
from helpers.records import row
from report.test_curves import GRID

from pytest_specdec.report import render
from pytest_specdec.report.attachments import Attachment, attachment_rows
from pytest_specdec.report.curves import pictures
from pytest_specdec.report.html import HEIGHT, MARGIN, WIDTH, Axes

NASTY = "<script>alert(1)</script>&\"'"
VOID = {"meta", "br", "img"}


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
    assert {"table", "svg", "figure"} <= {tag for tag, _ in tags}
    assert not {"script", "link", "img", "iframe"} & {tag for tag, _ in tags}
    assert not any({"src", "href"} & set(attributes) for _, attributes in tags)
    assert "http" not in text


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
    assert text.count("<tr>") == 1 + 6
    assert '<td class="regressed">regressed</td>' in text
    assert "fell" in text


def test_points_lie_where_their_numbers_say() -> None:
    (picture,) = pictures(GRID)
    axes = Axes.of(picture)
    assert (axes.x(4), axes.x(8)) == (MARGIN, WIDTH - MARGIN)
    assert axes.y(0) == HEIGHT - MARGIN
    assert axes.y(axes.top) == MARGIN
    assert axes.top > max(point.high for point in picture.points)
    assert axes.marks() == [0.0, 0.5, 1.0, 1.5]
    circles = [attributes for tag, attributes in Tags(page(GRID)).seen if tag == "circle"]
    ringed = [circle for circle in circles if circle["r"] == "8"]
    assert len(circles) == 5
    assert [(float(circle["cx"] or 0), float(circle["cy"] or 0)) for circle in ringed] == [
        (axes.x(4), axes.y(1.8))
    ]


def test_a_line_goes_through_each_curve_in_order_of_k() -> None:
    lines = re.findall(r'<polyline points="([^"]+)"', page(GRID))
    assert len(lines) == 2
    for line in lines:
        places = [float(point.split(",")[0]) for point in line.split()]
        assert places == sorted(places)


def test_without_speedups_there_is_no_picture() -> None:
    assert "<svg" not in page([row(speedup=None, speedup_interval=[])])


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
    assert not {"script", "link", "iframe", "object"} & {tag for tag, _ in tags}
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


def test_only_pairs_with_samples_have_a_chapter() -> None:
    assert "Each combination" not in page([row()])
    text = page([row(samples=SAMPLES), row(id="text/other-k8-depth0-t1")])
    assert text.count("<summary>") == 1
    assert "text/draft-t1</h2>" in text
