"""Cases on four words and the tiny pair, their texts, and what transformers makes of those."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import PreTrainedModel, TopKLogitsWarper, TopPLogitsWarper

from helpers.support import letter_tokenizer
from pytest_specdec.cases.case import LOOKUP, OWN_HEADS, Case, TextKey
from pytest_specdec.cases.drafter import DraftModelSpec, OwnHeadsSpec, PromptLookupSpec
from pytest_specdec.decoding.decode import Decoded
from pytest_specdec.engines.models import ModelPool
from pytest_specdec.engines.own.decode_engine import DecodeEngine
from pytest_specdec.engines.own.replay_engine import ReplayEngine
from pytest_specdec.engines.protocol import Measurement
from pytest_specdec.records.text_set import TextSet

WORDS = ("apple", "banana", "cherry", "elder")


def fruit_case(target: Path, draft: Path, folder: Path) -> Case:
    """A case whose prompts are the words, in a file of the folder."""
    prompts = folder / "prompts.jsonl"
    prompts.write_text(
        "".join(json.dumps({"category": "fruit", "prompt": word}) + "\n" for word in WORDS)
    )
    return Case(
        texts=TextKey("suite", str(target), prompts, None, 24, 1.0, 0),
        drafter=DraftModelSpec(str(draft)),
        label="draft",
        k=4,
        depth=0,
        rule="rejection",
        margin=0.01,
    )


def grid(case: Case, *cells: tuple[int, int]) -> list[Case]:
    """The case at each (k, depth)."""
    return [dataclasses.replace(case, k=k, depth=depth) for k, depth in cells]


def with_texts(case: Case, **changes: object) -> Case:
    return dataclasses.replace(case, texts=dataclasses.replace(case.texts, **changes))


def decoding(case: Case, **changes: object) -> Case:
    return dataclasses.replace(case, engine="decode", **changes)


def heads_case(case: Case) -> Case:
    return dataclasses.replace(case, drafter=OwnHeadsSpec(), label=OWN_HEADS, depth=2)


def lookup_case(case: Case, **changes: object) -> Case:
    return dataclasses.replace(case, drafter=PromptLookupSpec(), label=LOOKUP, **changes)


def replayed(*cases: Case, texts: TextSet | None = None) -> list[Measurement]:
    """The cases, replayed by one engine on stored texts or its own."""
    engine = ReplayEngine(cases, ModelPool("cpu"), stored_texts=lambda key: texts)
    return [engine.measure(case) for case in cases]


def decoded(*cases: Case) -> list[Measurement]:
    """The cases, decoded by one engine."""
    engine = DecodeEngine(ModelPool("cpu"))
    return [engine.measure(case) for case in cases]


def texts_of(case: Case) -> TextSet:
    """The texts that replay samples for a case."""
    (measured,) = replayed(case)
    assert measured.texts is not None
    return measured.texts


def prompt_ids() -> list[list[int]]:
    return [letter_tokenizer()(word)["input_ids"] for word in WORDS]


def whole_texts(measured: Measurement) -> list[list[int]]:
    """The replayed texts, prompts in the order of the counts."""
    assert measured.texts is not None
    return [
        [*ids, *measured.texts.texts[key]]
        for ids, key in zip(prompt_ids(), measured.counts.prompts, strict=True)
    ]


@torch.inference_mode()
def next_distributions(model: PreTrainedModel, text: Sequence[int], key: TextKey) -> torch.Tensor:
    """The distribution of each token of a text but the first, by transformers' own filters."""
    ids = torch.tensor([text])
    logits = model(ids).logits[0, :-1] / key.temperature
    if key.top_k:
        logits = TopKLogitsWarper(key.top_k)(ids, logits)
    if key.top_p < 1:
        logits = TopPLogitsWarper(key.top_p)(ids, logits)
    return logits.double().softmax(-1)


def same(one: Decoded, other: Decoded) -> bool:
    """Equal but for the milliseconds."""
    return (one.texts, one.rounds, one.k) == (other.texts, other.rounds, other.k)
