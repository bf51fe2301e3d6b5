"""The acceptance report as text: every line of the hand-written one it replaces, and no praise that
numbers do not carry.
"""

from __future__ import annotations

import re
from typing import Any

import pytest
from helpers.records import row

from pytest_specdec.report import render
from pytest_specdec.report.chapters import chapters, figures
from pytest_specdec.report.row import ReportRow
from pytest_specdec.speedup.grid_summary import GridSummary

PUBLISHED = {
    4: (0.8609, 3.44, 0.9124),
    8: (0.6341, 5.07, 0.7153),
    12: (0.4597, 5.52, 0.5210),
    16: (0.3520, 5.63, 0.3984),
}
"""The published report's mean rate, mean expected accepted and largest rate at each k."""


def spread(mean: float, most: float) -> dict[str, float]:
    return {"mean": mean, "deviation": 0.01, "least": 0.1, "most": most}


def cell(k: int, depth: int = 3, **more: Any) -> ReportRow:
    rate, accepted, most = PUBLISHED[k]
    samples = {
        "count": 1000,
        "rate": spread(rate, most),
        "accepted": spread(accepted, most * k),
        "drafted": spread(k, k),
        "survival": [0.9] * k,
        "worst": [{"prompt": "p7", "text": "'h<a1>'", "category": "home", "accepted": 0.25}],
    }
    times = {
        "draft_ms": 371.22,
        "verify_ms": 93.76,
        "tokens_per_second": 10.0 - abs(k - 12) / 10,
        "target_ms": 90.0,
    }
    name = {
        "id": f"audio/voice-k{k}-depth{depth}-t1",
        "suite": "audio",
        "k": k,
        "depth": depth,
        "samples": samples,
    }
    return row(
        **{
            **name,
            **times,
            "speedup": 2.5,
            "speedup_interval": [2.4, 2.6],
            "judged": "31:287:2",
            **more,
        }
    )


GRID = [cell(k) for k in PUBLISHED]


def text(rows: list[ReportRow], language: str = "en") -> str:
    rendered = render(".txt", rows, language)
    assert isinstance(rendered, str)
    return rendered


@pytest.mark.parametrize(
    "line",
    [
        "测试样本数: 4000",
        "测试的k值: [4, 8, 12, 16]",
        "测试的MTP层数: [3]",
        "总体平均接受率: 57.67%",
        "MTP Layers = 3",
        "平均值: 86.09%",
        "最小值: 10.00%",
        "最大值: 91.24%",
        "标准差: 1.00%",
        "平均值: 3.44",
        "Draft时间中位数: 371.22ms",
        "Verify时间中位数: 93.76ms",
        "接受效率: 86.09%",
        "MTP=3: 平均接受率 57.67%",
    ],
)
def test_the_published_reports_lines_stand_in_ours(line: str) -> None:
    assert line in text(GRID, "zh")


def test_overall_means_weigh_combinations_by_their_samples() -> None:
    summary = GridSummary(tuple(map(figures, GRID)))
    assert summary.mean_rate == pytest.approx(0.576675)
    assert summary.mean_accepted == pytest.approx(4.915)
    few = cell(4)
    assert few["samples"] is not None
    few["samples"]["count"] = 0
    assert GridSummary((figures(few), figures(cell(8)))).mean_rate == pytest.approx(0.6341)
    assert GridSummary((figures(few),)).mean_rate is None


def test_means_are_called_best_and_the_largest_sample_stands_beside_them() -> None:
    shown = text(GRID)
    assert (
        "Highest mean acceptance rate: k=4, MTP=3, 86.09% (largest single sample 91.24%)" in shown
    )
    assert "Highest mean expected accepted: k=16, MTP=3, 5.63 (largest single sample 6.37)" in shown
    assert "Highest throughput: k=12, MTP=3, 10.0 tokens/s" in shown


@pytest.mark.parametrize(
    ("interval", "word"),
    [
        ([2.0, 2.6], "excellent"),
        ([1.99, 2.6], "worth it"),
        ([0.9, 2.6], "undecided"),
        ([0.5, 0.99], "slower than plain decoding"),
    ],
)
def test_praise_needs_an_interval_that_carries_it(interval: list[float], word: str) -> None:
    shown = text([cell(4, speedup_interval=interval)])
    assert re.search(
        rf"decodes at 2\.50x plain decoding .*: {word}\.\nCalled excellent .* 2x or above, worth "
        rf"it above 1x\.",
        shown,
    )


def test_where_no_combination_beats_plain_decoding_the_advice_is_not_to_draft() -> None:
    advice = "Do not draft: no combination is faster than plain decoding."
    assert advice in text([cell(4, speedup=0.99), cell(8, speedup=0.7)])
    assert advice not in text([cell(4, speedup=1.01), cell(8, speedup=0.7)])


def test_conclusions_compare_whole_requests_where_every_combination_has_them() -> None:
    whole = [
        cell(4, request_length=4.0, request_speedup=2.2, request_speedup_interval=[2.1, 2.3]),
        cell(8, request_length=3.0, request_speedup=1.1, request_speedup_interval=[1.0, 1.2]),
    ]
    shown = text(whole)
    assert "Highest throughput: k=4, MTP=3" in shown
    assert "k=4, MTP=3 decodes at 2.20x plain decoding (95 %: 2.10 to 2.30)" in shown
    assert (
        "Whole texts: 4.000 tokens per pass of the target, speed-up 2.20x (theoretical, 95 %: 2.10 "
        "to 2.30)" in shown
    )
    other = (
        "Each k counts only rounds with room for k drafts, so a larger k looks better than it is."
    )
    assert other not in shown
    assert other in text([whole[0], cell(8)])


def test_without_times_there_is_no_praise() -> None:
    silent = cell(
        4, draft_ms=None, verify_ms=None, tokens_per_second=None, speedup=None, speedup_interval=[]
    )
    shown = text([silent])
    assert "Assessment: none, no times are known" in shown
    assert "best throughput -" in shown
    assert "excellent" not in shown


def test_worst_samples_survival_and_pooled_figures_are_reported() -> None:
    shown = text([cell(4)])
    assert "home 'h<a1>': 0.25 accepted" in shown
    assert "0.900 0.900 0.900 0.900" in shown
    assert (
        "Acceptance rate 50.00%, expected accepted 4.000, acceptance length 5.000 in 80 rounds"
        in shown
    )
    assert "ids 31:287:2" in shown


def test_an_engine_without_samples_still_has_its_pooled_figures() -> None:
    shown = text([row()])
    assert "acceptance length 5.000" in shown
    assert "Samples: 0" in shown
    assert "Minimum" not in shown


def test_each_pair_and_temperature_is_a_chapter_by_depth_and_k() -> None:
    other = cell(4, depth=1)
    (chapter,) = chapters([*GRID, other])
    assert list(chapter.depths) == [1, 3]
    assert chapter.ks == [4, 8, 12, 16]
    assert [chapter.name for chapter in chapters([cell(4), row()])] == [
        "audio/voice-t1",
        "text/draft-t1",
    ]


def test_cases_that_were_not_measured_have_no_chapter() -> None:
    assert chapters([row(rounds=None)]) == []
    assert text([row(rounds=None)]) == "\n"


def test_one_chapter_equals_the_published_one_line_by_line() -> None:
    """The order of its parts: what was measured, overall, each k at each depth, conclusions."""
    shown = text([*GRID, cell(4, depth=1)])
    heads = [
        "Acceptance of speculative decoding: audio/voice-t1",
        "Drafter: draft | Target: target",
        "What was measured:",
        "Overall:",
        "Samples: 5000",
        "k: [4, 8, 12, 16]",
        "MTP layers: [1, 3]",
        "Each combination",
        "MTP layers = 1",
        "k = 4:",
        "MTP layers = 3",
        "k = 4:",
        "k = 8:",
        "k = 12:",
        "k = 16:",
        "Conclusions",
        "Effect of the number of MTP layers:",
        "  MTP=1: ",
        "  MTP=3: ",
        "Assessment: ",
    ]
    at = 0
    for head in heads:
        at = shown.index(f"\n{head}", at) + 1
    for name in ("Acceptance rate", "Expected accepted", "Drafted tokens"):
        assert shown.count(f"  [{name}]\n    Mean: ") == 5
    assert all(
        shown.count(f"    {name}: ") == 3 * 5
        for name in ("Standard deviation", "Minimum", "Maximum")
    )


def test_a_combination_has_every_figure_of_its_row() -> None:
    written = text([cell(4)])
    for line in (
        "Samples: 1000",
        "Mean: 86.09%",
        "Standard deviation: 1.00%",
        "Minimum: 10.00%",
        "Maximum: 91.24%",
        "Mean: 3.44",
        "Standard deviation: 0.01",
        "Minimum: 0.10",
        "Maximum: 3.65",
        "Mean: 4.0",
        "Efficiency: 86.09%",
        "Draft, median: 371.22 ms",
        "Verify, median: 93.76 ms",
        "Throughput: 9.2 tokens/s",
        "Speed-up: 2.50x (theoretical, 95 %: 2.40 to 2.60)",
        "regressed (-1.96 %): fell",
    ):
        assert f"  {line}" in written


@pytest.mark.parametrize("rule", ["rejection", "sample-match", "greedy", "block", "typical"])
@pytest.mark.parametrize("language", ["en", "zh"])
def test_every_rule_has_its_formula_or_its_name(rule: str, language: str) -> None:
    formula = {
        "rejection": "min(1, p(x)/q(x))",
        "sample-match": "p(x)",
        "greedy": "argmax p",
        "block": "block verification",
    }
    assert formula.get(rule, rule) in text([cell(4, rule=rule)], language)


def test_judging_all_tokens_needs_no_word() -> None:
    assert "Only tokens with ids" not in text([cell(4, judged="")])


def test_the_fastest_may_be_another_than_the_best_by_rate_or_by_accepted() -> None:
    (chapter,) = chapters(reversed(GRID))
    summary = chapter.summary
    best_ks = [
        None if best is None else best.k
        for best in (summary.highest_rate, summary.highest_accepted, summary.fastest)
    ]
    assert best_ks == [4, 16, 12]


def test_counts_without_a_pair_are_a_table_after_the_chapters() -> None:
    given = row(id="text/eagle3", k=3, depth=None, temperature=None, speedup=None)
    alone = render(".txt", [given])
    assert alone.startswith("suite text\n")
    assert "eagle3" in alone
    pairs = render(".txt", [row()])
    assert render(".txt", [given, row()]) == pairs + alone
