"""The client: patient with passing faults, and one clear error for each that does not pass."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from playback import Answer, playing

from pytest_specdec.engines.http import Client, Patience, ServerError
from pytest_specdec.errors import RequestError


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
    with playing({"/a": [Answer("oops", 500), Answer(reset=True), Answer("{}", 503), Answer('{"n": 7}')]}) as stage:
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
        (Answer("<html><body>It works!", 200), "answers with a web page, not with JSON; is this the engine's own URL"),
        (Answer("<html>Not Found", 404), r"HTTP 404 \(<html>Not Found\); is this the engine that was named"),
        (Answer('{"n": 1', 200), r"JSON that cannot be read: Input data was truncated \(\{\"n\": 1\)"),
        (Answer('{"n": NaN}', 200), "JSON that cannot be read: JSON is malformed"),
        (Answer('{"m": 1}', 200), "JSON that cannot be read: Object missing required field `n`"),
        (Answer('{"n": "1"}', 200), r"Expected `int`, got `str` - at `\$.n`"),
        (Answer("", 200), r"cannot be read: .* \(empty\)"),
        (Answer(b'{"n": "\xff"}', 200), "cannot be read"),
        (Answer("no", 401), "HTTP 401, access refused; set SPECDEC_API_KEY"),
        (Answer("", 302, location="http://example.com/"), "redirects to http://example.com/, which is not followed"),
    ],
)
def test_each_failure_has_one_clear_error(answer: Answer, words: str) -> None:
    with playing({"/a": [answer]}) as stage, pytest.raises(ServerError, match=words) as caught:
        stage.client(tries=3).get_json("/a", Shape)
    assert stage.url + "/a" in str(caught.value)
    assert "; " in str(caught.value)


@pytest.mark.parametrize("answer", [Answer('{"n": 1}', wait=1.0), Answer('{"n": 1}', drip=0.1)], ids=["silent", "dripping"])
def test_a_slow_server_is_given_up(answer: Answer) -> None:
    with playing({"/a": [answer]}) as stage, pytest.raises(ServerError, match=r"no full answer within 0\.2 s, in 2 tries"):
        stage.client(timeout=0.2, tries=2).get_json("/a", Shape)


def test_a_flood_is_cut_off() -> None:
    with playing({"/a": [Answer("x" * 5000)]}) as stage:
        client = Client(stage.url, size_limit=1000)
        with pytest.raises(ServerError, match="more than 1000 bytes"):
            client.get_text("/a")


def test_nobody_at_home() -> None:
    client = Client("http://127.0.0.1:9", patience=Patience(tries=2, sleep=lambda seconds: None))
    with pytest.raises(ServerError, match=r"127.0.0.1:9/a: no answer \(ConnectionRefusedError.*in 2 tries; see that the server"):
        client.get_text("/a")


def test_text_that_is_none() -> None:
    with playing({"/a": [Answer(b"\xff\xfe")]}) as stage, pytest.raises(ServerError, match="no UTF-8 text"):
        stage.client().get_text("/a")


@pytest.mark.parametrize(
    "url", ["localhost:8000", "ftp://host", "http://", "http://host:port", "http://host/?x=1", "http://host/#a", ""]
)
def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(RequestError, match="is not a server's URL; write for example --specdec-url=http://localhost:8000"):
        Client(url)


def test_passwords_stay_out_of_urls() -> None:
    with pytest.raises(RequestError, match="SPECDEC_API_KEY") as caught:
        Client("http://me:secret@host")
    assert "secret" not in str(caught.value)


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
    with playing({"/a": [Answer(stream)]}) as stage, pytest.raises(ServerError, match="a stream without events"):
        stage.client().post_events("/a", {}, Shape)


def test_a_broken_event_is_an_error() -> None:
    stream: Any = 'data: {"n": 1}\n\ndata: {"n": \n\n'
    with playing({"/a": [Answer(stream)]}) as stage, pytest.raises(ServerError, match="cannot be read"):
        stage.client().post_events("/a", {}, Shape)
