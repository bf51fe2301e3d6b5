"""The gate on counts that a test hands over: from the counts to the verdict, the record and the row."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pytest_specdec.acceptance.given_counts import ROUNDS, TOTALS
from pytest_specdec.baselines.store import BaselineStore, load_baseline, write_all
from pytest_specdec.cases.counts_case import NOT_STATED, CountsCase
from pytest_specdec.common.errors import BaselineError, RequestError
from pytest_specdec.judging.counts_gate import CountsGate, GateRequest, GivenEngine
from pytest_specdec.judging.policy import Policy
from pytest_specdec.judging.runner import CaseRunner

Rounds = dict[str, list[tuple[int, int]]]


class Session:
    """Gates over one folder of baselines; `other_gates` share the false-alarm rate with each."""

    def __init__(self, folder: Path, *, other_gates: int = 0, **options: Any) -> None:
        self.store = BaselineStore(folder)
        self.other_gates = other_gates
        self.policy = Policy(
            **{"alpha": 0.01, "inconclusive": "fail", "update": None, "subset": False, **options}
        )
        self.runners: list[CaseRunner] = []

    def gate(self, name: str = "eagle3", **changes: Any) -> CountsGate:
        settings = {"margin": 0.05, "k": None, "metric": "acceptance_length"}
        return CountsGate(
            GateRequest(name=name, suite="chat", **{**settings, **changes}),
            runner=self._runner,
            level=self.policy.alpha / (1 + self.other_gates),
            rewrites=self.policy.rewrites,
        )

    def _runner(self, case: CountsCase, engine: GivenEngine) -> CaseRunner:
        runner = CaseRunner(
            {case: (case,)},
            engine=engine,
            store=self.store,
            policy=self.policy,
            update_command=lambda which: f"pytest --specdec-update={which}",
            replaced_models={},
            other_gates=self.other_gates,
        )
        self.runners.append(runner)
        return runner

    def write(self) -> list[str]:
        """Write what is queued; returns the names."""
        files = {path: text for runner in self.runners for path, text in runner.pending.items()}
        write_all(files)
        return sorted(str(path.relative_to(self.store.folder)) for path in files)


def rounds(seed: int = 0, *, kept: float = 1.0, requests: int = 40, k: int = 3) -> Rounds:
    """60 rounds of each request, whose skill is its own; a share `kept` of it is left."""
    skills = np.random.default_rng(99).uniform(0.5, 0.9, requests) * kept
    rng = np.random.default_rng(seed)
    hits = rng.random((requests, 60, k)) < skills[:, None, None]
    accepted = hits.cumprod(axis=2).sum(axis=2)
    return {f"q{row}": [(k, int(m)) for m in accepted[row]] for row in range(requests)}


def sums(of: Rounds) -> dict[str, tuple[int, int, int]]:
    return {
        key: (len(rows), sum(drafted for drafted, _ in rows), sum(taken for _, taken in rows))
        for key, rows in of.items()
    }


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    """A folder with the baseline of `rounds()` under `chat/eagle3`."""
    session = Session(tmp_path, update="new")
    session.gate().judge(rounds=rounds())
    assert session.write() == ["chat/eagle3.json"]
    return tmp_path


def outcome(session: Session, **given: Any) -> tuple[str, bool]:
    verdict, passes = session.gate().judge(**given)
    return verdict.outcome, passes


def test_a_missing_baseline_fails_with_the_command_that_creates_it(tmp_path: Path) -> None:
    session = Session(tmp_path)
    verdict, passes = session.gate().judge(rounds=rounds())
    assert (verdict.outcome, passes) == ("error", False)
    assert verdict.reason == (
        f"no baseline at {tmp_path}/chat/eagle3.json; create it with --specdec-update=new"
    )
    assert session.write() == []
    (judgement,) = session.runners[0].take_judgements()
    assert judgement.counts_given
    assert judgement.message[-1] == "  create     pytest --specdec-update=new"


def test_the_record_states_what_is_not_known(stored: Path) -> None:
    record = load_baseline(stored / "chat" / "eagle3.json")
    conditions = json.loads((stored / "chat" / "eagle3.json").read_text())["conditions"]
    assert (record.case, record.definition) == ("eagle3", ROUNDS)
    assert conditions == {
        "k": 3,
        "engine": "counts",
        **dict.fromkeys(("drafter", "rule", "tokenizer"), NOT_STATED),
        **dict.fromkeys(("depth", "temperature", "top_k", "top_p", "new_tokens", "template")),
    }
    assert record.as_counts().total_rounds == 40 * 60


def test_the_same_counts_pass_and_fewer_accepted_tokens_fail(stored: Path) -> None:
    assert outcome(Session(stored), rounds=rounds()) == ("pass", True)
    assert outcome(Session(stored), rounds=rounds(1)) == ("pass", True)
    session = Session(stored)
    verdict, passes = session.gate().judge(rounds=rounds(1, kept=0.85))
    assert (verdict.outcome, verdict.regime, passes) == ("regressed", "sampled", False)
    assert verdict.p_value is not None
    assert verdict.p_value <= 0.01
    assert verdict.smallest_detectable_drop is not None
    message = "\n".join(session.runners[0].take_judgements()[0].message)
    assert "changed    not known: the test hands over counts, and states neither models" in message
    assert "lost most  'q" in message
    assert "intended?  pytest --specdec-update=changed" in message


def test_the_order_of_keys_does_not_matter(stored: Path) -> None:
    shuffled = dict(reversed(rounds().items()))
    assert outcome(Session(stored), rounds=shuffled) == ("pass", True)


def test_too_small_a_number_of_requests_is_undecided_unless_asked_to_warn(stored: Path) -> None:
    session = Session(stored)
    narrow = session.gate(margin=0.001)
    verdict, passes = narrow.judge(rounds=rounds(1))
    assert (verdict.outcome, passes) == ("inconclusive", False)
    warning = Session(stored, inconclusive="warn").gate(margin=0.001)
    assert warning.judge(rounds=rounds(1))[1]


def test_updates_keep_what_is_the_same_and_replace_what_differs(stored: Path) -> None:
    for update, given, written in (
        ("new", rounds(1), []),
        ("changed", rounds(), []),
        ("changed", rounds(1), ["chat/eagle3.json"]),
        ("all", rounds(2), ["chat/eagle3.json"]),
    ):
        session = Session(stored, update=update)
        session.gate().judge(rounds=given)
        assert session.write() == written


def test_the_level_is_shared_with_other_gates(stored: Path) -> None:
    alone, shared = (
        Session(stored, other_gates=others)
        .gate()
        .judge(rounds=rounds(1))[0]
        .smallest_detectable_drop
        for others in (0, 15)
    )
    assert alone is not None
    assert shared is not None
    assert shared > alone


@pytest.mark.parametrize(("requests", "gates", "needed"), [(6, 1, 7), (10, 16, 11), (2, 1, 7)])
def test_requests_that_can_never_fail_are_refused_before_anything_is_stored(
    tmp_path: Path, requests: int, gates: int, needed: int
) -> None:
    session = Session(tmp_path, update="new", other_gates=gates - 1)
    few = rounds(requests=requests)
    with pytest.raises(RequestError, match=f"the counts of at least {needed} requests"):
        session.gate().judge(rounds=few)
    assert session.write() == []
    session.gate().judge(rounds=rounds(requests=needed))
    assert session.write() == ["chat/eagle3.json"]


def test_requests_without_keys_are_paired_by_place_where_there_are_as_many(tmp_path: Path) -> None:
    given = list(rounds().values())
    first = Session(tmp_path, update="new")
    first.gate().judge(rounds=given)
    first.write()
    assert outcome(Session(tmp_path), rounds=given) == ("pass", True)
    with pytest.raises(
        RequestError, match="holds 40 requests and the test gives 39 without keys, so their places"
    ):
        outcome(Session(tmp_path), rounds=given[:-1])
    assert outcome(Session(tmp_path, update="changed"), rounds=given[:-1]) == ("pass", True)


def test_other_keys_are_another_set_of_prompts(stored: Path) -> None:
    renamed = {f"other {key}": rows for key, rows in rounds().items()}
    verdict, passes = Session(stored).gate().judge(rounds=renamed)
    assert (verdict.outcome, passes) == ("error", False)
    assert "the prompt set changed: 40 new, 40 gone" in verdict.reason
    with pytest.raises(RequestError, match="without keys, so their places do not pair them"):
        outcome(Session(stored), rounds=list(rounds().values()))


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"rounds": rounds(k=4)}, "k was 3 in the baseline and is 4"),
        ({"sums": sums(rounds()), "k": 3}, f"by definition {ROUNDS!r}, this version by {TOTALS!r}"),
    ],
)
def test_counts_of_another_kind_are_not_compared(
    stored: Path, given: dict[str, Any], reason: str
) -> None:
    session, k = Session(stored), given.pop("k", None)
    verdict, passes = session.gate(k=k).judge(**given)
    assert (verdict.outcome, passes) == ("error", False)
    assert reason in verdict.reason


def test_a_dead_drafter_is_no_baseline(tmp_path: Path) -> None:
    session = Session(tmp_path, update="new")
    verdict, passes = session.gate(k=3).judge(rounds=[[[3, 0]] * 20] * 12)
    assert (verdict.outcome, passes) == ("error", False)
    assert "no draft token was ever accepted" in verdict.reason
    assert session.write() == []


def test_the_acceptance_rate_is_judged_by_name(stored: Path) -> None:
    verdict, passes = (
        Session(stored).gate(metric="acceptance_rate", margin=0.1).judge(rounds=rounds(1))
    )
    assert (verdict.metric, verdict.outcome, passes) == ("acceptance_rate", "pass", True)
    assert verdict.now == pytest.approx(
        np.mean([m for rows in rounds(1).values() for _, m in rows]) / 3
    )


def test_a_gate_judges_once(stored: Path) -> None:
    gate = Session(stored).gate()
    gate.judge(rounds=rounds(1))
    with pytest.raises(
        RequestError, match="has judged counts already, and a gate is never retried"
    ):
        gate.judge(rounds=rounds(2))


def test_bad_counts_leave_the_gate_unjudged(stored: Path) -> None:
    gate = Session(stored).gate()
    with pytest.raises(RequestError, match="accepts 4 of 3"):
        gate.judge(rounds={"a": [[3, 4]], "b": [[3, 1]]})
    assert gate.row is None


@pytest.mark.parametrize("update", [None, "all"])
def test_the_baseline_of_another_kind_of_case_stays(stored: Path, update: str | None) -> None:
    import msgspec

    from pytest_specdec.baselines.writing import dumps

    path = stored / "chat" / "eagle3.json"
    record = load_baseline(path)
    other = msgspec.structs.replace(
        record, conditions=msgspec.structs.replace(record.conditions, engine="decode")
    )
    path.write_text(dumps(other))
    session = Session(stored, update=update)
    with pytest.raises(RequestError, match="belongs to a case that engine 'decode' measured; give"):
        session.gate().judge(rounds=rounds(1))
    assert session.write() == []


def test_an_edited_baseline_is_refused(stored: Path) -> None:
    path = stored / "chat" / "eagle3.json"
    path.write_text(path.read_text().replace('"rounds": 60', '"rounds": 61', 1))
    with pytest.raises(BaselineError, match="the content is not what was written"):
        Session(stored).gate().judge(rounds=rounds())


def test_the_row_names_neither_models_nor_depth(stored: Path) -> None:
    gate = Session(stored).gate()
    given = rounds(1)
    given["q0"] = []
    gate.judge(rounds=given)
    row = gate.row
    assert row is not None
    assert (row["id"], row["engine"], row["k"], row["prompts"]) == ("chat/eagle3", "counts", 3, 40)
    assert (row["depth"], row["temperature"]) == (None, None)
    assert {row["target"], row["drafter"], row["rule"]} == {NOT_STATED}
    assert row["notes"] == ["chat/eagle3: 1 of 40 requests have no round"]
    assert row["baseline"]["acceptance_length"] > 1


def test_nights_accumulate(stored: Path) -> None:
    for night in (1, 2):
        session = Session(stored, accumulate=True)
        verdict, _ = session.gate().judge(rounds=rounds(night))
        assert verdict.evidence is not None
        assert session.write() == ["chat/evidence/eagle3.json"]
        runs = json.loads((stored / "chat" / "evidence" / "eagle3.json").read_text())["nights"]
        assert len(runs) == night
