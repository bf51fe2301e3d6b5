"""Suffix decoding in decode and replay: the texts before a text are its history, in their order."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.serial_drafting import PROMPTS
from helpers.support import llama

from pytest_specdec import decode, replay
from pytest_specdec.acceptance.renewal import sample_rounds
from pytest_specdec.acceptance.suffix import SuffixCache, SuffixSettings
from pytest_specdec.cases.case import Sampling
from pytest_specdec.common.errors import RequestError
from pytest_specdec.decoding.drafters.registry import drafter_for
from pytest_specdec.decoding.loading import LoadedModel, load_model
from pytest_specdec.decoding.replay import DrafterPlan, text_scores


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    folder = tmp_path_factory.mktemp("models") / "target"
    return load_model(str(llama(folder, seed=3, mtp_layers=0, vocabulary=12)), "cpu")


def settings_folder(folder: Path, **config: Any) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize("temperature", [0.0, 0.7])
@pytest.mark.parametrize("kept", [0, -1])
def test_every_round_of_decode_is_replays_and_one_requests_at_a_time(
    target: LoadedModel, tmp_path: Path, kept: int, temperature: float
) -> None:
    folder = settings_folder(tmp_path / "suffix", suffix_decoding_max_cached_requests=kept)
    drafter, prompts = f"suffix:{folder}", [PROMPTS[at] for at in (2, 3, 1, 0, 3)]
    decoded = decode(target, drafter, prompts, k=3, new_tokens=24, temperature=temperature, seed=2)
    (scores,) = text_scores(
        target, [DrafterPlan(drafter, 0, 3)], decoded.texts, Sampling(temperature)
    )
    field = scores.field("greedy" if temperature == 0 else "rejection")
    expected = sample_rounds(field, 3, np.random.default_rng(0))
    found = [
        [(played.start, played.accepted) for played in rounds if played.start + 3 <= len(text.ids)]
        for rounds, text in zip(decoded.rounds, decoded.texts, strict=True)
    ]
    assert found == expected
    # The same by the rules themselves, one request after another.
    cache = SuffixCache(SuffixSettings(cached=kept))
    for text, rounds in zip(decoded.texts, decoded.rounds, strict=True):
        index = cache.request(text.ids[: text.prompt_length])
        at = text.prompt_length
        for played in rounds:
            index.extend(text.ids[at : played.start])
            at = played.start
            left = len(text.ids) - at
            drafts = index.propose(3)[: 3 if left >= 3 else left - 1]
            following = list(text.ids[at : at + len(drafts)])
            accepted = next(
                (
                    i
                    for i, pair in enumerate(zip(drafts, following, strict=True))
                    if len(set(pair)) > 1
                ),
                len(drafts),
            )
            assert (played.drafted, played.accepted) == (len(drafts), accepted)
        index.extend(text.ids[at:])
    assert decoded.counts.accepted.sum() > 0


def test_the_order_of_texts_matters_and_every_k_is_scored_by_itself(target: LoadedModel) -> None:
    texts = decode(target, None, PROMPTS, k=0, new_tokens=24, temperature=0).texts
    options = {"k": 3, "temperature": 0}
    forward = replay(target, "suffix", texts, **options)
    backward = replay(target, "suffix", tuple(reversed(texts)), **options)
    assert forward.accepted.sum() != backward.accepted.sum()
    again = replay(target, "suffix", texts, **options)
    assert np.array_equal(again.accepted, forward.accepted)
    plans = [DrafterPlan("suffix", 0, steps) for steps in (2, 5, 3)]
    together = text_scores(target, plans, texts, Sampling(0.0))
    for plan, scores in zip(plans, together, strict=True):
        (alone,) = text_scores(target, [plan], texts, Sampling(0.0))
        assert np.array_equal(scores.draft, alone.draft)
        assert scores.draft.shape[1] == plan.steps


WRONG = {
    "depth": ({"suffix_decoding_max_tree_depth": 1}, "write a whole number from 2 to 64"),
    "factor": ({"max_spec_factor": 0}, "write a number above 0"),
    "share": ({"suffix_decoding_min_token_prob": 2}, "write a number from 0 to 1"),
    "kept": ({"suffix_decoding_max_cached_requests": True}, "0 for none and -1 for all"),
    "field": ({"window": 2}, "has the field 'window', which suffix decoding does not have"),
    "method": ({"method": "ngram"}, "says method: ngram; write suffix"),
}


@pytest.mark.parametrize(("config", "message"), WRONG.values(), ids=WRONG)
def test_settings_that_it_does_not_have_are_refused(
    target: LoadedModel, tmp_path: Path, config: dict[str, Any], message: str
) -> None:
    folder = settings_folder(tmp_path / "suffix", **config)
    with pytest.raises(RequestError, match=message):
        decode(target, f"suffix:{folder}", PROMPTS, k=2, new_tokens=4)


def test_it_has_no_depth_and_a_fingerprint_of_its_settings(
    target: LoadedModel, tmp_path: Path
) -> None:
    with pytest.raises(RequestError, match="suffix decoding has no MTP layers"):
        decode(target, "suffix", PROMPTS, k=2, depth=1, new_tokens=4)
    folder = settings_folder(tmp_path / "suffix", suffix_decoding_max_tree_depth=12)
    prints = [
        drafter_for(target, source, 0).fingerprint() for source in ("suffix", f"suffix:{folder}")
    ]
    assert prints == ["suffix-d24-f1-p0.1-c10000", "suffix-d12-f1-p0.1-c10000"]
