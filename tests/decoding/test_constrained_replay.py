"""Constrained replay is constrained decoding: exactly at temperature 0, in expectation when sampling,
for every kind of drafter and several grammars. The grammars are read letter by letter, without the library
that the extra `constraints` brings.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest
import torch
from helpers.embedded import Pair
from helpers.support import EMBEDDED
from helpers.tiers import crossed, exhaustive, some

from pytest_specdec.cases.case import LOOKUP, OWN_HEADS
from pytest_specdec.cases.drafter import RegisteredSpec
from pytest_specdec.decoding.decode import Decoded, decode
from pytest_specdec.decoding.grammars import GrammarMask
from pytest_specdec.decoding.processors import Processors
from pytest_specdec.decoding.replay import replay
from pytest_specdec.lossless.texts.conformance import conformance
from pytest_specdec.output.json_answers import _object
from pytest_specdec.output.languages import LANGUAGES, Language

END, NEW, K = 1, 40, 3
GRAMMARS = LANGUAGES | {"json": _object(("days", "metric", "place"))}
DRAFTERS: dict[str, Any] = {
    "draft": (None, 0),
    "draft with MTP layers": (None, 2),
    "mtp": (OWN_HEADS, 2),
    "eagle3": (RegisteredSpec("eagle3", EMBEDDED / "text-eagle3"), 0),
    "prompt lookup": (LOOKUP, 0),
}


class Letters:
    """A matcher that reads the letters of tokens."""

    def __init__(self, language: Language, spelled: tuple[str, ...]) -> None:
        self._language, self._spelled = language, spelled
        self._taken = [""]

    def accept(self, token: int) -> bool:
        text = self._taken[-1] + self._spelled[token]
        if not self._language.viable(text):
            return False
        self._taken.append(text)
        return True

    def take_back(self, count: int) -> None:
        del self._taken[len(self._taken) - count :]

    def allowed(self, vocabulary: int) -> torch.Tensor | None:
        return _allowed(self._language, self._spelled, self._taken[-1])


@functools.cache
def _allowed(language: Language, spelled: tuple[str, ...], text: str) -> torch.Tensor:
    allowed = [bool(token) and language.viable(text + token) for token in spelled]
    allowed[END] = language.holds(text)
    return torch.tensor(allowed)


@pytest.fixture(scope="module")
def spelled(pair: Pair) -> tuple[str, ...]:
    """Letters of all tokens; empty where a token is a part of one."""
    words = [pair.target.tokenizer.decode([token]) for token in range(1024)]
    return tuple("" if "\ufffd" in word else word for word in words)


def masked(name: str, spelled: tuple[str, ...]) -> Processors:
    mask = GrammarMask(lambda: Letters(GRAMMARS[name], spelled), frozenset([END]))
    return Processors((mask,), ends=mask.ends)


def run(
    pair: Pair, drafter: str, processors: Processors, temperature: float, count: int
) -> tuple[Decoded, Any]:
    model, depth = DRAFTERS[drafter]
    options: dict[str, Any] = {
        "k": K,
        "depth": depth,
        "temperature": temperature,
        "processors": processors,
    }
    model = pair.draft if model is None else model
    made = decode(pair.target, model, pair.prompts[:count], new_tokens=NEW, **options)
    return made, replay(pair.target, model, made.texts, **options)


@crossed(drafter=DRAFTERS, grammar=GRAMMARS)
def test_greedy_replay_counts_the_rounds_of_decoding(
    pair: Pair, spelled: tuple[str, ...], grammar: str, drafter: str
) -> None:
    processors = masked(grammar, spelled)
    made, again = run(pair, drafter, processors, 0.0, 4)
    for field in ("rounds", "drafted", "accepted"):
        np.testing.assert_array_equal(getattr(made.counts, field), getattr(again, field))
    texts = [
        "".join(spelled[token] for token in one.ids[one.prompt_length :] if token != END)
        for one in made.texts
    ]
    assert all(GRAMMARS[grammar].viable(text) for text in texts)
    assert any(GRAMMARS[grammar].holds(text) for text in texts)
    assert conformance(pair.target, made.texts, temperature=0, processors=processors).conforms


@pytest.mark.slow
@pytest.mark.parametrize("drafter", some(DRAFTERS, 2))
@pytest.mark.parametrize("count", [16, exhaustive(40)])
def test_sampled_replay_expects_the_rounds_of_decoding(
    pair: Pair, spelled: tuple[str, ...], drafter: str, count: int
) -> None:
    """Within three standard errors of the texts' differences."""
    made, again = run(pair, drafter, masked("date", spelled), 1.0, count)
    gaps = (made.counts.accepted - again.accepted).sum(-1)
    assert abs(gaps.sum()) <= 3 * np.sqrt((gaps**2).sum())
    # Copies of the text are certain, and so are their rounds.
    assert (np.abs(gaps).sum() > 0) == (drafter != "prompt lookup")
