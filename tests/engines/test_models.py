"""The models of a session: loaded once, shared by engines and fixtures, and let go with them."""

from __future__ import annotations

import dataclasses
import gc
import json
import shutil
import weakref
from pathlib import Path

import pytest
from helpers.fruit import WORDS, grid, heads_case, lookup_case, same, with_texts

from pytest_specdec.cases.case import Case, JudgedRange
from pytest_specdec.cases.prompts import read_prompts
from pytest_specdec.checkpoints import checkpoint
from pytest_specdec.common.errors import RequestError
from pytest_specdec.decoding import loading, timing
from pytest_specdec.decoding.decode import decode
from pytest_specdec.decoding.loading import LoadedModel
from pytest_specdec.engines.external import ExternalEngine
from pytest_specdec.engines.fingerprints import template_of
from pytest_specdec.engines.model_checks import conformance
from pytest_specdec.engines.models import ModelPool
from pytest_specdec.engines.own import replay_engine
from pytest_specdec.engines.own.decode_engine import DecodeEngine
from pytest_specdec.engines.own.replay_engine import ReplayEngine


@pytest.fixture
def models() -> ModelPool:
    return ModelPool("cpu")


def test_a_model_that_cannot_be_had_is_tried_once(
    case: Case, models: ModelPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[str] = []

    def unreachable(name: str, device: str, dtype: str) -> LoadedModel:
        tried.append(name)
        raise RequestError(f"{name!r} is not a folder here; check the name")

    monkeypatch.setattr(loading, "load_model", unreachable)
    engine = ReplayEngine([case], models)
    for k in (2, 3):
        with pytest.raises(RequestError, match="is not a folder here; check the name"):
            engine.measure(dataclasses.replace(case, k=k))
    assert tried == [case.target]


def test_texts_that_cases_share_are_judged_once(
    case: Case, models: ModelPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    whole = replay_engine.judged
    monkeypatch.setattr(
        replay_engine,
        "judged",
        lambda *args, **named: calls.append(args) or whole(*args, **named),
    )
    cases = grid(case, (4, 0), (8, 0), (4, 2), (8, 2))
    engine = ReplayEngine(cases, models)
    results = [conformance(engine, cell, 0.01) for cell in cases]
    assert results[0] is results[1]
    assert results[2] is results[3]
    assert len(calls) == 2, (
        "with the draft model's distribution, and without where a head's is another"
    )
    conformance(engine, case, 0.02)
    assert len(calls) == 3


def test_models_are_let_go_with_their_engine(case: Case) -> None:
    engine = ReplayEngine([case], ModelPool("cpu"))
    conformance(engine, case, 0.01)
    model = weakref.ref(engine.models.model(case.target).model)
    del engine
    gc.collect()
    assert model() is None


def test_options_of_decode_win_over_the_cases(case: Case, models: ModelPool) -> None:
    as_the_case = models.decode(case, ["an apple", "fig"])
    new_tokens = {len(text.ids) - text.prompt_length for text in as_the_case.texts}
    assert (as_the_case.k, new_tokens) == (4, {24})
    options = {
        "k": 2,
        "depth": 2,
        "rule": "greedy",
        "temperature": 0,
        "new_tokens": 9,
        "batch_size": 1,
    }
    other = models.decode(case, ["an apple", "fig"], **options)
    assert (other.k, {len(text.ids) - text.prompt_length for text in other.texts}) == (2, {9})
    assert same(other, decode(case.target, case.drafter, ["an apple", "fig"], **options))
    assert models.decode(case, ["fig"], seed=0).texts != models.decode(case, ["fig"], seed=1).texts


def test_drafters_are_handed_out_where_they_are_models(case: Case, models: ModelPool) -> None:
    draft = models.drafter(case)
    assert isinstance(draft, LoadedModel)
    assert case.draft_model is not None
    assert draft is models.model(case.draft_model)
    assert models.drafter(heads_case(case)) is models.model(case.target).heads
    with pytest.raises(RequestError, match="prompt lookup has no model; leave specdec_drafter out"):
        models.drafter(lookup_case(case))


@pytest.mark.parametrize("every", [1, 2])
def test_what_judged_rounds_pass_over_is_timed(
    case: Case, models: ModelPool, every: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = {}
    monkeypatch.setattr(timing, "measure_costs", lambda *models, **named: asked.update(named))
    cases = [
        dataclasses.replace(case, judged=JudgedRange(10, 31, every), k=k, depth=2) for k in (3, 4)
    ]
    models.costs(cases)
    assert asked["ks"] == {size for cell in cases for size in (cell.verified, cell.drafted)}
    assert asked["ks"] == ({3, 4, 6} if every == 1 else {6, 8})


@pytest.mark.parametrize("engine", ["replay", "decode", "transformers"])
def test_messages_go_through_the_template_and_name_it(
    case: Case, models: ModelPool, tiny_target: Path, tmp_path: Path, engine: str
) -> None:
    folder = shutil.copytree(tiny_target, tmp_path / "chat")
    (folder / "chat_template.jinja").write_text(
        "{% for message in messages %}{{ message['content'] }},{% endfor %}"
    )
    messages = (
        {"category": "chat", "messages": [{"role": "user", "content": word}]} for word in WORDS
    )
    case.texts.prompts.write_text("".join(json.dumps(line) + "\n" for line in messages))
    chat = with_texts(case, target=str(folder))
    measured = {
        "replay": ReplayEngine([chat], models),
        "decode": DecodeEngine(models),
        "transformers": ExternalEngine("transformers", models),
    }[engine].measure(chat)
    assert measured.counts.total_rounds > 0
    assert measured.template == template_of(
        models.model(chat.target), read_prompts(chat.texts.prompts)
    )


def test_loading_and_hashing_of_large_checkpoints_report_progress(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    reports: list[tuple[str, int, int]] = []

    def read_anew() -> ReplayEngine:
        """An engine that reads files which other tests have hashed."""
        checkpoint._read.cache_clear()
        checkpoint._opened.cache_clear()
        models = ModelPool("cpu", report=lambda *progress: reports.append(progress))
        return ReplayEngine([case], models)

    monkeypatch.setattr(checkpoint, "LARGE", 1)
    fingerprints = read_anew().measure(case).fingerprints
    for name in ("tiny-target", "tiny-draft"):
        assert [report for report in reports if report[0] == f"loading {name}"] == [
            (f"loading {name}", 0, 1),
            (f"loading {name}", 1, 1),
        ]
        hashing = f"hashing {name} (MiB)"
        assert {report[1:] for report in reports if report[0] == hashing} == {(0, 0)}
    assert {"suite: sampling texts", "suite: replay"} <= {what for what, _, _ in reports}
    monkeypatch.undo()
    reports.clear()
    assert read_anew().measure(case).fingerprints == fingerprints
    assert not any(what.startswith("hashing") for what, _, _ in reports)
