"""The .html report's texts token by token, contexts and chain, from whole runs."""

from __future__ import annotations

import html
import re
from pathlib import Path

import pytest
from helpers.support import add_noise
from plugin.conftest import TEST, Project

NUMBERS = r"p ([\d.]+), q ([\d.]+), accepted ([\d.]+)(?:, before ([\d.]+))?"
INSTEAD = r"(?:, likeliest draft (.*) \(q ([\d.]+)\))?"


@pytest.fixture(autouse=True)
def one_case(project: Project) -> None:
    project.write_test(TEST.replace("k=[4, 8], depth=[0, 2]", "k=4, depth=0"))


def page(project: Project, *arguments: str) -> str:
    project.run("--specdec-report=out.html", *arguments)
    return (project.pytester.path / "out.html").read_text()


def test_tokens_are_accepted_with_q_over_p_and_those_before_are_the_baselines(
    project: Project, tmp_path: Path
) -> None:
    project.create()
    texts = re.findall(r'<p class="tokens">(.*?)</p>', page(project), re.S)
    assert len(texts) == 3
    for text in texts:
        titles = re.findall(r'<span[^>]*?(?: title="([^"]*)")?>', text)
        assert len(titles) == 24  # new tokens of a text
        drafted = [re.fullmatch(NUMBERS + INSTEAD, title, re.S) for title in titles if title]
        assert 20 <= len(drafted) <= 24
        assert any(found is not None and found[6] for found in drafted)
        for found in drafted:
            assert found is not None
            p, q, accept, before = map(float, found.groups()[:4])
            if found[6] is not None:  # no token is likelier than the likeliest draft
                assert float(found[6]) >= q
            assert accept == pytest.approx(min(1.0, q / p), abs=0.01 + 0.001 / p)
            assert before == pytest.approx(accept, abs=1 / 126 + 0.001)
    worse = add_noise(project.draft, tmp_path / "noisy", 0.1)
    changed = page(project, f"--specdec-draft={worse}")
    pairs = re.findall(NUMBERS, changed)
    assert sum(float(now) for _, _, now, _ in pairs) < sum(float(old) for *_, old in pairs)


def test_contexts_cover_every_draft(project: Project) -> None:
    project.create()
    (table,) = re.findall(
        r"Acceptance by length of the context</h3>(.*?)</table>", page(project), re.S
    )
    cells = [
        html.unescape(cell).split(" ± ")[0] for cell in re.findall(r"<td[^>]*>(.*?)</td>", table)
    ]
    rows = [cells[at : at + 5] for at in range(0, len(cells), 5)]
    drafts = sum(int(row[1]) for row in rows)
    assert 12 * 20 <= drafts <= 12 * 24
    assert [row[4].lstrip("+-") for row in rows] == ["0.00 %"] * len(rows) or all(
        float(row[4].rstrip(" %")) < 1 for row in rows
    )


def test_the_chain_has_the_baselines_before(project: Project, tmp_path: Path) -> None:
    project.create()
    assert "Chain of baselines" not in page(project)
    worse = add_noise(project.draft, tmp_path / "noisy", 0.1)
    project.write_test(TEST.replace("k=[4, 8], depth=[0, 2]", "k=4, depth=0"))
    project.run(f"--specdec-draft={worse}", "--specdec-update=changed", ok=True)
    (chain,) = re.findall(
        r"Chain of baselines</h3>(.*?)</table>", page(project, f"--specdec-draft={worse}"), re.S
    )
    lengths = [float(cell) for cell in re.findall(r"<td>([\d.]+)</td>", chain)]
    assert len(re.findall("<tr><td", chain)) == 2
    assert lengths == sorted(lengths, reverse=True)
