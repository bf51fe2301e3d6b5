"""The client: patient with passing faults, and one clear error for each that does not pass."""

from __future__ import annotations

import html
import json
import socket
import time
import urllib.parse
from typing import Any

import msgspec
import pytest
from helpers.playback import Answer, playing, raw_server

from pytest_specdec.common.errors import RequestError
from pytest_specdec.engines.servers.client import Client, RetryPolicy, ServerError

pytestmark = pytest.mark.slow


class Shape(msgspec.Struct):
    n: int


def test_an_answer_is_read_and_a_connection_kept() -> None:
    with playing({"/a": [Answer('{"n": 1, "more": []}')]}) as stage:
        client = stage.client()
        assert [client.get_json("/a", Shape).n for _ in range(3)] == [1, 1, 1]
        assert client.post_json("/a", {"x": 2}, Shape).n == 1
        assert stage.seen[-1] == ("/a", {"x": 2})
        assert client.lost == 0


def test_failures_of_the_server_are_tried_again_with_growing_pauses() -> None:
    slept: list[float] = []
    with playing(
        {"/a": [Answer("oops", 500), Answer(reset=True), Answer("{}", 503), Answer('{"n": 7}')]}
    ) as stage:
        client = stage.client(sleep=slept.append, backoff=0.5)
        assert client.post_json("/a", {}, Shape).n == 7
    assert slept == [0.5, 1.0, 2.0]
    assert client.lost == 3


def test_a_cut_answer_is_asked_for_again() -> None:
    with playing({"/a": [Answer('{"n": 12345}', cut=6), Answer('{"n": 7}')]}) as stage:
        assert stage.client().get_json("/a", Shape).n == 7


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (Answer("boom", 500), r"/a: HTTP 500 \(boom\), in 3 tries; see that the server runs"),
        (Answer('{"n": 1}', cut=3), "the answer ends after 3 bytes, in 3 tries"),
        (Answer(reset=True), r"no answer \(\w+: .*\), in 3 tries"),
        (
            Answer("<html><body>It works!", 200),
            "answers with a web page, not with JSON; is this the engine's own URL",
        ),
        (
            Answer("<html>Not Found", 404),
            r"HTTP 404 \(<html>Not Found\); is this the engine that was named",
        ),
        (
            Answer('{"n": 1', 200),
            r"cannot be read: Expecting ',' delimiter on line 1 \(\{\"n\": 1\)",
        ),
        (Answer('{"n": NaN}', 200), "JSON that cannot be read: NaN is not a JSON number on line 1"),
        (Answer('{"n": 1, "n": 2}', 200), 'the key "n" occurs twice in one object'),
        (Answer("[" * 5000, 200), "nested more than 64 levels deep"),
        (Answer('{"m": 1}', 200), "JSON that cannot be read: Object missing required field `n`"),
        (Answer('{"n": "1"}', 200), r"Expected `int`, got `str` - at `\$.n`"),
        (Answer("", 200), r"cannot be read: .* \(empty\)"),
        (Answer(b'{"n": "\xff"}', 200), "cannot be read"),
        (Answer("no", 401), "HTTP 401, access refused; set SPECDEC_API_KEY"),
        (
            Answer("", 302, location="http://example.com/"),
            "redirects to http://example.com/, which is not followed",
        ),
    ],
)
def test_each_failure_has_one_clear_error(answer: Answer, words: str) -> None:
    with playing({"/a": [answer]}) as stage, pytest.raises(ServerError, match=words) as caught:
        stage.client(tries=3).get_json("/a", Shape)
    assert stage.url + "/a" in str(caught.value)
    assert "; " in str(caught.value)


@pytest.mark.parametrize(
    "answer",
    [Answer('{"n": 1}', wait=1.0), Answer('{"n": 1}', drip=0.1)],
    ids=["silent", "dripping"],
)
def test_a_slow_server_is_given_up(answer: Answer) -> None:
    with (
        playing({"/a": [answer]}) as stage,
        pytest.raises(ServerError, match=r"no full answer within 0\.2 s, in 2 tries"),
    ):
        stage.client(timeout=0.2, tries=2).get_json("/a", Shape)


LIMIT = 0.2
"""Seconds that a server is waited for here."""
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
SLOW = 100 * b"x"


@pytest.mark.parametrize(
    "parts",
    [
        (b"", b"HTTP/1.1 200 " + SLOW),
        (b"HTTP/1.1 200 OK\r\n", b"X-Slow: " + SLOW),
        (b"HTTP/1.1 200 OK\r\n", b"X: 1\r\n" * 50),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 50),
        (b"HTTP/1.1 100 Continue\r\n", b"X: 1\r\n" * 50),
        (HEAD + b"Content-Length: 100\r\n\r\n", SLOW),
        (HEAD + b"Connection: close\r\n\r\n", SLOW),
        (CHUNKED, b"8;" + SLOW),
        (CHUNKED, b"1\r\n \r\n" * 50),
        (CHUNKED + b"8\r\n", SLOW),
        (CHUNKED + b'8\r\n{"n": 1}\r\n', b"0;" + SLOW),
        (CHUNKED + b'8\r\n{"n": 1}\r\n0\r\n', b"X-Slow: " + SLOW),
        (CHUNKED + b'8\r\n{"n": 1}\r\n0\r\n', b"X: 1\r\n" * 50),
        (b"HTTP/1.1 302 Found\r\nLocation: /b\r\n", b"X: 1\r\n" * 50),
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 100\r\n\r\n", SLOW),
        (b"HTTP/1.0 200 OK\r\n\r\n", SLOW),
    ],
    ids=[
        "status",
        "header",
        "headers",
        "100s",
        "headers of a 100",
        "body",
        "body to the end",
        "chunk size",
        "chunks",
        "chunk",
        "last size",
        "trailer",
        "trailers",
        "redirect",
        "refusal",
        "1.0",
    ],
)
def test_no_part_of_an_answer_outlasts_the_time_limit(parts: tuple[bytes, ...]) -> None:
    """A byte every fortieth of a second keeps each single wait short and the whole answer long."""
    with raw_server(parts, drip=LIMIT / 8) as url:
        client, begun = Client(url, patience=RetryPolicy(timeout=LIMIT, tries=1)), time.monotonic()
        with pytest.raises(
            ServerError,
            match=r"/a: no full answer within 0\.2 s, in 1 tries; see that the server runs",
        ):
            client.get_json("/a", Shape)
        took = time.monotonic() - begun
    assert LIMIT * 0.9 < took < LIMIT + 1.0


def test_the_limit_covers_the_sending() -> None:
    """A server that takes no bytes: the request fills the buffers and waits."""
    with raw_server([], drip=0, reads=False) as url:
        client, begun = Client(url, patience=RetryPolicy(timeout=LIMIT, tries=1)), time.monotonic()
        with pytest.raises(ServerError, match=r"no full answer within 0\.2 s"):
            client.post_json("/a", {"x": "y" * (32 << 20)}, Shape)
        took = time.monotonic() - begun
    assert took < LIMIT + 1.0


def test_each_request_has_its_own_time() -> None:
    answer = HEAD + b'Content-Length: 8\r\n\r\n{"n": 1}'
    with raw_server([answer] * 4, drip=0, pause=0.3) as url:
        client = Client(url, patience=RetryPolicy(timeout=1.0, tries=1))
        assert [client.get_json("/a", Shape).n for _ in range(4)] == [1] * 4


def test_chunks_and_trailers_in_time_are_read() -> None:
    answer = (
        b"HTTP/1.1 100 Continue\r\n\r\n"
        + CHUNKED
        + b'3;a=b\r\n{"n\r\n5\r\n": 1}\r\n0\r\nX-Sum: 1\r\n\r\n'
    )
    with raw_server([answer], drip=0) as url:
        assert Client(url, patience=RetryPolicy(timeout=5, tries=1)).get_json("/a", Shape).n == 1


def test_the_next_address_of_a_host_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    with playing({"/a": [Answer('{"n": 1}')]}) as stage:
        port = int(stage.url.rsplit(":", 1)[1])
        places = [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, host_port))
            for host, host_port in (("127.0.0.1", 9), ("127.0.0.1", port))
        ]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_: places)
        assert (
            Client(f"http://two:{port}", patience=RetryPolicy(tries=1)).get_json("/a", Shape).n == 1
        )


def test_a_flood_is_cut_off() -> None:
    with playing({"/a": [Answer("x" * 5000)]}) as stage:
        client = Client(stage.url, size_limit=1000)
        with pytest.raises(ServerError, match="more than 1000 bytes"):
            client.get_text("/a")


def test_nobody_at_home() -> None:
    client = Client("http://127.0.0.1:9", patience=RetryPolicy(tries=2, sleep=lambda seconds: None))
    with pytest.raises(
        ServerError,
        match=r"127.0.0.1:9/a: no answer \(ConnectionRefusedError.*in 2 tries; see that the server",
    ):
        client.get_text("/a")


def test_nobody_at_home_is_not_waited_for_again() -> None:
    slept: list[float] = []
    client = Client("http://127.0.0.1:9", patience=RetryPolicy(tries=3, sleep=slept.append))
    for path in ("/a", "/b"):
        with pytest.raises(
            ServerError,
            match=rf"127.0.0.1:9{path}: no answer \(ConnectionRefusedError.*in 3 tries; see that "
            rf"the",
        ):
            client.get_text(path)
        assert len(slept) == 2


def test_a_server_that_answered_badly_is_asked_again() -> None:
    with playing({"/a": [Answer(reset=True), Answer(reset=True), Answer('{"n": 7}')]}) as stage:
        client = stage.client(tries=2)
        with pytest.raises(ServerError, match="no answer"):
            client.get_json("/a", Shape)
        assert client.get_json("/a", Shape).n == 7


def test_text_that_is_none() -> None:
    with (
        playing({"/a": [Answer(b"\xff\xfe")]}) as stage,
        pytest.raises(ServerError, match="text that is not UTF-8"),
    ):
        stage.client().get_text("/a")


@pytest.mark.parametrize(
    "url",
    [
        "localhost:8000",
        "ftp://host",
        "http://",
        "http://host:port",
        "http://host/?x=1",
        "http://host/#a",
        "",
        "http://[::1",
        "http://host:99999",
        "http://a..b",
        "http://" + "a" * 64 + ".org",
        "http://h\u00f6st",
        "http://host/\x1b[31m",
        "http://host/a b",
        "http://host\n/a",
        "http://host?",
        "http://host/\u202e",
    ],
)
def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(
        RequestError,
        match="is not a server's URL; write for example --specdec-url=http://localhost:8000",
    ):
        Client(url)


@pytest.mark.parametrize(
    "url",
    [
        "http://me:SECRET@host",
        "http://me:SECRET@h:80x0",
        "http://me:SECRET",
        "http://SECRET@host",
        "me:SECRET@host:8000",
        "http://me:SEC/SECRET@host",
        "http://me:SEC?SECRET@host",
        "http://host?api_key=SECRET",
        "http://host/#key=SECRET",
        "http://host/?a=b@c&key=SECRET",
        "http://host/?SECRET",
    ],
)
def test_passwords_stay_out_of_urls(url: str) -> None:
    with pytest.raises(RequestError, match=r"SPECDEC_API_KEY|is not a server's URL") as caught:
        Client(url)
    assert "SECRET" not in str(caught.value)


@pytest.mark.parametrize("key", ["SECRET\n", "SECRET\u00e9", "SEC\x1bRET"])
def test_a_key_that_no_header_carries_is_refused_unseen(key: str) -> None:
    with pytest.raises(
        RequestError, match=r"SPECDEC_API_KEY holds a character .* set it to the bare key"
    ) as caught:
        Client("http://host", key=key)
    assert "SEC" not in str(caught.value)


KEY = 'sk-"SECRET/1&2'


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (
            Answer(f"headers: Authorization: Bearer {KEY}", 404),
            r"HTTP 404 \(headers: "
            r"Authorization: Bearer \*\*\*\); "
            r"is this",
        ),
        (
            Answer(" " * 450 + "." * 10 + f" Bearer {KEY}", 404),
            r"HTTP 404 \(\.{10} Bearer "
            r"\*\*\*\); is this",
        ),
        (
            Answer(json.dumps({"Authorization": f"Bearer {KEY}"}), 500),
            r"HTTP 500 \(\{\"Authorization\": \"Bearer \*\*\*\"\}\)",
        ),
        (Answer(f"<b>{html.escape(KEY)}</b>", 404), r"HTTP 404 \(<b>\*\*\*</b>\)"),
        (Answer(f"key={urllib.parse.quote(KEY, safe='')}", 404), r"HTTP 404 \(key=\*\*\*\)"),
        (
            Answer("see http://me:SECRET@host/?token=SECRET", 404),
            r"HTTP 404 \(see "
            r"http://\*\*\*@host/\?\*\*\*\)",
        ),
        (
            Answer("", 302, location="https://me:SECRET@h:80x0/v1?api_key=SECRET"),
            r"to https://\*\*\*@h:\*\*\*/v1\?\*\*\*, which",
        ),
        (
            Answer("", 302, location=f"/login/{KEY}"),
            r"redirects to /login/\*\*\*, which is not "
            r"followed",
        ),
        (Answer(f'{{"n": "{KEY}', 200), r"cannot be read: .* \(\{\"n\": \"\*\*\*\)"),
        (
            Answer("\x1b]0;owned\x07\x1b[31mred\x9b2J", 404),
            r"HTTP 404 \(\\x1b\]0;owned\\x07\\x1b\[31mred\\x9b2J\)",
        ),
        (Answer("abc\u202edef\u200b\u2028", 404), r"HTTP 404 \(abc\\u202edef\\u200b\)"),
        (Answer("", 302, location="http://h/\x1b[2J"), r"redirects to http://h/\\x1b\[2J, which"),
        (Answer('{"n": "\x1b[31m"}', 200), r"cannot be read: Invalid control character"),
    ],
)
def test_what_servers_say_is_fit_to_print(answer: Answer, words: str) -> None:
    with playing({"/a": [answer]}) as stage, pytest.raises(ServerError, match=words) as caught:
        Client(stage.url, key=KEY, patience=RetryPolicy(tries=1)).get_json("/a", Shape)
    message = str(caught.value)
    assert message.isprintable()
    assert "SECRET" not in message
    assert "; " in message


def test_a_status_line_is_fit_to_print() -> None:
    with (
        raw_server([b"\x1b[31mSECRET!\r\n\r\n"], drip=0) as url,
        pytest.raises(ServerError, match="BadStatusLine") as caught,
    ):
        Client(url, key="SECRET!", patience=RetryPolicy(tries=1)).get_json("/a", Shape)
    assert str(caught.value).isprintable()
    assert "SECRET" not in str(caught.value)


def test_the_key_goes_to_the_server_and_the_path_below_its_folder() -> None:
    with playing({"/deep/a": [Answer('{"n": 1}')]}) as stage:
        assert Client(f"{stage.url}/deep/", key="k").get_json("/a", Shape).n == 1
        assert stage.headers[-1]["Authorization"] == "Bearer k"


def test_proxies_of_the_environment_are_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with playing({"/a": [Answer('{"n": 1}')]}) as stage:
        assert stage.client().get_json("/a", Shape).n == 1


def test_events_are_read_to_the_end() -> None:
    stream = 'data: {"n": 1}\n\n: a comment\n\ndata: {"n": 2}\n\ndata: [DONE]\n\n'
    with playing({"/a": [Answer(stream)]}) as stage:
        assert [event.n for event in stage.client().post_events("/a", {}, Shape)] == [1, 2]


@pytest.mark.parametrize("stream", ["", "data: [DONE]\n\n", '{"error": "no stream"}'])
def test_a_stream_without_events_is_an_error(stream: str) -> None:
    with (
        playing({"/a": [Answer(stream)]}) as stage,
        pytest.raises(ServerError, match="a stream without events"),
    ):
        stage.client().post_events("/a", {}, Shape)


def test_a_broken_event_is_an_error() -> None:
    stream: Any = 'data: {"n": 1}\n\ndata: {"n": \n\n'
    with (
        playing({"/a": [Answer(stream)]}) as stage,
        pytest.raises(ServerError, match="cannot be read"),
    ):
        stage.client().post_events("/a", {}, Shape)
