"""Another project's engine adapted to our protocol: what it cannot do is refused, and nothing measured is
lost.
"""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.reports import PROMPT
from helpers.support import EMBEDDED

from pytest_specdec.cases.case import Case, JudgedRange, TextKey
from pytest_specdec.cases.drafter import OwnHeadsSpec, PromptLookupSpec, ServedSpec
from pytest_specdec.cases.prompts import Prompt, read_prompts
from pytest_specdec.checkpoints.checkpoint import case_checkpoint
from pytest_specdec.common.errors import MeasurementError, RequestError
from pytest_specdec.engines.adapter_api import (
    RULES,
    Capabilities,
    CountingConvention,
    EngineSetup,
    GenerationRequest,
    PooledCounters,
    Reported,
    ReportedRound,
    Timings,
    Totals,
)
from pytest_specdec.engines.adapters.trace import TraceAdapter
from pytest_specdec.engines.encoding import encoded, encoded_alone
from pytest_specdec.engines.external import ExternalEngine
from pytest_specdec.engines.model_checks import oracle
from pytest_specdec.engines.models import ModelPool

ABLE = Capabilities(
    drafters=("model", "mtp", "prompt-lookup"),
    rules=RULES,
    draft_depth=False,
    samples=True,
    filters=True,
    per_round=True,
)
ROUNDS = (ReportedRound(3, 1), ReportedRound(3, 3), ReportedRound(3, 0), ReportedRound(0, 0))


@dataclasses.dataclass
class Scripted:
    """An engine that reports what it was given, and may fail on the way."""

    name = "vllm"
    capabilities: Capabilities = ABLE
    dies_at: int | None = None
    pooled: PooledCounters | None = None
    ngrams: tuple[int, int] | None = None
    requests: list[GenerationRequest] = dataclasses.field(default_factory=list)

    def version(self) -> str:
        return "9.9"

    def run(self, request: GenerationRequest) -> Iterator[Reported | PooledCounters]:
        self.requests.append(request)
        for row, prompt in enumerate(request.prompts):
            if row == self.dies_at:
                raise MeasurementError("the server is gone; start it again")
            convention = CountingConvention(counts_empty=self.pooled is None, ngrams=self.ngrams)
            rounds = None if self.pooled else ROUNDS
            yield Reported(
                key=prompt.key,
                prompt_ids=PROMPT,
                new_ids=(5, *range(2, 10)),
                convention=convention,
                rounds=rounds,
                timings=Timings(seconds=2.0, draft_ms=(1.0, 3.0)),
            )
        if self.pooled is not None:
            yield self.pooled

    def close(self) -> None: ...


@pytest.fixture
def case(tmp_path: Path) -> Case:
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text(
        "".join(f'{{"category": "c{row}", "prompt": "text {row}"}}\n' for row in range(3))
    )
    texts = TextKey("s", "served", prompts, None, 9, 0.0, 0)
    return Case(
        texts=texts,
        drafter=ServedSpec(),
        label="served",
        k=3,
        depth=0,
        rule="greedy",
        margin=0.005,
        engine="vllm",
    )


def engine(adapter: Scripted, folder: Path) -> ExternalEngine:
    external = ExternalEngine("vllm", ModelPool(), kept=folder / "kept")
    external.adapter = adapter
    return external


def test_a_measurement_says_what_was_counted_and_by_whom(case: Case, tmp_path: Path) -> None:
    measurement = engine(Scripted(), tmp_path).measure(case)
    assert (
        measurement.definition,
        measurement.environment.engine,
        measurement.fingerprints.target,
    ) == (
        "acceptance/1",
        "9.9",
        "served",
    )
    assert measurement.counts.categories == ("c0", "c1", "c2")
    assert measurement.counts.rounds.tolist() == [2, 2, 2]
    assert measurement.times is not None
    assert (
        measurement.times.draft_ms,
        measurement.times.verify_ms,
        measurement.times.tokens_per_second,
    ) == (
        2.0,
        None,
        4.5,
    )


def test_texts_and_counts_share_one_run_and_every_measurement_is_a_new_one(
    case: Case, tmp_path: Path
) -> None:
    adapter = Scripted()
    external = engine(adapter, tmp_path)
    assert len(external.emitted(case)) == 3
    external.measure(case)
    assert len(adapter.requests) == 1
    external.measure(case)
    assert len(adapter.requests) == 2


def test_each_prompt_has_a_seed_of_its_own_in_each_run(case: Case, tmp_path: Path) -> None:
    adapter = Scripted()
    external = engine(adapter, tmp_path)
    external.measure(case)
    external.measure(dataclasses.replace(case, texts=dataclasses.replace(case.texts, seed=1)))
    seeds = [request.seed_of(prompt) for request in adapter.requests for prompt in request.prompts]
    assert len(set(seeds)) == 6
    assert all(0 <= seed < 2**31 for seed in seeds)


def test_what_came_before_a_fault_is_kept_as_a_trace(case: Case, tmp_path: Path) -> None:
    with pytest.raises(
        MeasurementError,
        match=r"the server is gone; start it again \(2 of 3 texts .* kept in (.*\.jsonl)\)",
    ):
        engine(Scripted(dies_at=2), tmp_path).measure(case)
    (path,) = (tmp_path / "kept" / case.suite).iterdir()
    adapter, wanted = Scripted(), case
    engine(adapter, tmp_path).measure(wanted)
    request = dataclasses.replace(adapter.requests[0], prompts=adapter.requests[0].prompts[:2])
    kept = list(TraceAdapter(EngineSetup(url=str(path))).run(request))
    assert [result.rounds for result in kept if isinstance(result, Reported)] == [ROUNDS, ROUNDS]


def test_runs_of_other_seeds_are_kept_beside_it(case: Case, tmp_path: Path) -> None:
    for seed in (0, 1):
        with pytest.raises(MeasurementError, match="are kept in"):
            engine(Scripted(dies_at=2), tmp_path).measure(
                dataclasses.replace(case, texts=dataclasses.replace(case.texts, seed=seed))
            )
    assert len(list((tmp_path / "kept" / case.suite).iterdir())) == 2


def test_a_fault_before_the_first_text_keeps_nothing(case: Case, tmp_path: Path) -> None:
    with pytest.raises(MeasurementError, match=r"start it again$"):
        engine(Scripted(dies_at=0), tmp_path).measure(case)
    assert not (tmp_path / "kept").exists()


def test_sums_of_all_requests_make_one_row(case: Case, tmp_path: Path) -> None:
    pooled = PooledCounters(
        Totals(rounds=12, drafted=36, accepted=12, per_position=(6, 4, 2)), CountingConvention()
    )
    measurement = engine(Scripted(pooled=pooled), tmp_path).measure(case)
    assert (measurement.definition, measurement.counts.prompts) == ("sums/1", ("all prompts",))
    with pytest.raises(
        MeasurementError, match=r"\(8\) and accepted \(12\) make 20 tokens and 24 were emitted"
    ):
        engine(
            Scripted(
                pooled=PooledCounters(
                    Totals(rounds=8, drafted=24, accepted=12), CountingConvention()
                )
            ),
            tmp_path,
        ).measure(case)


@pytest.mark.parametrize(
    ("capabilities", "change", "message"),
    [
        (
            {"drafters": ("model",)},
            {"drafter": OwnHeadsSpec(), "depth": 1},
            "vllm drafts with model, not with mtp; choose another",
        ),
        (
            {"drafters": ("model", "mtp")},
            {"drafter": PromptLookupSpec()},
            "drafts with model or mtp, not with prompt-lookup; choose another drafter",
        ),
        (
            {},
            {"depth": 3},
            r"vllm cannot draft with a draft model's MTP layers \(depth 3\); use --specdec-depth=0",
        ),
        (
            {},
            {"rule": "block"},
            "vllm verifies by greedy or rejection, not by rule 'block'; leave the rule out",
        ),
        ({"most": 2}, {}, "vllm drafts at most 2 tokens, not 3; use --specdec-k=2 or less"),
        (
            {},
            {"judged": JudgedRange(1, 5)},
            "vllm drafts every token, not the judged ones alone; leave --specdec-judged out",
        ),
        (
            {"samples": False},
            {"temperature": 1.0},
            "vllm decodes greedily here; use --specdec-temperature=0",
        ),
        (
            {"filters": False},
            {"temperature": 1.0, "top_p": 0.9},
            "vllm samples without top-k and top-p; use --specdec-top-k=0 --specdec-top-p=1",
        ),
        (
            {},
            {"drafter": OwnHeadsSpec(), "depth": 1, "target": str(EMBEDDED / "text-target")},
            "vllm drafts 3 tokens with 3 of the target's 3 MTP layers, not with 1; use "
            "--specdec-depth=3",
        ),
    ],
)
def test_what_an_engine_cannot_do_is_refused_before_it_is_asked(
    case: Case, tmp_path: Path, capabilities: dict, change: dict, message: str
) -> None:
    of_texts = {name: change[name] for name in change if name in ("temperature", "top_p", "target")}
    rest = {name: value for name, value in change.items() if name not in of_texts}
    texts, adapter = (
        dataclasses.replace(case.texts, **of_texts),
        Scripted(dataclasses.replace(ABLE, **capabilities)),
    )
    rule = {} if "rule" in rest or not texts.temperature else {"rule": "rejection"}
    with pytest.raises(RequestError, match=message):
        engine(adapter, tmp_path).measure(dataclasses.replace(case, texts=texts, **rest, **rule))
    assert not adapter.requests


def test_own_heads_draft_with_as_many_layers_as_there_are_tokens(
    case: Case, tmp_path: Path
) -> None:
    texts = dataclasses.replace(case.texts, target=str(EMBEDDED / "text-target"))
    heads_case = dataclasses.replace(case, texts=texts, drafter=OwnHeadsSpec(), depth=3)
    assert engine(Scripted(), tmp_path).measure(heads_case).counts.total_rounds > 0


@pytest.mark.parametrize(
    ("ngrams", "fingerprint"),
    [((1, 2), "prompt-lookup-2"), ((2, 4), "prompt-lookup-2-4"), (None, "prompt-lookup-served")],
)
def test_lookup_is_filed_with_the_n_grams_that_were_looked_up(
    case: Case, tmp_path: Path, ngrams: tuple[int, int] | None, fingerprint: str
) -> None:
    lookup_case = dataclasses.replace(case, drafter=PromptLookupSpec())
    assert (
        engine(Scripted(ngrams=ngrams), tmp_path).measure(lookup_case).fingerprints.drafter
        == fingerprint
    )


@pytest.mark.parametrize(
    ("ngrams", "message"),
    [
        ((2, 4), "looks up n-grams of 2 to 4 tokens"),
        (None, "does not say which n-grams it looks up"),
    ],
)
def test_other_lookups_than_ours_are_not_replayed(
    case: Case, tmp_path: Path, ngrams: tuple[int, int] | None, message: str
) -> None:
    texts = dataclasses.replace(case.texts, target=str(EMBEDDED / "text-target"))
    lookup_case = dataclasses.replace(case, texts=texts, drafter=PromptLookupSpec())
    with pytest.raises(
        RequestError, match=f"{message}, and only those of 1 to 2 tokens can be replayed; leave"
    ):
        oracle(engine(Scripted(ngrams=ngrams), tmp_path), lookup_case, 0.01)


def test_a_served_engine_needs_no_torch() -> None:
    """Neither for its measurement nor for the gate."""
    modules = (
        "pytest_specdec.judging.runner, pytest_specdec.engines.external, "
        "pytest_specdec.engines.adapters.trace"
    )
    code = f"import sys, {modules}; print('torch' in sys.modules)"
    assert (
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout
        == "False\n"
    )


def test_prompts_are_encoded_alike_with_and_without_transformers() -> None:
    checkpoint = case_checkpoint(str(EMBEDDED / "text-target"))
    assert checkpoint is not None
    prompts = read_prompts(EMBEDDED.parent / "engines" / "prompts.jsonl")
    assert encoded_alone(checkpoint, prompts) == encoded(checkpoint, lambda: None, prompts)
    with pytest.raises(RequestError, match="tokenizer needs transformers here; pip install"):
        encoded_alone(
            checkpoint, [Prompt("key", "chat", messages=((("content", "x"), ("role", "user")),))]
        )
