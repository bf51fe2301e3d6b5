"""Texts are judged by the target's weights alone where only a server has the drafter."""

from __future__ import annotations

import dataclasses

from helpers.support import EMBEDDED

from pytest_specdec.cases.case import Case, TextKey
from pytest_specdec.cases.drafter import DraftModelSpec, ServedSpec
from pytest_specdec.engines.model_checks import conformance
from pytest_specdec.engines.models import ModelPool
from pytest_specdec.engines.own.decode_engine import DecodeEngine

PROMPTS = EMBEDDED.parent / "engines" / "prompts.jsonl"


def test_texts_conform_without_the_drafters_weights() -> None:
    pair = Case(
        texts=TextKey("s", str(EMBEDDED / "text-target"), PROMPTS, 2, 8, 0.0, seed=0),
        drafter=DraftModelSpec(str(EMBEDDED / "text-draft")),
        label="draft",
        k=2,
        depth=0,
        rule="greedy",
        margin=0.01,
        engine="decode",
    )
    engine = DecodeEngine(ModelPool("cpu"))
    texts = engine.emitted(pair)
    served = dataclasses.replace(pair, drafter=ServedSpec())
    engine._latest[served] = engine._latest[pair]
    assert conformance(engine, served, 0.01).conforms
    assert engine.models.conformance(served, texts, 0.01).tokens == 16
