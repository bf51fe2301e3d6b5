"""Foreign strings fit to print: nothing that steers a terminal, no credentials, and plain words
left alone.
"""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_specdec.common.errors import MeasurementError, SpecdecError
from pytest_specdec.common.printable import KEY, printable, redacted_url

PLAIN = [
    "",
    "plain words",
    "caf\u00e9 \u6f22\u5b57 \u0440\u0443 \U0001f600 a\u00a0b\u3000c",
    "tests/a.py::test_b[k8]",
    r"C:\temp\x1b",
    "C:/Users/me/a.json",
    "see http://localhost:8000/v1; or (http://[::1]:80/a), http://a.b.",
    "me@example.org",
    "k=8: 1/2",
    "add --specdec-url=http://...",
    "'http://host'",
]


@pytest.mark.parametrize("text", PLAIN)
def test_plain_words_stay(text: str) -> None:
    assert printable(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred\x1b[0m", r"\x1b[31mred\x1b[0m"),
        ("\x1b]0;title\x07", r"\x1b]0;title\x07"),
        ("\x9b2J\x85", r"\x9b2J\x85"),
        ("a\nb\rc\td\0", r"a\nb\rc\td\x00"),
        ("::error::a\x08\x7f", r"::error::a\x08\x7f"),
        ("abc\u202edcb\u2066\u2069\u200f", r"abc\u202edcb\u2066\u2069\u200f"),
        ("\u200bzero\ufeff\u00ad", r"\u200bzero\ufeff\xad"),
        ("one\u2028two\u2029", r"one\u2028two\u2029"),
        ("half \ud800", r"half \ud800"),
        ("tags \U000e0041", r"tags \U000e0041"),
    ],
)
def test_what_steers_a_terminal_is_written_out(text: str, shown: str) -> None:
    assert printable(text) == shown
    assert str(SpecdecError(text)) == shown


def test_lines_may_be_kept() -> None:
    assert printable("a\nb\x1b\tc", keep="\n\t") == "a\nb\\x1b\tc"


URLS = [
    ("http://host:8000/v1", "http://host:8000/v1"),
    ("http://[::1]:8000/v1", "http://[::1]:8000/v1"),
    ("http://user:SECRET@host:8000/v1", "http://***@host:8000/v1"),
    ("http://user:SECRET@h:80x0", "http://***@h:***"),
    ("http://user:SECRET", "http://user:***"),
    ("http://SECRET@host", "http://***@host"),
    ("http://user:a@SECRET@host", "http://***@host"),
    ("http://user:SEC/SECRET@host/a", "http://***@host/a"),
    ("http://user:SEC?SECRET@host", "http://***"),
    ("http://user:SEC#SECRET@host", "http://***"),
    ("https://host/a?api_key=SECRET&x=1", "https://host/a?***"),
    ("https://host/a?SECRET", "https://host/a?***"),
    ("https://host/a#access_token=SECRET", "https://host/a?***"),
    ("https://host/?mail=me@there&key=SECRET", "https://***"),
    ("http:/user:SECRET@host/trace.jsonl", "http:/***@host/trace.jsonl"),
    ("user:SECRET@host:8000", "***@host:8000"),
    ("host:8000", "host:8000"),
    ("host:SECRET", "host:***"),
    ("http://[::1:SECRET", "http://[:***"),
    ("/relative/path?token=SECRET", "/relative/path?***"),
    ("", ""),
]


@pytest.mark.parametrize(("url", "shown"), URLS)
def test_credentials_are_taken_out_of_urls(url: str, shown: str) -> None:
    assert redacted_url(url) == shown
    if ":/" in url:
        assert printable(f"at ({url}), now;") == f"at ({shown}), now;"


FORMS = [
    'sk-"a/b&c',
    r"sk-\"a/b&c",
    r"sk-\"a\/b&c",
    "sk-%22a%2Fb%26c",
    "sk-&quot;a/b&amp;c",
]


@pytest.mark.parametrize("form", FORMS)
def test_the_servers_key_is_hidden_wherever_it_is_echoed(
    form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEY, FORMS[0])
    assert (
        printable(f"Authorization: Bearer {form}, again {form}")
        == "Authorization: Bearer ***, again ***"
    )
    assert str(MeasurementError(f"bearer {form}")) == "bearer ***"
    monkeypatch.delenv(KEY)
    assert printable(f"Bearer {form}", secrets=[FORMS[0]]) == "Bearer ***"


def test_a_key_of_two_letters_is_not_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY, "ab")
    assert printable("about") == "about"


@pytest.mark.parametrize("letters", ["x", "a1", "x:", "x/", "http"])
def test_long_words_take_no_quadratic_time(letters: str) -> None:
    start = time.thread_time()
    printable(letters * 40_000)
    assert time.thread_time() - start < 1


@pytest.mark.parametrize("scheme", ["x" * 100, "a" + "1" * 100, "http"])
def test_a_password_is_hidden_behind_schemes_of_any_length(scheme: str) -> None:
    shown = printable(f"see {scheme}://me:SECRET@host/")
    assert "SECRET" not in shown
    assert shown.endswith("***@host/")


@given(st.text(st.characters(codec=None) | st.sampled_from("\x1b\u202e@:/?#&=;'.*htp")))
def test_twice_is_once(text: str) -> None:
    once = printable(text)
    assert printable(once) == once
    assert all(letter.isprintable() or letter.isspace() or not letter.isascii() for letter in once)


@given(
    st.text(st.sampled_from("ab:/@?#&=;.[]8%"), max_size=12),
    st.text(st.sampled_from("ab:/?#&=;.@"), max_size=12),
)
def test_no_userinfo_survives(before: str, after: str) -> None:
    """Whatever else stands in a URL, what stands before an @ or after a ? does not."""
    assert "SECRET" not in redacted_url(f"http://{before}SECRET@{after}")
    assert "SECRET" not in redacted_url(f"http://{before}?{after}SECRET")
    assert "SECRET" not in printable(f"http://{before}:SECRET@{after}")
