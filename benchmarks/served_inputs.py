"""What servers answer and what ran elsewhere, as originals for `fuzz_inputs.py`: pages of Prometheus
metrics, JSON answers, streams of events, files of hidden states.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pytest_specdec.engines.servers.client import Client
from pytest_specdec.engines.servers.metrics import parse
from pytest_specdec.engines.servers.payloads import Completion

ACCEPTED = "vllm:spec_decode_num_accepted_tokens"
PAGE = f"""# HELP {ACCEPTED}_total Number of accepted tokens.
# TYPE {ACCEPTED} counter
{ACCEPTED}_total{{engine="0",model_name="a/b"}} 41.0
{ACCEPTED}_per_pos_total{{engine="0",model_name="a/b",position="0"}} 30.0
{ACCEPTED}_per_pos_total{{engine="0",model_name="a/b",position="1"}} 11.0
""".encode()
ANSWER = json.dumps(
    {
        "id": "cmpl-1",
        "choices": [
            {"index": 0, "token_ids": [5, 6, 7], "finish_reason": "stop", "text": "a b c"},
            {"index": 1, "token_ids": None, "finish_reason": None},
        ],
        "usage": {"prompt_tokens": 3, "completion_tokens": 3},
    },
    indent=1,
).encode()
STREAM = b"data: " + ANSWER.replace(b"\n", b"") + b"\n\ndata: [DONE]\n\n"


class Served(NamedTuple):
    """One kind, as `fuzz_inputs.Kind` takes it."""

    name: str
    originals: list[bytes]
    read: Callable[[bytes, Path], Any]
    wrong: Callable[[Any], Iterator[str]]


class Canned(Client):
    """A server that answers with given bytes."""

    def __init__(self, raw: bytes) -> None:
        super().__init__("http://localhost:1")
        self._raw = raw

    def _request(
        self, method: str, path: str, body: bytes | None, headers: Mapping[str, str] | None = None
    ) -> bytes:
        return self._raw


def served_kinds() -> list[Served]:
    """Each kind. What hidden states need is imported before their time is taken."""
    return [
        Served("metrics", [PAGE], _metrics, _wrong_metrics),
        Served("answers", [ANSWER, STREAM], _answer, _wrong_answer),
        Served("hidden states", [_header()], _loaded_states(), _wrong_states),
    ]


def _metrics(raw: bytes, folder: Path) -> tuple[int, tuple[int, ...]]:
    text = Canned(raw).get_text("/metrics")
    reading = parse(text, "http://localhost:1/metrics")
    return (
        reading.whole(f"{ACCEPTED}_total"),
        reading.by_position(f"{ACCEPTED}_per_pos_total"),
    )


def _wrong_metrics(value: tuple[int, tuple[int, ...]]) -> Iterator[str]:
    total, by_position = value
    if total < 0 or any(count < 0 for count in by_position):
        yield "a negative counter"


def _answer(raw: bytes, folder: Path) -> list[Completion]:
    if raw.lstrip().startswith(b"data:"):
        return Canned(raw).post_events("/v1/completions", {}, Completion)
    return [Canned(raw).get_json("/v1/completions", Completion)]


def _wrong_answer(answers: list[Completion]) -> Iterator[str]:
    for answer in answers:
        if not math.isfinite(answer.usage.completion_tokens):
            yield "tokens that are no number"


@functools.cache
def _tensors() -> dict[str, Any]:
    import numpy as np

    return {
        "token_ids": np.arange(6, dtype="int64"),
        "hidden_states": np.ones((6, 2, 4), dtype="float32"),
    }


def _parts() -> tuple[bytes, bytes]:
    from safetensors.numpy import save

    whole = save(_tensors())
    end = 8 + int.from_bytes(whole[:8], "little")
    return whole[8:end], whole[end:]


def _header() -> bytes:
    return _parts()[0]


def _loaded_states() -> Callable[[bytes, Path], Any]:
    from pytest_specdec.decoding.stored_states import StoredStates

    return functools.partial(_states, StoredStates)


def _states(states: Any, raw: bytes, folder: Path) -> Any:
    whole = len(raw).to_bytes(8, "little") + raw + _parts()[1]
    (folder / "a.safetensors").write_bytes(whole)
    stored = states(folder)
    (texts,) = stored.texts_after([()])  # the prompt of no token begins every text
    text = texts[0].tolist() if texts else ()
    return text, stored.of(text)


def _wrong_states(value: Any) -> Iterator[str]:
    text, states = value
    if len(states) != len(text):
        yield f"{len(states)} states of {len(text)} tokens"
    if any(not 0 <= token < 2**31 for token in text):
        yield f"token ids {text}"
