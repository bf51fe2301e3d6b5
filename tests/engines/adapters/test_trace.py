"""A recorded run: read as it was written, and refused with file and line wherever it is not what it
should be.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from helpers.reports import PROMPT, reported, request

from pytest_specdec.cases.case import Sampling
from pytest_specdec.cases.prompts import Prompt, key_of
from pytest_specdec.common.errors import SpecdecError
from pytest_specdec.engines.adapter_api import (
    CountingConvention,
    EngineSetup,
    GenerationRequest,
    PooledCounters,
    PromptRequest,
    Reported,
    TextEnds,
    Timings,
    Totals,
)
from pytest_specdec.engines.adapters.trace import TraceAdapter, read_trace, write_trace
from pytest_specdec.engines.counting.checks import check_reported
from pytest_specdec.engines.external import ExternalEngine
from pytest_specdec.engines.models import ModelPool

HEADER: dict[str, Any] = {"schema": 1, "engine": "mine 2", "k": 3, "new_tokens": 64}
LINE: dict[str, Any] = {
    "key": "key0",
    "prompt_ids": PROMPT,
    "new_ids": [5, 6, 7, 8],
    "rounds": [[3, 1], [1, 0]],
}


def run(path: Path, wanted: GenerationRequest | None = None) -> list[Reported | PooledCounters]:
    wanted = wanted or request()
    results = list(TraceAdapter(EngineSetup(url=str(path))).run(wanted))
    for result in results:
        if isinstance(result, Reported):
            check_reported(result, wanted)
    return results


def written(folder: Path, *lines: object, end: str = "\n") -> Path:
    path = folder / "run.jsonl"
    path.write_text(
        "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines) + end
    )
    return path


def test_what_was_written_is_read(tmp_path: Path) -> None:
    convention = CountingConvention(
        prefill_drafts=True,
        end="full",
        undelivered=True,
        counts_empty=True,
        argmax_drafts=True,
        ngrams=(2, 4),
    )
    written = reported(
        [(3, 1), (0, 0)],
        convention=convention,
        timings=Timings(seconds=0.5, draft_ms=(1.0, 2.0), verify_ms=(3.0, 4.0)),
        altered="synthetic",
        totals=Totals(rounds=2, drafted=3, accepted=1),
        finish="stop",
        ends=TextEnds((), (7, "end")),
    )
    path, wanted = tmp_path / "new" / "run.jsonl", request(sampling=Sampling(0.7, 5, 0.9), seed=3)
    write_trace(path, wanted, "mine 2", [written])
    (read,) = run(path, wanted)
    assert isinstance(read, Reported)
    assert read.where == f"{path}:2"
    assert {name: getattr(read, name) for name in vars(written) if name != "where"} == {
        name: value for name, value in vars(written).items() if name != "where"
    }
    assert TraceAdapter(EngineSetup(url=str(path))).version() == "mine 2"


def test_prompts_are_known_by_text_or_messages(tmp_path: Path) -> None:
    messages = [{"role": "user", "content": "Hello"}]
    prompts = [
        Prompt(key_of("x = 1,", None), "code", text="x = 1,"),
        Prompt(key_of(None, messages), "chat", messages=(tuple(sorted(messages[0].items())),)),
    ]
    wanted = GenerationRequest(
        prompts=[PromptRequest(prompt, None) for prompt in prompts],
        k=3,
        depth=0,
        target="served",
        drafter="served",
        sampling=Sampling(0.0),
        new_tokens=64,
        seed=0,
        rule="greedy",
    )
    rest = {"new_ids": [5, 6, 7, 8], "rounds": [[3, 1], [1, 0]]}
    path = written(tmp_path, HEADER, {"messages": messages, **rest}, {"prompt": "x = 1,", **rest})
    assert [prompt.key for prompt in run(path, wanted) if isinstance(prompt, Reported)] == [
        prompt.key for prompt in prompts
    ]


def test_pooled_sums_come_last(tmp_path: Path) -> None:
    line = {"key": "key0", "emitted": 4}
    path = written(tmp_path, HEADER, {"pooled": {"rounds": 2, "drafted": 4, "accepted": 1}}, line)
    results = run(path)
    assert isinstance(results[1], PooledCounters)
    assert results[1].totals == Totals(rounds=2, drafted=4, accepted=1)


def summed(**totals: int) -> dict[str, Any]:
    return {"key": "key0", "emitted": 4, "totals": totals}


PLAIN: dict[str, Any] = {"key": "key0", "emitted": 4}
POOLED: dict[str, Any] = {"pooled": {"rounds": 2, "drafted": 4, "accepted": 1}}
BAD = [
    ((), "is empty; see docs/trace.md"),
    (("<html>",), ":1: not JSON"),
    (({"engine": "mine"},), r":1: Object missing required field `schema`"),
    (({**HEADER, "schema": 2},), r":1: Invalid enum value 2|:1: Invalid"),
    (({**HEADER, "tokens": 3},), r":1: Object contains unknown field `tokens`"),
    (({**HEADER, "k": 0}, LINE), r":1: Expected `int` >= 1 - at `\$.k`"),
    (({**HEADER, "k": 4}, LINE), r":1: recorded with k 4 and 3 is wanted; use --specdec-k=4"),
    (({**HEADER, "temperature": 0.5}, LINE), "recorded with temperature 0.5 and 0 is wanted"),
    (({**HEADER, "seed": 1}, LINE), "recorded with seed 1 and 0 is wanted"),
    (
        ({**HEADER, "drafter": "mtp"}, LINE),
        ":1: recorded with drafter 'mtp' and 'model' is wanted",
    ),
    (
        ({**HEADER, "drafter": "eagle3"}, LINE),
        ":1: recorded with drafter 'eagle3' and 'model' is wanted",
    ),
    ((HEADER,), "holds 0 of the suite's 1 prompts and not 'prompt 0'; record them all"),
    ((HEADER, {**LINE, "key": "other"}), ":2: a prompt that is not in the suite"),
    ((HEADER, LINE, LINE), ":3: this prompt was recorded before"),
    (
        (HEADER, {**LINE, "prompt": "again"}),
        ":2: name the prompt by one of prompt, messages and key",
    ),
    ((HEADER, {"key": "key0", "rounds": []}), ":2: neither new_ids nor emitted"),
    ((HEADER, {**LINE, "emitted": 5}), ":2: 4 new_ids and emitted is 5"),
    (
        (HEADER, {**LINE, "new_ids": [5, -6, 7, 8]}),
        r":2: Expected `int` >= 0 - at `\$.new_ids\[1\]`",
    ),
    ((HEADER, {**LINE, "seconds": -1.0}), r":2: Expected `float` >= 0.0 - at `\$.seconds`"),
    ((HEADER, json.dumps({**LINE, "seconds": float("nan")})), ":2: not JSON"),
    (({**HEADER, "k": 513}, LINE), r":1: Expected `int` <= 512 - at `\$.k`"),
    (({**HEADER, "depth": -1}, LINE), r":1: Expected `int` >= 0 - at `\$.depth`"),
    (({**HEADER, "temperature": -0.5}, LINE), r":1: Expected `float` >= 0.0 - at `\$.temperature`"),
    (({**HEADER, "top_p": 0}, LINE), r":1: Expected `float` > 0.0 - at `\$.top_p`"),
    (
        ('{"schema": 1, "engine": "a", "k": 3, "k": 4}', LINE),
        r':1: not JSON \(the key "k" occurs twice',
    ),
    (
        (HEADER, {"pooled": {"drafted": 3, "accepted": 4}}),
        ":2: accepted is 4, more than the 3 drafted",
    ),
    (
        (HEADER, {"pooled": {"drafted": 4, "accepted": -1}}),
        r":2: Expected `int` >= 0 - at `\$.pooled.accepted`",
    ),
    (
        (HEADER, {"pooled": {"drafted": 7, "accepted": 1, "rounds": 2}}),
        ":2: drafted is 7, more than k=3 in each of 2 rounds",
    ),
    (
        (HEADER, {"key": "key0", "totals": {"drafted": 3, "accepted": 3, "per_position": [1, 2]}}),
        ":2: per_position .* or rises",
    ),
    (
        (HEADER, {"key": "key0", "totals": {"drafted": 3, "accepted": 3, "per_position": [1, 1]}}),
        "adds up to 2 and accepted is 3",
    ),
    (
        (HEADER, {**LINE, "pooled": {"drafted": 3, "accepted": 1}}),
        ":2: pooled beside fields of a text",
    ),
    (
        (HEADER, {**LINE, "rounds": [[3, 1.5], [1, 0]]}),
        r":2: Expected `int`, got `float` - at `\$.rounds\[0\]\[1\]`",
    ),
    ((HEADER, {**LINE, "rounds": [[3], [1, 0]]}), ":2: Expected `array` of length 2"),
    (
        (HEADER, {**LINE, "rounds": [[3, -1], [1, 0]]}),
        ":2, round 0: accepted is -1 of 3 drafted tokens",
    ),
    (
        (HEADER, {**LINE, "rounds": [[1, 2], [1, 0]]}),
        ":2, round 0: accepted is 2 of 1 drafted tokens",
    ),
    ((HEADER, {**LINE, "rounds": [[4, 1], [1, 0]]}), ":2, round 0: drafted is 4 and k is 3"),
    (
        (HEADER, {**LINE, "rounds": [[3, 0], [1, 0]]}),
        r":2: rounds \(2\) and accepted \(0\) make 2 tokens and 3 were emitted",
    ),
    ((HEADER, {**LINE, "rounds": [[3, 3], [1, 0]]}), ":2: .* count more than was emitted"),
    (
        (HEADER, summed(drafted=-3, accepted=1, rounds=2)),
        ":2: (drafted is -3, which no counter can be|Expected `int` >= 0)",
    ),
    (
        (HEADER, summed(drafted=6, accepted=-1, rounds=2)),
        ":2: (accepted is -1, which no counter can be|Expected `int` >= 0)",
    ),
    ((HEADER, summed(drafted=1, accepted=2, rounds=1)), ":2: accepted is 2, more than the 1"),
    (
        (HEADER, summed(drafted=7, accepted=1, rounds=2)),
        ":2: drafted is 7, more than k=3 in each of 2 rounds",
    ),
    (
        (HEADER, summed(drafted=4, accepted=0, rounds=2)),
        r":2: rounds \(2\) and accepted \(0\) make 2 tokens and 3 were emitted",
    ),
    (
        (HEADER, {"key": "key0", "emitted": -3, "rounds": []}),
        ":2( emitted no token|: Expected `int` >= 0)",
    ),
    (
        (HEADER, PLAIN, {"pooled": {"drafted": 3, "accepted": 5}}),
        ":3: accepted is 5, more than the 3",
    ),
    ((HEADER, PLAIN, POOLED, POOLED), ":4: pooled occurs twice; write the run's sums once"),
    (
        (HEADER, LINE, POOLED),
        ":2: rounds or totals of a text beside the sums of the run; write one of them",
    ),
    ((HEADER, {**LINE, "finish_reason": "abort"}), ":2: Invalid enum value 'abort'"),
    (
        ({**HEADER, "rule": "block"}, LINE),
        ":1: recorded with rule 'block' and 'greedy' is wanted; set it in the marker",
    ),
]


@pytest.mark.parametrize(("lines", "message"), BAD, ids=[message[:40] for _, message in BAD])
def test_anything_else_is_one_message(tmp_path: Path, lines: tuple, message: str) -> None:
    with pytest.raises(SpecdecError, match=message) as raised:
        run(written(tmp_path, *lines))
    assert "\n" not in str(raised.value)


def test_a_trace_is_refused_as_soon_as_it_is_read(tmp_path: Path) -> None:
    """Whatever is asked for: rounds that are not those of the text."""
    with pytest.raises(
        SpecdecError,
        match=r"run.jsonl:3: rounds \(1\) and accepted \(1\) make 2 tokens and 3 were emitted",
    ):
        read_trace(written(tmp_path, HEADER, LINE, {**LINE, "key": "other", "rounds": [[3, 1]]}))


def test_a_file_that_is_cut_off_is_reported(tmp_path: Path) -> None:
    text = json.dumps(LINE)
    with pytest.raises(SpecdecError, match=r"run.jsonl:2: the file is cut off in this line"):
        run(written(tmp_path, HEADER, text[:30], end=""))
    assert run(written(tmp_path, HEADER, text, end=""))  # only the last newline is missing


@pytest.mark.parametrize("name", ["missing.jsonl", "."])
def test_a_file_that_is_not_there(tmp_path: Path, name: str) -> None:
    with pytest.raises(
        SpecdecError, match=r"cannot be read .*name a file: --specdec-url=FILE.jsonl"
    ):
        run(tmp_path / name)


def test_an_engine_without_a_url_is_refused() -> None:
    with pytest.raises(
        SpecdecError,
        match="--specdec-engine=trace needs an address or a file; name it: --specdec-url=",
    ):
        _ = ExternalEngine("trace", ModelPool()).adapter
