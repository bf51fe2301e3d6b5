"""The parsers of option values: what is accepted, what is refused and with which advice."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest
from helpers.records import PROPERTY
from hypothesis import given
from hypothesis import strategies as st

from pytest_specdec.cases.case import JudgedRange
from pytest_specdec.config.options import (
    LANGUAGE_CHOICES,
    MARKER_ARGUMENTS,
    OPTIONS,
    REPORT_ENDINGS,
    TABLE,
)
from pytest_specdec.config.parsers import (
    files_ending_in,
    fraction,
    id_range,
    import_path,
    one_of,
    probability,
    temperature,
    whole_number,
    whole_numbers,
)
from pytest_specdec.config.settings import OptionValues

BY_NAME = {option.name: option for option in OPTIONS}


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("8", (8,)),
        ("4,8", (4, 8)),
        (" 4 , 8 ", (4, 8)),
        ("8,4", (8, 4)),
        ("4,8,4,4", (4, 8)),
        ("1", (1,)),
    ],
)
def test_lists_keep_their_order_and_drop_repeats(text: str, wanted: tuple[int, ...]) -> None:
    assert whole_numbers(1, 512)(text) == wanted


@pytest.mark.parametrize("text", ["0", "-1", "4,0", "four", "", "4,", "4;8", "8.0", "1e3", "4 8"])
def test_what_is_no_positive_whole_number_is_refused(text: str) -> None:
    with pytest.raises(
        argparse.ArgumentTypeError, match="is not a whole number of at least 1; write for example"
    ):
        whole_numbers(1, 512)(text)


def test_depth_may_be_zero_and_k_may_not() -> None:
    assert BY_NAME["depth"].parser("0,3") == (0, 3)
    assert whole_number(0)("0") == 0
    with pytest.raises(argparse.ArgumentTypeError):
        BY_NAME["k"].parser("0,3")


@pytest.mark.parametrize(
    ("text", "wanted"),
    [("0.01", 0.01), ("1%", 0.01), ("0.5%", 0.005), ("0", 0.0), ("1e-3", 0.001), ("50 %", 0.5)],
)
def test_fractions_may_be_written_as_percentages(text: str, wanted: float) -> None:
    assert fraction(above_zero=False, below=1.0)(text) == pytest.approx(wanted)


@pytest.mark.parametrize("text", ["1", "100%", "-1%", "one", "", "%", "nan", "inf", "1%%"])
def test_what_is_no_fraction_is_refused(text: str) -> None:
    with pytest.raises(
        argparse.ArgumentTypeError, match="is out of range; write a number below 1 like"
    ):
        fraction(above_zero=False, below=1.0)(text)


@pytest.mark.parametrize("text", ["0", "0%", "0.5", "50%"])
def test_alpha_is_above_zero_and_below_one_half(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=r"below 0\.5"):
        BY_NAME["alpha"].parser(text)


@pytest.mark.parametrize(("text", "wanted"), [("0", 0.0), ("1", 1.0), ("0.7", 0.7)])
def test_temperatures(text: str, wanted: float) -> None:
    assert temperature(text) == wanted


@pytest.mark.parametrize("text", ["-0.1", "hot", "nan", "inf", ""])
def test_what_is_no_temperature_is_refused(text: str) -> None:
    with pytest.raises(
        argparse.ArgumentTypeError, match="is not a temperature; write 0 for greedy"
    ):
        temperature(text)


@pytest.mark.parametrize(("text", "wanted"), [("1", 1.0), ("0.95", 0.95), ("1e-3", 0.001)])
def test_top_p_is_a_share_up_to_all(text: str, wanted: float) -> None:
    assert probability(text) == BY_NAME["top-p"].parser(text) == wanted


@pytest.mark.parametrize("text", ["0", "-0.1", "1.01", "95%", "nan", "inf", "most", ""])
def test_what_is_no_top_p_is_refused(text: str) -> None:
    with pytest.raises(
        argparse.ArgumentTypeError, match="is out of range; write a number above 0 and at most 1"
    ):
        probability(text)


def test_top_k_is_a_whole_number_and_zero_keeps_all() -> None:
    assert [BY_NAME["top-k"].parser(text) for text in ("0", "50")] == [0, 50]
    for text in ("-1", "2.5", "1,2", "all"):
        with pytest.raises(argparse.ArgumentTypeError, match="is not a whole number of at least 0"):
            BY_NAME["top-k"].parser(text)


@pytest.mark.parametrize("name", ["replay", "decode"])
def test_engines_are_chosen_by_name(name: str) -> None:
    assert BY_NAME["engine"].parser(name) == name


def test_a_choice_lists_what_there_is() -> None:
    assert one_of("fail", "warn")("warn") == "warn"
    with pytest.raises(
        argparse.ArgumentTypeError, match="'Warn' is not one of fail, warn; choose one of these"
    ):
        one_of("fail", "warn")("Warn")


@pytest.mark.parametrize("ending", [".json", ".html", ".md", ".txt"])
def test_a_report_is_known_by_its_ending(ending: str) -> None:
    assert ending in REPORT_ENDINGS
    assert BY_NAME["report"].parser(f"out/cases{ending}") == (Path(f"out/cases{ending}"),)
    with pytest.raises(
        argparse.ArgumentTypeError,
        match=r"'cases\.xls' ends in no known report format; end it in .*\.json",
    ):
        files_ending_in(".json", ".html")("cases.xls")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("k", "eight"),
        ("depth", "-1"),
        ("device", "tpu"),
        ("dtype", "float64"),
        ("engine", "magic"),
        ("temperature", "-1"),
        ("top-k", "-1"),
        ("top-p", "0"),
        ("prompts", "0"),
        ("new-tokens", "1"),
        ("seed", "-1"),
        ("alpha", "2"),
        ("margin", "150%"),
        ("inconclusive", "perhaps"),
        ("update", "some"),
        ("report", "report"),
        ("repeats", "0"),
        ("costs-margin", "0"),
        ("judged", "5"),
        ("processors", "repetition"),
        ("verifier", "codec"),
        ("language", "fr"),
    ],
)
def test_every_option_quotes_a_bad_value_and_ends_with_advice(name: str, text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError) as caught:
        BY_NAME[name].parser(text)
    complaint, _, advice = str(caught.value).partition("; ")
    assert repr(text) in complaint
    assert advice


def test_options_have_twin_names() -> None:
    assert BY_NAME["new-tokens"].flag == "--specdec-new-tokens"
    assert BY_NAME["new-tokens"].ini_name == "specdec_new_tokens"
    assert (BY_NAME["top-k"].flag, BY_NAME["top-p"].ini_name) == (
        "--specdec-top-k",
        "specdec_top_p",
    )
    for option in OPTIONS:
        assert OptionValues(**{option.key: 1})[option] == 1


def test_names_are_given_once() -> None:
    assert len({option.name for option in TABLE}) == len(TABLE)
    assert len(MARKER_ARGUMENTS) == sum(option.marker is not None for option in TABLE)
    assert all(option.command_line or option.marker for option in TABLE)


@pytest.mark.parametrize("option", TABLE, ids=lambda option: option.name)
def test_a_default_is_a_value_that_the_option_takes(option) -> None:
    if option.default not in (None, ()):
        assert option.parser.check(option.default) == option.default
        assert not option.required
    elif not option.required and option.default_words is None:
        assert option.default_text == "none"


@pytest.mark.parametrize(
    ("name", "default"),
    [
        ("k", "8"),
        ("depth", "0, own heads 1"),
        ("target", "required"),
        ("temperature", "1"),
        ("alpha", "1%"),
        ("margin", "1%"),
        ("costs-margin", "10%"),
        ("top-p", "1"),
        ("judged", "all"),
        ("report", "none"),
        ("update", "none"),
        ("prune", "off"),
    ],
)
def test_defaults_are_written_as_one_would_pass_them(name: str, default: str) -> None:
    assert BY_NAME[name].default_text == default


def test_help_names_the_default() -> None:
    assert BY_NAME["alpha"].help_text.endswith(" (default: 1%)")
    assert BY_NAME["target"].help_text.endswith(" (required)")
    assert BY_NAME["prune"].help_text == BY_NAME["prune"].help


def test_how_argparse_stores_an_option() -> None:
    actions = {name: BY_NAME[name].action for name in ("k", "prune", "report")}
    assert actions == {"k": "store", "prune": "store_true", "report": "extend"}


def test_the_advice_fits_the_option() -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=r"write for example 64$"):
        whole_number(0)("x")
    with pytest.raises(argparse.ArgumentTypeError, match=r"write for example 4,8$"):
        whole_numbers(0, 64)("x")


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("41:297", JudgedRange(41, 297)),
        ("41:297:2", JudgedRange(41, 297, 2)),
        ("0:1", JudgedRange(0, 1)),
        (" 4 : 8 : 3 ", JudgedRange(4, 8, 3)),
    ],
)
def test_judged_tokens_are_written_as_a_slice(text: str, wanted: JudgedRange) -> None:
    assert id_range(text) == BY_NAME["judged"].parser(text) == wanted


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        "5",
        "5:",
        ":5",
        "8:8",
        "9:2",
        "-1:4",
        "1:2:0",
        "1:2:-1",
        "1:2:",
        "1:2:3:4",
        "a:b",
        "1.5:3",
        "4,8",
    ],
)
def test_what_is_no_range_is_refused(text: str) -> None:
    with pytest.raises(
        argparse.ArgumentTypeError,
        match="is not a range of token ids; write FIRST:END, and FIRST:END:2 where",
    ):
        id_range(text)


@given(first=st.integers(0, 10**6), size=st.integers(1, 10**6), every=st.integers(1, 99))
@PROPERTY
def test_a_range_is_read_as_it_is_stored(first: int, size: int, every: int) -> None:
    judged = JudgedRange(first, first + size, every)
    assert id_range(str(judged)) == judged


@pytest.mark.parametrize("text", ["codec:speak", "suites.models.codec:speak", "_a.b1:_c"])
def test_a_function_is_named_by_module_and_name(text: str) -> None:
    assert import_path(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "codec",
        "codec:",
        ":speak",
        "codec.py:speak()",
        "a..b:c",
        "a:b:c",
        "a/b:c",
        "a:b.c",
        "1a:b",
    ],
)
def test_what_names_no_function_is_refused(text: str) -> None:
    with pytest.raises(
        argparse.ArgumentTypeError, match="does not name a function; write module:function"
    ):
        import_path(text)


def test_languages_are_chosen_by_name() -> None:
    assert [BY_NAME["language"].parser(name) for name in LANGUAGE_CHOICES] == ["en", "zh"]


@pytest.mark.parametrize("text", ["513", "4,1000", "9" * 30])
def test_k_has_a_largest_value(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="is more than 512; write for example 4,8"):
        BY_NAME["k"].parser(text)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("depth", "65"),
        ("new-tokens", "1000001"),
        ("repeats", "1001"),
        ("prompts", "1000001"),
        ("seed", str(2**62 + 1)),
    ],
)
def test_other_numbers_have_one_too(name: str, text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="is more than"):
        BY_NAME[name].parser(text)


@pytest.mark.parametrize("text", ["1_0", "+8", "\u0668", "0x8", "1" * 5000])
def test_whole_numbers_are_decimal_digits(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="is not a whole number"):
        whole_number(1)(text)


@pytest.mark.parametrize("text", ["0.001", "101", "1e-300", "1_0", "\u0661"])
def test_temperatures_have_a_range(text: str) -> None:
    with pytest.raises(
        argparse.ArgumentTypeError, match="is not a temperature; write 0 for greedy"
    ):
        temperature(text)


@pytest.mark.parametrize("text", ["", "a\0b", "a\nb", "\x1b[31m", "a" * 256, "a/" * 3000, "\udc80"])
@pytest.mark.parametrize("name", ["target", "draft", "costs", "baselines", "url"])
def test_what_no_file_can_be_called_is_refused(name: str, text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="is not the name of a file; write a path"):
        BY_NAME[name].parser(text)


@pytest.mark.parametrize(
    "url",
    [
        "http://[::1",
        "http://",
        "ftp://host",
        "http://host:80x0",
        "http://host:99999",
        "http://ho st",
        "http://h?a=1",
        "://",
    ],
)
def test_what_is_no_servers_url_is_refused(url: str) -> None:
    for name in ("url", "draft-url"):
        with pytest.raises(
            argparse.ArgumentTypeError, match=r"is not a server's URL; write for example"
        ):
            BY_NAME[name].parser(url)


@pytest.mark.parametrize(
    "url", ["http://user:SECRET@h:80x0", "http://h/?api_key=SECRET", "http://user:SECRET@h/"]
)
def test_secrets_of_a_url_are_not_repeated(url: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError) as caught:
        BY_NAME["url"].parser(url)
    assert "SECRET" not in str(caught.value)


def test_urls_and_traces_are_taken() -> None:
    for text in ("http://localhost:8000", "https://[::1]:80/v1/", "runs/trace.jsonl"):
        assert BY_NAME["url"].parser(text) == text
