"""Exhibits of drafters on the target's last state, and of what q is: gate and oracle see the
defect, and pass its right twin.
"""

from __future__ import annotations

import dataclasses

import pytest
from helpers.tiers import some
from museum.exhibit import Exhibit, Setting
from museum.exhibits_residual import MEDUSA, RESIDUAL_EXHIBITS
from museum.measure import ALPHA, Lab
from museum.test_acceptance import judge_by_the_gate

from pytest_specdec.cases.drafting import parse_drafting
from pytest_specdec.engines.model_checks import oracle
from pytest_specdec.engines.models import ModelPool
from pytest_specdec.engines.own.decode_engine import DecodeEngine

DRAFT = Setting("draft", 4, 0, temperature=1.0, prompts=16)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return Lab(tmp_path_factory.mktemp("museum"))


@pytest.mark.parametrize("exhibit", some(RESIDUAL_EXHIBITS, 5), ids=lambda exhibit: exhibit.name)
def test_gate_and_oracle_see_it(lab: Lab, exhibit: Exhibit) -> None:
    before = lab.baseline(exhibit.setting)
    now, agreement = lab.broken_and_judged(exhibit)
    judge_by_the_gate(exhibit, before, now)
    assert not agreement.agrees, agreement.message
    if exhibit.hides:
        assert lab.broken(exhibit, exhibit.hides).record == lab.baseline(exhibit.hides).record


def test_their_right_twin_passes(lab: Lab) -> None:
    before = lab.baseline(MEDUSA)
    sound = dataclasses.replace(RESIDUAL_EXHIBITS[0], defect=None)
    now, agreement = lab.broken_and_judged(sound)
    assert now.against(before).outcome == "pass"
    assert agreement.agrees, agreement.message


@pytest.mark.parametrize("way", ["unfiltered", "argmax"])
def test_the_oracle_sees_drafts_drawn_in_another_way_and_passes_what_is_said(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """vllm-project/vllm#56724: drafts drawn from a q without the target's filters (and, as
    vllm#16899, arg-maxima), beside the same engine that says so.
    """
    engine = DecodeEngine(ModelPool("cpu"))
    case = lab.case(dataclasses.replace(RESIDUAL_EXHIBITS[0], setting=DRAFT))
    texts = dataclasses.replace(case.texts, temperature=0.9, top_k=4)
    silent = dataclasses.replace(case, texts=texts, rule="rejection")
    said = dataclasses.replace(silent, drafting=parse_drafting(way))
    assert oracle(engine, said, ALPHA).agrees
    assert oracle(engine, silent, ALPHA).agrees
    decode = ModelPool.decode
    monkeypatch.setattr(
        ModelPool,
        "decode",
        lambda self, case, ids, **options: decode(self, case, ids, drafting=way, **options),
    )
    broken = oracle(DecodeEngine(ModelPool("cpu")), silent, ALPHA)
    assert not broken.agrees
    assert broken.message
