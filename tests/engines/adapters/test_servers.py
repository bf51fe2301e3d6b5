"""Adapters of servers against recorded answers, damaged ones and servers that die: clear errors,
nothing passes silently.
"""

from __future__ import annotations

import dataclasses
import json
import threading
from collections.abc import Callable
from typing import Any

import pytest
from helpers.playback import Answer, Play, Stage, payload, playing

from pytest_specdec.cases.case import Sampling
from pytest_specdec.cases.prompts import Prompt
from pytest_specdec.cases.tree import DynamicTree
from pytest_specdec.common.errors import MeasurementError, RequestError, SpecdecError
from pytest_specdec.engines.adapter_api import (
    EngineSetup,
    GenerationRequest,
    PooledCounters,
    PromptRequest,
    Reported,
    ReportedRound,
    Totals,
)
from pytest_specdec.engines.adapters.llama_cpp_server import LlamaCppServerAdapter
from pytest_specdec.engines.adapters.server import ServedAdapter, ServerReply
from pytest_specdec.engines.adapters.sglang_server import SglangServerAdapter
from pytest_specdec.engines.adapters.tensorrt_llm_server import TensorRtLlmServerAdapter
from pytest_specdec.engines.adapters.vllm_server import VllmServerAdapter
from pytest_specdec.engines.counting.checks import check_reported
from pytest_specdec.engines.servers.client import ServerError
from pytest_specdec.engines.servers.metrics import MetricError

PROMPT = (0, 310, 400, 55)
"""Of the recorded answers: 24 greedy tokens by the embedded pair with k = 3."""
TEXT = (
    633,
    309,
    84,
    712,
    200,
    200,
    761,
    261,
    378,
    592,
    276,
    607,
    378,
    3,
    297,
    269,
    261,
    378,
    592,
    276,
    779,
    70,
    378,
    958,
)


def request(
    prompts: int = 1,
    ids: tuple[int, ...] | None = PROMPT,
    k: int = 3,
    drafter: str = "draft",
) -> GenerationRequest:
    requests = [PromptRequest(Prompt(f"p{row}", "all", "text"), ids) for row in range(prompts)]
    return GenerationRequest(
        prompts=requests,
        k=k,
        depth=0,
        target="target",
        drafter=drafter,
        sampling=Sampling(0.0),
        new_tokens=24,
        seed=0,
        rule="greedy",
    )


def run(
    adapter: ServedAdapter, wanted: GenerationRequest | None = None
) -> list[Reported | PooledCounters]:
    return list(adapter.run(wanted or request()))


class Unprobed:
    """Adapters whose mode is not looked into: the recorded server answers one prompt only."""

    class LlamaCpp(LlamaCppServerAdapter):
        dialect = None

    class Vllm(VllmServerAdapter):
        dialect = None

    class Sglang(SglangServerAdapter):
        dialect = None


def llama_cpp(**changed: list[Play]) -> dict[str, list[Play]]:
    plays: dict[str, list[Play]] = {
        "/props": [Answer(payload("llama_cpp_props.json"))],
        "/v1/models": [Answer(payload("llama_cpp_models.json"))],
        "/completion": [Answer(payload("llama_cpp_stream.txt"))],
        "/metrics": [
            Answer(payload("llama_cpp_metrics_before.txt")),
            Answer(_one_request()),
        ],
    }
    return plays | {"/" + path: answers for path, answers in changed.items()}


def _one_request() -> str:
    """The recorded page counts the prompt twice, once streamed and once not."""
    lines = []
    for line in payload("llama_cpp_metrics_after.txt").split("\n"):
        name, _, value = line.rpartition(" ")
        lines.append(f"{name} {int(value) // 2}" if name.startswith("llamacpp:spec_") else line)
    return "\n".join(lines)


def vllm(**changed: list[Play]) -> dict[str, list[Play]]:
    plays: dict[str, list[Play]] = {
        "/version": [Answer('{"version": "0.32.0"}')],
        "/v1/models": [Answer(payload("vllm_models.json"))],
        "/v1/completions": [Answer(payload("vllm_completion.json"))],
        "/metrics": [
            Answer(payload("vllm_metrics_before.txt")),
            Answer(payload("vllm_metrics_after.txt")),
        ],
    }
    return plays | {"/" + path.replace("__", "/"): answers for path, answers in changed.items()}


def changed(recorded: str, change: Callable[[Any], Any]) -> list[Play]:
    body = json.loads(recorded)
    change(body)
    return [Answer(json.dumps(body))]


# llama.cpp


def test_llama_cpp_reports_every_round() -> None:
    with playing(llama_cpp()) as stage:
        adapter = Unprobed.LlamaCpp(EngineSetup(), stage.client())
        (text,) = run(adapter)
        assert adapter.version() == "b0-unknown"
    assert isinstance(text, Reported)
    assert text.new_ids == TEXT
    assert text.rounds is not None
    assert [tuple(one_round) for one_round in text.rounds] == [
        (3, 0),
        (3, 1),
        (3, 3),
        (3, 1),
        (3, 0),
        (3, 2),
        (3, 0),
        (3, 3),
        (3, 0),
        (3, 0),
        (2, 2),
    ]
    assert text.totals == Totals(rounds=11, drafted=32, accepted=12, per_position=(6, 4, 2))
    check_reported(text, request())
    sent = next(body for path, body in stage.seen if path == "/completion")
    assert (sent["samplers"], sent["cache_prompt"]) == (["temperature", "top_k", "top_p"], False)


def test_so_many_requests_are_sent_at_once_and_keep_their_order() -> None:
    both, recorded = threading.Barrier(2), payload("llama_cpp_stream.txt")

    def wait(body: dict[str, Any]) -> Answer:
        both.wait(timeout=30)
        return Answer(recorded)

    plays = llama_cpp(completion=[wait], metrics=[Answer(status=501)])
    with playing(plays) as stage:
        adapter = Unprobed.LlamaCpp(EngineSetup(), stage.client())
        texts = run(adapter, dataclasses.replace(request(4), batch=2))
    assert [text.key for text in texts if isinstance(text, Reported)] == ["p0", "p1", "p2", "p3"]
    assert {text.new_ids for text in texts if isinstance(text, Reported)} == {TEXT}


def test_no_drafts_in_the_answer_are_none_drafted() -> None:
    body = json.loads(payload("llama_cpp_completion_no_draft.json"))
    assert "draft_n" not in body["timings"]
    events = [
        {"stop": False, "tokens_predicted": at + 1, "tokens": [token]}
        for at, token in enumerate(body["tokens"])
    ]
    stream = "".join(f"data: {json.dumps(event)}\n\n" for event in [*events, body | {"tokens": []}])
    with playing(llama_cpp(completion=[Answer(stream)], metrics=[Answer("", 501)])) as stage:
        _, rounds, totals, _ = Unprobed.LlamaCpp(EngineSetup(), stage.client()).answer(
            PROMPT, Sampling(0.0), 24, 0, 3
        )
    assert rounds == (ReportedRound(0, 0),) * 23
    assert totals == Totals(rounds=23, drafted=0, accepted=0, per_position=())


def test_a_server_of_another_k_is_an_error() -> None:
    with playing(llama_cpp(metrics=[Answer("", 501)])) as stage:
        adapter = Unprobed.LlamaCpp(EngineSetup(), stage.client())
        with pytest.raises(
            MeasurementError,
            match=r"no round drafts more than 3 tokens and k is 5; use --specdec-k=3",
        ):
            run(adapter, request(k=5))
    with playing(llama_cpp(metrics=[Answer("", 501)])) as stage:
        adapter = Unprobed.LlamaCpp(EngineSetup(), stage.client())
        one = ServerReply(new_ids=TEXT, rounds=(ReportedRound(0, 0),) * 23, totals=None)
        with pytest.raises(MeasurementError, match="no round drafts a token; start it with a dra"):
            next(adapter._sums([one], 3, 0))
    with (
        playing(llama_cpp()) as stage,
        pytest.raises(MeasurementError, match="a round drafts 3 tokens and k is 2; use"),
    ):
        run(Unprobed.LlamaCpp(EngineSetup(), stage.client()), request(k=2))


def test_another_user_of_the_server_is_noticed() -> None:
    with (
        playing(
            llama_cpp(
                metrics=[
                    *llama_cpp()["/metrics"][:1],
                    Answer(payload("llama_cpp_metrics_after.txt")),
                ]
            )
        ) as stage,
        pytest.raises(
            ServerError,
            match=r"rounds: 11 in its answers, 22 in its counters.*somebody else uses the server",
        ),
    ):
        run(Unprobed.LlamaCpp(EngineSetup(), stage.client()))


def test_a_stream_that_stops_early_is_an_error() -> None:
    events = payload("llama_cpp_stream.txt").split("\n\n")
    with (
        playing(llama_cpp(completion=[Answer("\n\n".join(events[:9]) + "\n\n")])) as stage,
        pytest.raises(ServerError, match="the stream ends without its last event"),
    ):
        run(Unprobed.LlamaCpp(EngineSetup(), stage.client()))


def test_drafts_that_run_backwards_are_an_error() -> None:
    stream = payload("llama_cpp_stream.txt").replace(
        '"draft_n":9,"draft_n_accepted":4', '"draft_n":5,"draft_n_accepted":1', 1
    )
    with (
        playing(llama_cpp(completion=[Answer(stream)])) as stage,
        pytest.raises(
            ServerError, match="its counters contradict each other: at token 5 draft_n is 5 after 6"
        ),
    ):
        run(Unprobed.LlamaCpp(EngineSetup(), stage.client()))


def _hidden(*places: int) -> str:
    """The recorded stream without the tokens at some places, as where a character spans tokens."""
    events = payload("llama_cpp_stream.txt").strip().split("\n\n")
    return "\n\n".join(event for at, event in enumerate(events, 1) if at not in places) + "\n\n"


@pytest.mark.parametrize("places", [(3,), (9,), (11,), (15, 20), (4, 5), (1,), (23, 24)])
def test_unstreamed_tokens_are_fetched_and_their_rounds_reported(places: tuple[int, ...]) -> None:
    pages: list[Play] = [Answer("a 1"), Answer("a 1"), Answer("a 1")]
    whole = Answer(payload("llama_cpp_completion.json"))
    with playing(llama_cpp(completion=[Answer(_hidden(*places)), whole], metrics=pages)) as stage:
        ids, rounds, totals, _ = Unprobed.LlamaCpp(EngineSetup(), stage.client()).answer(
            PROMPT, Sampling(0.0), 24, 0, 3
        )
        assert stage.seen[-1][1]["return_tokens"] is True
    assert ids == TEXT
    assert totals is not None
    assert (totals.drafted, totals.accepted) == (32, 12)
    assert rounds is not None
    assert [tuple(one_round) for one_round in rounds][-1] == (2, 2)
    assert (len(rounds), sum(one_round.accepted for one_round in rounds)) == (11, 12)


def test_a_request_that_gives_two_texts_is_an_error() -> None:
    other = json.loads(payload("llama_cpp_completion.json"))
    other["tokens"][5] = 999
    with (
        playing(llama_cpp(completion=[Answer(_hidden(3)), Answer(json.dumps(other))])) as stage,
        pytest.raises(ServerError, match="the same request with the same seed gave two texts"),
    ):
        Unprobed.LlamaCpp(EngineSetup(), stage.client()).answer(PROMPT, Sampling(0.0), 24, 0, 3)


def test_the_wrong_engine_at_the_url_is_named() -> None:
    with (
        playing(vllm()) as stage,
        pytest.raises(RequestError, match=r"is not a llama-cpp server; name the right engine"),
    ):
        run(LlamaCppServerAdapter(EngineSetup(), stage.client()))


def test_synthetic_acceptance_shows_in_the_text() -> None:
    """The recorded tokens, scored by a server that finds the fifth one unlikely."""

    def completion(body: dict[str, Any]) -> Answer:
        if body.get("stream"):
            return Answer(payload("llama_cpp_stream.txt"))
        ((token, _),) = body["logit_bias"]
        logprob = -3.0 if len(body["prompt"]) == 8 else -0.9
        forced = {"id": token, "logprob": logprob, "top_logprobs": [{"id": 5, "logprob": -0.8}]}
        return Answer(
            json.dumps(
                {"tokens_evaluated": len(body["prompt"]), "completion_probabilities": [forced]}
            )
        )

    with playing(llama_cpp(completion=[completion])) as stage:
        (text,) = run(LlamaCppServerAdapter(EngineSetup(), stage.client()))
    assert isinstance(text, Reported)
    assert text.altered is not None
    assert text.altered.startswith(
        "synthetic acceptance or another mode that is not lossless (token 4 of a greedy text is "
        "2.2 nats"
    )


# vLLM


def test_vllm_reports_every_step() -> None:
    with playing(vllm()) as stage:
        adapter = Unprobed.Vllm(EngineSetup(), stage.client())
        (text,) = run(adapter)
        assert adapter.version() == "0.32.0"
        sent = next(body for path, body in stage.seen if path == "/v1/completions")
    assert isinstance(text, Reported)
    assert text.new_ids == TEXT
    assert text.totals == Totals(rounds=11, drafted=33, accepted=13, per_position=(6, 4, 3))
    assert text.rounds is not None
    assert sum(one_round.accepted for one_round in text.rounds) == 13
    assert sent["repetition_penalty"] == 1.0
    check_reported(text, request())


def test_a_summary_counts_by_request() -> None:
    def summary(body: Any) -> None:
        for name in ("per_step_accepted", "per_step_drafted"):
            del body["metrics"]["speculative_decoding"][name]

    with playing(vllm(v1__completions=changed(payload("vllm_completion.json"), summary))) as stage:
        (text,) = run(Unprobed.Vllm(EngineSetup(), stage.client()))
    assert isinstance(text, Reported)
    assert text.rounds is None
    assert text.totals == Totals(rounds=11, drafted=33, accepted=13, per_position=(6, 4, 3))


def _unmeasured(body: Any) -> None:
    del body["metrics"]


def test_without_metrics_in_answers_the_counters_count() -> None:
    with playing(
        vllm(v1__completions=changed(payload("vllm_completion.json"), _unmeasured))
    ) as stage:
        text, pooled = run(Unprobed.Vllm(EngineSetup(), stage.client()))
    assert isinstance(text, Reported)
    assert (text.rounds, text.totals) == (None, None)
    assert isinstance(pooled, PooledCounters)
    assert pooled.totals == Totals(rounds=11, drafted=33, accepted=13, per_position=(6, 4, 3))


def test_pooled_counters_of_lost_answers_are_refused() -> None:
    answers = [Answer("", 503), *changed(payload("vllm_completion.json"), _unmeasured)]
    with (
        playing(vllm(v1__completions=answers)) as stage,
        pytest.raises(
            ServerError,
            match="1 requests were sent again, so its counters hold rounds of lost answers; run "
            "again",
        ),
    ):
        run(Unprobed.Vllm(EngineSetup(), stage.client()))


def test_a_lost_answer_is_asked_for_again_where_answers_count_for_themselves() -> None:
    answers = [Answer("", 503), *vllm()["/v1/completions"]]
    with playing(vllm(v1__completions=answers)) as stage:
        (text,) = run(Unprobed.Vllm(EngineSetup(), stage.client()))
    assert isinstance(text, Reported)
    assert text.totals == Totals(rounds=11, drafted=33, accepted=13, per_position=(6, 4, 3))


METRICS: list[tuple[list[Play], type[SpecdecError], str]] = [
    (
        [Answer("a 1")],
        ServerError,
        "/metrics has no vllm:spec_decode_num_drafts: it does not draft; start it with "
        "--speculative",
    ),
    (
        [
            vllm()["/metrics"][0],
            Answer(
                payload("vllm_metrics_after.txt").replace("num_draft_tokens_total", "gone_total")
            ),
        ],
        MetricError,
        r"num_draft_tokens_total\{.*\} has gone since the run began",
    ),
    (
        [
            vllm()["/metrics"][0],
            Answer(payload("vllm_metrics_after.txt").replace('"tiny"} 33.0', '"tiny"} NaN')),
        ],
        MetricError,
        r"num_draft_tokens_total\{.*\} is nan, which no counter can be",
    ),
    (
        [vllm()["/metrics"][1], vllm()["/metrics"][0]],
        MetricError,
        "went backwards, from 11 to 0; the server was restarted",
    ),
    ([Answer("<html><title>nginx")], MetricError, "a web page, not with metrics"),
    (
        [vllm()["/metrics"][0], Answer("oops", 500)],
        ServerError,
        r"/metrics: HTTP 500 \(oops\), in 5 tries",
    ),
]


@pytest.mark.parametrize(("pages", "kind", "words"), METRICS)
def test_bad_counters_are_errors(pages: list[Play], kind: type[SpecdecError], words: str) -> None:
    with (
        playing(
            vllm(
                metrics=list(pages),
                v1__completions=changed(payload("vllm_completion.json"), _unmeasured),
            )
        ) as stage,
        pytest.raises(kind, match=words),
    ):
        run(Unprobed.Vllm(EngineSetup(), stage.client()))


def _spec(**values: Any) -> Callable[[Any], None]:
    return lambda body: body["metrics"]["speculative_decoding"].update(values)


ANSWERS: list[tuple[Callable[[Any], Any], str]] = [
    (_spec(num_spec_steps=12), "num_spec_steps is 12 and per_step_accepted has 11"),
    (_spec(per_step_drafted=[3]), "its numbers contradict each other"),
    (
        _spec(acceptance_histogram=[5, 2, 1, 4]),
        "num_spec_steps is 11 and acceptance_histogram adds up to 12",
    ),
    (_spec(num_draft_tokens="many"), "Expected `int`, got `str`"),
    (
        lambda body: body["choices"][0].update(token_ids=None),
        "it counts 24 new tokens and returns 0 ids; use vLLM 0.10.2 or later",
    ),
    (
        lambda body: body["usage"].update(prompt_tokens=5),
        "4 prompt tokens were sent and it counts 5",
    ),
]


@pytest.mark.parametrize(("change", "words"), ANSWERS)
def test_answers_that_contradict_themselves_are_errors(
    change: Callable[[Any], Any], words: str
) -> None:
    with (
        playing(vllm(v1__completions=changed(payload("vllm_completion.json"), change))) as stage,
        pytest.raises(ServerError, match=words),
    ):
        run(Unprobed.Vllm(EngineSetup(), stage.client()))


def test_texts_before_a_servers_death_are_handed_over() -> None:
    answers = [*vllm()["/v1/completions"] * 2, Answer(reset=True)]
    with playing(vllm(v1__completions=answers)) as stage:
        texts = Unprobed.Vllm(EngineSetup(), stage.client(tries=2)).run(request(prompts=4))
        assert [next(texts).key for _ in range(2)] == ["p0", "p1"]  # type: ignore[union-attr]
        with pytest.raises(
            ServerError, match=r"no answer \(.*in 2 tries; see that the server runs"
        ):
            next(texts)


def vllm_info(method: str, model: str) -> dict[str, list[Play]]:
    """/server_info of a server in development mode, recorded from vLLM 0.32.0 and cut."""
    recorded = json.loads(payload("vllm_server_info.json"))
    recorded["vllm_config"]["speculative_config"] |= {"method": method, "model": model}
    return {"/server_info?config_format=json": [Answer(json.dumps(recorded))]}


def test_vllm_with_the_eagle3_head_of_the_case_counts() -> None:
    for plays in ({}, vllm_info("eagle3", "/served/head")):
        with playing(vllm() | plays) as stage:
            wanted = request(drafter="eagle3:/head")
            (text,) = run(Unprobed.Vllm(EngineSetup(), stage.client()), wanted)
        assert isinstance(text, Reported)
        assert text.totals == Totals(rounds=11, drafted=33, accepted=13, per_position=(6, 4, 3))


@pytest.mark.parametrize(
    ("drafter", "method", "words"),
    [
        ("draft", "eagle3", "it drafts by eagle3 and the case drafts with model .draft.; name"),
        ("eagle3:/head", "draft_model", "it drafts by draft_model and the case drafts with eagl"),
        (
            "eagle3:/hub/models--owner--other/snapshots/1",
            "eagle3",
            "it drafts with owner/head and the case names /hub/models--owner--other",
        ),
    ],
)
def test_vllm_with_another_drafter_is_refused(drafter: str, method: str, words: str) -> None:
    with (
        playing(vllm() | vllm_info(method, "owner/head")) as stage,
        pytest.raises(ServerError, match=words),
    ):
        run(Unprobed.Vllm(EngineSetup(), stage.client()), request(drafter=drafter))


def test_prompts_without_ids_are_encoded_by_the_server() -> None:
    with playing(vllm(tokenize=[Answer(json.dumps({"tokens": list(PROMPT)}))])) as stage:
        (text,) = run(Unprobed.Vllm(EngineSetup(), stage.client()), request(ids=None))
    assert isinstance(text, Reported)
    assert text.prompt_ids == PROMPT


def test_an_address_is_needed() -> None:
    with pytest.raises(
        RequestError, match="engine vllm needs its server's address; add --specdec-url="
    ):
        VllmServerAdapter(EngineSetup())


# SGLang: the shapes of its issues and documentation


META = {
    "prompt_tokens": 4,
    "completion_tokens": 24,
    "spec_verify_ct": 11,
    "spec_num_correct_drafts": 13,
    "spec_num_proposed_drafts": 33,
    "spec_correct_drafts_histogram": [5, 2, 1, 3],
    "spec_accept_rate": 13 / 33,
}
INFO = {
    "version": "0.5.6",
    "speculative_algorithm": "STANDALONE",
    "speculative_num_steps": 3,
    "speculative_eagle_topk": 1,
}


def sglang(
    meta: dict[str, Any] | None = None, info: dict[str, Any] | None = None
) -> dict[str, list[Play]]:
    body = {"output_ids": list(TEXT), "meta_info": META if meta is None else meta}
    return {
        "/server_info": [Answer(json.dumps(INFO | (info or {})))],
        "/v1/models": [Answer('{"data": [{"id": "m", "owned_by": "sglang"}]}')],
        "/generate": [Answer(json.dumps(body))],
    }


def _sglang(stage: Stage) -> list[Reported | PooledCounters]:
    return run(Unprobed.Sglang(EngineSetup(), stage.client()))


def test_sglang_counts_by_request() -> None:
    with playing(sglang()) as stage:
        (text,) = _sglang(stage)
        assert Unprobed.Sglang(EngineSetup(), stage.client()).version() == "0.5.6"
    assert isinstance(text, Reported)
    assert text.totals == Totals(rounds=11, drafted=33, accepted=13, per_position=(6, 4, 3))
    assert text.altered is None
    check_reported(text, request())


@pytest.mark.parametrize(
    "names",
    [
        ("spec_accepted_drafts", "spec_proposed_drafts", "spec_accept_histogram"),
        ("spec_accept_token_num", "spec_draft_token_num", "spec_accept_histogram"),
    ],
)
def test_older_names_of_sglang_are_known(names: tuple[str, str, str]) -> None:
    now = ("spec_num_correct_drafts", "spec_num_proposed_drafts", "spec_correct_drafts_histogram")
    meta = {
        dict(zip(now, names, strict=True)).get(name, name): value for name, value in META.items()
    }
    plays = sglang(meta)
    plays["/get_server_info"] = plays.pop("/server_info")
    with playing(plays) as stage:
        (text,) = _sglang(stage)
    assert isinstance(text, Reported)
    assert text.totals == Totals(rounds=11, drafted=33, accepted=13, per_position=(6, 4, 3))


def test_without_a_histogram_positions_are_not_known() -> None:
    with playing(
        sglang({name: value for name, value in META.items() if "histogram" not in name})
    ) as stage:
        (text,) = _sglang(stage)
    assert isinstance(text, Reported)
    assert text.totals == Totals(rounds=11, drafted=33, accepted=13, per_position=None)


@pytest.mark.parametrize(
    ("meta", "info", "words"),
    [
        (
            {"prompt_tokens": 4, "completion_tokens": 24},
            {},
            "meta_info has no spec_verify_ct, spec_num_correct_drafts, spec_num_p",
        ),
        (
            META | {"spec_correct_drafts_histogram": [5, 2, 1, 4]},
            {},
            "spec_verify_ct is 11 and the histogram adds up to 12",
        ),
        (META | {"completion_tokens": 25}, {}, "it counts 25 new tokens and returns 24 output_ids"),
        (META | {"prompt_tokens": 5}, {}, "4 prompt tokens were sent and it counts 5"),
        (
            META,
            {"speculative_algorithm": None},
            "does not draft; start it with --speculative-algorithm",
        ),
        (
            META,
            {"speculative_eagle_topk": 4},
            "drafts trees .*; start it with --speculative-eagle-topk 1",
        ),
    ],
)
def test_what_sglang_cannot_report_is_an_error(
    meta: dict[str, Any], info: dict[str, Any], words: str
) -> None:
    with playing(sglang(meta, info)) as stage, pytest.raises(MeasurementError, match=words):
        _sglang(stage)


TREE = DynamicTree(topk=2, depth=3, nodes=6)
TREE_INFO = {"speculative_eagle_topk": 2, "speculative_num_draft_tokens": 7}


def test_sglang_counts_rounds_of_the_tree_of_the_case() -> None:
    asked = dataclasses.replace(request(), tree=TREE)
    with playing(sglang(META | {"spec_num_proposed_drafts": 66}, TREE_INFO)) as stage:
        (text,) = run(Unprobed.Sglang(EngineSetup(), stage.client()), asked)
    assert isinstance(text, Reported)
    # 11 rounds drafted each of the 3 depths once.
    assert text.totals == Totals(rounds=11, drafted=33, accepted=13, per_position=(6, 4, 3))
    check_reported(text, asked)


@pytest.mark.parametrize(
    ("meta", "info", "words"),
    [
        ({"spec_num_proposed_drafts": 66}, {}, "it drafts chains and the case drafts topk=2"),
        (
            {"spec_num_proposed_drafts": 66},
            TREE_INFO | {"speculative_num_draft_tokens": 8},
            "it drafts topk=2,depth=3,nodes=7 and the case",
        ),
        ({}, TREE_INFO, "counts 33 drafts in 11 rounds of 6 nodes"),
    ],
)
def test_sglang_with_another_tree_is_refused(
    meta: dict[str, Any], info: dict[str, Any], words: str
) -> None:
    asked = dataclasses.replace(request(), tree=TREE)
    with (
        playing(sglang(META | meta, info)) as stage,
        pytest.raises(MeasurementError, match=words),
    ):
        run(Unprobed.Sglang(EngineSetup(), stage.client()), asked)


EAGLE3_INFO = {
    "model_path": "meta-llama/Llama-3.1-8B-Instruct",
    "speculative_algorithm": "EAGLE3",
    "speculative_draft_model_path": "lmsys/sglang-EAGLE3-LLaMA3.1-Instruct-8B",
    "speculative_num_steps": 3,
    "speculative_eagle_topk": 1,
    "speculative_num_draft_tokens": 4,
}
"""Fields of ServerArgs, which /server_info lists all: sgl-project/sglang
`entrypoints/http_server.py`.
"""
EAGLE3_HEAD = "/hub/models--lmsys--sglang-EAGLE3-LLaMA3.1-Instruct-8B/snapshots/5a9b"


def test_sglang_with_the_eagle3_head_of_the_case_counts() -> None:
    with playing(sglang(info=EAGLE3_INFO)) as stage:
        wanted = request(drafter=f"eagle3:{EAGLE3_HEAD}")
        (text,) = run(Unprobed.Sglang(EngineSetup(), stage.client()), wanted)
    assert isinstance(text, Reported)
    assert text.totals == Totals(rounds=11, drafted=33, accepted=13, per_position=(6, 4, 3))


@pytest.mark.parametrize(
    ("drafter", "info", "words"),
    [
        ("draft", EAGLE3_INFO, "it drafts by EAGLE3 and the case drafts with model .draft.; name"),
        ("mtp", EAGLE3_INFO, "it drafts by EAGLE3 and the case drafts with mtp; name"),
        ("eagle3:/head", {}, "it drafts by STANDALONE and the case drafts with eagle3 ./head.;"),
        (
            "eagle3:/hub/models--owner--other/snapshots/1",
            EAGLE3_INFO,
            "it drafts with lmsys/sglang-EAGLE3.* and the case names /hub/models--owner--other",
        ),
    ],
)
def test_sglang_with_another_drafter_is_refused(
    drafter: str, info: dict[str, Any], words: str
) -> None:
    with (
        playing(sglang(info=info)) as stage,
        pytest.raises(ServerError, match=words),
    ):
        run(Unprobed.Sglang(EngineSetup(), stage.client()), request(drafter=drafter))


@pytest.mark.parametrize("algorithm", ["EAGLE", "NEXTN"])
def test_sglang_calls_own_layers_eagle(algorithm: str) -> None:
    own = {"speculative_algorithm": algorithm, "speculative_draft_model_path": "owner/target"}
    with playing(sglang(info=own)) as stage:
        (text,) = run(Unprobed.Sglang(EngineSetup(), stage.client()), request(drafter="mtp"))
    assert isinstance(text, Reported)


def test_lossy_thresholds_are_named() -> None:
    with playing(sglang(info={"speculative_accept_threshold_acc": 0.9})) as stage:
        (text,) = _sglang(stage)
    assert isinstance(text, Reported)
    assert text.altered == "lossy acceptance (speculative_accept_threshold_acc=0.9)"


# TensorRT-LLM: the shapes of its source


ROUNDS = [(3, 0), (3, 1), (3, 3), (3, 1), (3, 0), (3, 2), (3, 0), (3, 3), (3, 0), (3, 0), (3, 3)]


def iterations(start: int = 1, requests: int = 1) -> str:
    spec = [
        {
            "numDraftTokens": drafted,
            "numAcceptedTokens": accepted,
            "numRequestsWithDraftTokens": requests,
            "acceptanceLength": 1.0,
        }
        for drafted, accepted in ROUNDS
    ]
    entries = [
        {"iter": start},
        *({"iter": start + 1 + at, "specDecodingStats": stats} for at, stats in enumerate(spec)),
    ]
    return json.dumps(entries)


def trtllm(metrics: list[Play]) -> dict[str, list[Play]]:
    answer = {
        "choices": [{"token_ids": list(TEXT)}],
        "usage": {"prompt_tokens": 4, "completion_tokens": 24},
    }
    return {
        "/version": [Answer('{"version": "1.2.0"}')],
        "/v1/models": [Answer('{"data": [{"id": "m", "owned_by": "tensorrt_llm"}]}')],
        "/v1/completions": [Answer(json.dumps(answer))],
        "/metrics": metrics,
    }


def _trtllm(stage: Stage) -> list[Reported | PooledCounters]:
    return run(TensorRtLlmServerAdapter(EngineSetup(), stage.client(), sleep=lambda seconds: None))


def test_each_drained_iteration_is_a_round() -> None:
    late = json.loads(iterations())
    halves = [
        Answer(json.dumps(late[:5])),
        Answer("[]"),
        Answer(json.dumps(late[5:])),
        Answer("[]"),
    ]
    with playing(trtllm([Answer("[]"), *halves])) as stage:
        (text,) = _trtllm(stage)
    assert isinstance(text, Reported)
    assert text.rounds == tuple(ReportedRound(*pair) for pair in ROUNDS)
    check_reported(text, request())


@pytest.mark.parametrize(
    ("metrics", "words"),
    [
        (["[]"], "/metrics has no specDecodingStats for a request .* enable_iter_perf_stats: true"),
        (
            ["[]", iterations(requests=2)],
            "two requests drafted in one iteration: somebody else uses the server",
        ),
        (
            [iterations(100), iterations(1)],
            r"/metrics went backwards \(111, then 1\): it was restarted",
        ),
        (["[]", iterations(1), iterations(50)], "reports rounds that belong to no answer"),
        (['[{"iter": 1, "specDecodingStats": {}}]'], "missing required field `numDraftTokens`"),
        (["<html>"], "a web page, not with JSON"),
        (['[{"iter": 1'], "cannot be read: Expecting ',' delimiter"),
    ],
)
def test_what_trtllm_cannot_report_is_an_error(metrics: list[str], words: str) -> None:
    with (
        playing(trtllm([Answer(page) for page in metrics])) as stage,
        pytest.raises(ServerError, match=words),
    ):
        _trtllm(stage)


def test_trtllm_drafts_with_an_eagle3_head() -> None:
    """It names no drafter anywhere, so the weights of the case are the oracle's to judge."""
    with playing(trtllm([Answer("[]"), Answer(iterations()), Answer("[]")])) as stage:
        adapter = TensorRtLlmServerAdapter(EngineSetup(), stage.client(), sleep=lambda s: None)
        (text,) = run(adapter, request(drafter="eagle3:/head"))
    assert isinstance(text, Reported)
    check_reported(text, request(drafter="eagle3:/head"))


def test_rounds_that_were_lost_are_found_by_the_identity() -> None:
    short = json.dumps(json.loads(iterations())[:6])
    with playing(trtllm([Answer("[]"), Answer(short), Answer("[]")])) as stage:
        (text,) = _trtllm(stage)
    assert isinstance(text, Reported)
    with pytest.raises(MeasurementError, match="so they leave rounds out"):
        check_reported(text, request())


def test_a_retry_that_may_have_drained_rounds_is_an_error() -> None:
    plays = trtllm([Answer("[]"), Answer(iterations())])
    plays["/v1/completions"].insert(0, Answer("", 503))
    with (
        playing(plays) as stage,
        pytest.raises(ServerError, match="rounds of a lost answer; run again"),
    ):
        _trtllm(stage)


# All of them


def _finished(words: Any) -> dict[type[ServedAdapter], dict[str, list[Play]]]:
    """Answers that end by what each server calls `words`."""
    stream = payload("llama_cpp_stream.txt").replace(
        '"stop_type":"limit"', f'"stop_type":"{words["llama-cpp"]}"'
    )
    trt = json.loads(trtllm([])["/v1/completions"][0].body)
    trt["choices"][0]["finish_reason"] = words["trtllm"]
    drained = [Answer("[]"), Answer(iterations()), Answer("[]")]
    return {
        Unprobed.LlamaCpp: llama_cpp(completion=[Answer(stream)]),
        Unprobed.Vllm: vllm(
            v1__completions=changed(
                payload("vllm_completion.json"),
                lambda body: body["choices"][0].update(finish_reason=words["vllm"]),
            )
        ),
        Unprobed.Sglang: sglang(META | {"finish_reason": words["sglang"]}),
        TensorRtLlmServerAdapter: trtllm(drained) | {"/v1/completions": [Answer(json.dumps(trt))]},
    }


STOP = {
    "llama-cpp": "eos",
    "vllm": "stop",
    "sglang": {"type": "stop", "matched": 1},
    "trtllm": "stop",
}
LENGTH = {
    "llama-cpp": "limit",
    "vllm": "length",
    "sglang": {"type": "length", "length": 24},
    "trtllm": "length",
}
ABORT = {
    "llama-cpp": "abort",
    "vllm": "abort",
    "sglang": {"type": "abort", "message": ""},
    "trtllm": "abort",
}


@pytest.mark.parametrize(
    ("words", "finish"), [(STOP, "stop"), (LENGTH, "length"), (ABORT, "abort")]
)
@pytest.mark.parametrize(
    "kind", [Unprobed.LlamaCpp, Unprobed.Vllm, Unprobed.Sglang, TensorRtLlmServerAdapter]
)
def test_what_a_server_says_of_a_texts_end_is_handed_over(
    kind: type[ServedAdapter], words: dict[str, Any], finish: str
) -> None:
    with playing(_finished(words)[kind]) as stage:
        text = run(kind(EngineSetup(), stage.client()))[0]
    assert isinstance(text, Reported)
    assert text.finish == finish
