"""Pages of metrics: what is missing, undefined or runs backwards is an error that names it."""

from __future__ import annotations

import contextlib

import pytest
from helpers.playback import payload
from hypothesis import given
from hypothesis import strategies as st

from pytest_specdec.engines.servers.metrics import MetricError, RestartedError, parse

WHERE = "http://host/metrics"
DRAFTS = "vllm:spec_decode_num_drafts"
PER_POS = "vllm:spec_decode_num_accepted_tokens_per_pos"
TWO_ENGINES = f"""
# HELP {DRAFTS}_total Number of drafts.
# TYPE {DRAFTS}_total counter
{DRAFTS}_total{{engine="0",model_name="m"}} 124.0
{DRAFTS}_total{{engine="1",model_name="m"}} 6.0 1700000000000
{DRAFTS}_created{{engine="0",model_name="m"}} 1.7e+09
{PER_POS}_total{{engine="0",model_name="m",position="0"}} 70.0
{PER_POS}_total{{engine="0",model_name="m",position="1"}} 39.0
{PER_POS}_total{{engine="1",model_name="m",position="0"}} 2.0
other{{text="a \\"quoted\\", \\\\ and {{braced}} value",}} NaN
"""


def test_engines_add_up_and_creation_times_are_left_out() -> None:
    reading = parse(TWO_ENGINES, WHERE)
    assert reading.whole(DRAFTS) == 130
    assert reading.whole(DRAFTS, engine="1") == 6
    assert reading.by_position(PER_POS) == (72, 39)
    assert reading.values(DRAFTS, "model_name") == {"m"}


def test_a_recorded_page_of_llama_cpp() -> None:
    reading = parse(payload("llama_cpp_metrics_after.txt"), WHERE)
    assert reading.whole("llamacpp:spec_decode_num_drafts") == 22
    assert reading.whole("llamacpp:spec_decode_num_accepted_tokens") == 24
    assert reading.by_position("llamacpp:spec_decode_num_accepted_tokens_per_pos") == (12, 8, 4)


def test_a_metric_that_is_missing_is_named() -> None:
    with pytest.raises(
        MetricError,
        match=rf"{WHERE} has no vllm:spec_decode_num_draft_tokens; turn on the engine's metrics",
    ):
        parse(TWO_ENGINES, WHERE).total("vllm:spec_decode_num_draft_tokens")
    with pytest.raises(MetricError, match=r'has no .*num_drafts\{engine="7"\}'):
        parse(TWO_ENGINES, WHERE).total(DRAFTS, engine="7")


@pytest.mark.parametrize("value", ["NaN", "+Inf", "-1"])
def test_a_counter_that_is_no_count_is_an_error(value: str) -> None:
    with pytest.raises(MetricError, match=r"a is -?(nan|inf|1.0), which no counter can be"):
        parse(f"a {value}\nb 1\n", WHERE).total("a")
    assert parse(f"a {value}\nb 1\n", WHERE).total("b") == 1


def test_half_a_thing_is_an_error() -> None:
    with pytest.raises(MetricError, match=r"a is 1\.5, not a whole number"):
        parse("a 1.5", WHERE).whole("a")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("<!DOCTYPE html><html>", "a web page, not with metrics"),
        ("", "is empty; start the server with its metrics"),
        ("# only comments\n", "is empty"),
        ('{"error": {"code": 501}}', "line 1 is not a metric"),
        ("a 1\nb", "line 2 is not a metric: 'b'"),
        ("a one", "line 1 is not a metric: 'a one'"),
        ("a 1_0", "line 1 is not a metric"),
        ("a " + "9" * 400, "line 1 is not a metric"),
        ("[" * 9000, "line 1 is not a metric"),
        ('a{position="0} 1', "line 1 is not a metric"),
        ('a{x="0",x="1"} 1', "line 1 is not a metric: .*Invalid labels"),
        ('a{x="0" y="1"} 1', "line 1 is not a metric: .*Invalid labels"),
        ("a 1\na 2", "line 2: a occurs twice"),
        ('a{x="1",y="2"} 1\na{y="2",x="1"} 2', "line 2: a occurs twice"),
    ],
)
def test_a_page_that_is_none_is_an_error(text: str, words: str) -> None:
    with pytest.raises(MetricError, match=words):
        parse(text, WHERE)


@pytest.mark.parametrize(
    ("series", "words"),
    [
        ('{position="0"} 3\nc{position="2"} 1', "leaves out a position, it has .0, 2"),
        ('{position="first"} 3', "position is 'first', not a number"),
        (" 3", "position is '', not a number"),
        ('{position="0"} 0.5', "has values that are not whole numbers"),
    ],
)
def test_positions_must_number_themselves(series: str, words: str) -> None:
    with pytest.raises(MetricError, match=words):
        parse("c" + series, WHERE).by_position("c")


def test_a_difference_counts_new_series_from_zero() -> None:
    before, after = parse('a{e="0"} 3\nb 1', WHERE), parse('a{e="0"} 5\na{e="1"} 4\nb 1', WHERE)
    assert after.since(before, "a").total("a") == 6
    assert after.since(before, "a").total("a", e="1") == 4
    assert after.since(before, "c").by_position("c") == ()


def test_a_counter_that_runs_backwards_is_an_error() -> None:
    before, after = parse('a{e="0"} 3\na{e="1"} 3', WHERE), parse('a{e="0"} 9\na{e="1"} 2', WHERE)
    with pytest.raises(
        MetricError, match=r'a\{e="1"\} went backwards, from 3 to 2; the server was restarted'
    ):
        after.since(before, "a")


@pytest.mark.parametrize("name", ["process_start_time_seconds", "a_created"])
def test_a_later_start_is_an_error_although_counters_have_grown(name: str) -> None:
    before, after, same = (
        parse(f"a_total {count}\n{name} {start}\nb_created {other}", WHERE)
        for count, start, other in [(3, 1e9, 1), (9, 1e9 + 5, 1), (9, 1e9, 2)]
    )
    with pytest.raises(
        RestartedError, match=f"{name} was 1000000000 and is 1000000005; the server was restarted"
    ):
        after.since(before, "a")
    assert same.since(before, "a").total("a") == 6


def test_a_series_that_goes_is_an_error() -> None:
    before, after = parse('a{e="0"} 3\na{e="1"} 3', WHERE), parse('a{e="0"} 9', WHERE)
    with pytest.raises(
        MetricError, match=r'a\{e="1"\} has gone since the run began; the server was restarted'
    ):
        after.since(before, "a")


@given(st.text())
def test_no_text_ends_in_another_error(text: str) -> None:
    with contextlib.suppress(MetricError):
        parse(text, WHERE)
