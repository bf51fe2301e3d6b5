"""Names that everything else is filed under, and the number of drafter passes."""

from __future__ import annotations

from typing import Any

import pytest
from helpers.records import case

from pytest_specdec.cases.case import LOOKUP, LOSSY_RULES, OWN_HEADS, RULES, JudgedRange, Sampling

AUDIO = JudgedRange(41, 297, 2)


def test_a_case_is_named_after_label_k_depth_and_temperature() -> None:
    measured = case(label="text-draft", k=8, depth=3, temperature=0.7, suite="text/long")
    assert measured.name == "text-draft-k8-depth3-t0.7"
    assert measured.id == "text/long/text-draft-k8-depth3-t0.7"


def test_texts_are_named_after_temperature_length_and_seed() -> None:
    assert case(temperature=0.0, new_tokens=96, seed=5).texts.name == "t0-n96-s5"


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"rule": "rejection"}, "draft-k8-depth0-t1"),
        ({"rule": "greedy", "temperature": 0.0}, "draft-k8-depth0-t0"),
        ({"rule": "block"}, "draft-k8-depth0-t1-block"),
        ({"rule": "sample-match", "temperature": 0.7}, "draft-k8-depth0-t0.7-sample-match"),
        ({"rule": "typical", "engine": "decode"}, "draft-k8-depth0-t1-typical-lossy-decode"),
        ({"engine": "decode"}, "draft-k8-depth0-t1-decode"),
        ({"rule": "block", "engine": "decode"}, "draft-k8-depth0-t1-block-decode"),
        ({"top_k": 50}, "draft-k8-depth0-t1-topk50"),
        ({"top_p": 0.9}, "draft-k8-depth0-t1-topp0.9"),
        ({"top_k": 50, "top_p": 0.95, "temperature": 0.8}, "draft-k8-depth0-t0.8-topk50-topp0.95"),
        (
            {"top_k": 20, "rule": "block", "engine": "decode"},
            "draft-k8-depth0-t1-topk20-block-decode",
        ),
        ({"label": LOOKUP, "drafter": LOOKUP}, "prompt-lookup-k8-depth0-t1"),
        ({"judged": AUDIO}, "draft-k8-depth0-t1-ids41-296"),
        (
            {"judged": AUDIO, "top_k": 50, "rule": "block"},
            "draft-k8-depth0-t1-topk50-ids41-296-block",
        ),
    ],
)
def test_what_is_not_the_default_is_added_to_the_name(changes: dict[str, Any], name: str) -> None:
    assert case(**changes).name == name
    assert case(**changes).id == f"text/{name}"


@pytest.mark.parametrize("rule", RULES)
def test_a_name_says_lossy_where_the_output_is_not_the_targets(rule: str) -> None:
    assert ("lossy" in case(rule=rule, engine="decode").name) == (rule in LOSSY_RULES)


@pytest.mark.parametrize(
    ("sampling", "suffix"),
    [
        (Sampling(), "t1"),
        (Sampling(0), "t0"),
        (Sampling(0.7, 50), "t0.7-topk50"),
        (Sampling(1.0, 0, 0.9), "t1-topp0.9"),
    ],
)
def test_samplings_have_names(sampling: Sampling, suffix: str) -> None:
    assert sampling.suffix == suffix


def test_filtered_texts_have_files_of_their_own() -> None:
    assert case(top_k=50, top_p=0.9, new_tokens=96).texts.name == "t1-topk50-topp0.9-n96-s0"
    assert case(top_k=50, top_p=0.9, temperature=0.5).texts.sampling == Sampling(0.5, 50, 0.9)
    assert case(top_k=50).texts != case().texts


def test_the_name_does_not_follow_the_path_of_the_drafter() -> None:
    assert case(drafter="/elsewhere/newer").id == case(drafter="/models/draft").id


@pytest.mark.parametrize(
    "change",
    [
        {"k": 4},
        {"depth": 2},
        {"temperature": 0.5},
        {"label": "other"},
        {"suite": "audio"},
        {"rule": "block"},
        {"engine": "decode"},
        {"top_k": 50},
        {"top_p": 0.9},
        {"judged": AUDIO},
    ],
)
def test_what_decides_the_numbers_is_in_the_id(change: dict[str, Any]) -> None:
    assert case(**change).id != case().id


@pytest.mark.parametrize("k", [1, 3, 8])
def test_own_heads_draft_all_tokens_in_one_chain(k: int) -> None:
    heads_case = case(drafter=OWN_HEADS, k=k, depth=1)
    assert heads_case.uses_own_heads
    assert heads_case.drafted == k


@pytest.mark.parametrize(
    ("drafter", "model", "own_heads"),
    [(OWN_HEADS, None, True), (LOOKUP, None, False), ("/models/draft", "/models/draft", False)],
)
def test_only_a_checkpoint_is_a_draft_model(
    drafter: str, model: str | None, own_heads: bool
) -> None:
    assert case(drafter=drafter).draft_model == model
    assert case(drafter=drafter).uses_own_heads == own_heads


@pytest.mark.parametrize("k", [1, 8])
def test_prompt_lookup_drafts_all_tokens_at_once(k: int) -> None:
    assert case(drafter=LOOKUP, k=k).drafted == k


def test_cases_that_differ_in_k_share_their_texts() -> None:
    assert case(k=4).texts == case(k=8).texts
    assert case(seed=1).texts != case(seed=2).texts


@pytest.mark.parametrize(
    "change", [{"rule": "block"}, {"drafter": LOOKUP}, {"depth": 2}, {"judged": AUDIO}]
)
def test_every_rule_and_drafter_is_replayed_on_the_same_texts(change: dict[str, Any]) -> None:
    """Lossless rules emit the target's texts, so what differs is measured on equal ground."""
    assert case(**change).texts == case().texts


def test_judged_ids_are_a_half_open_range() -> None:
    assert [token in AUDIO for token in (40, 41, 296, 297)] == [False, True, True, False]


def test_the_judged_range_is_part_of_a_case() -> None:
    assert case(judged=AUDIO) != case()


@pytest.mark.parametrize("depth", [0, 1, 3])
@pytest.mark.parametrize("drafter", ["/models/draft", OWN_HEADS, LOOKUP])
def test_judging_every_token_asks_no_more_of_a_round_than_judging_none_apart(
    drafter: str, depth: int
) -> None:
    plain = case(drafter=drafter, depth=depth, k=7)
    every = case(drafter=drafter, depth=depth, k=7, judged=JudgedRange(0, 9))
    assert (every.verified, every.heads) == (plain.verified, plain.heads)
    passes = 1 + depth if every.draft_model else 1
    assert -(-every.drafted // passes) == -(-plain.drafted // passes)


@pytest.mark.parametrize(
    ("every", "depth", "passes"),
    [(2, 0, 8), (2, 1, 8), (2, 2, 4), (2, 3, 4), (3, 3, 4), (3, 6, 3), (4, 3, 8)],
)
def test_passes_of_a_draft_model_follow_from_the_judged_tokens_that_one_yields(
    every: int, depth: int, passes: int
) -> None:
    """By hand: layers that draft given places are run and yield nothing."""
    judged_case = case(k=8, depth=depth, judged=JudgedRange(0, 9, every))
    assert len([head for head in range(1 + depth) if head % every == 0]) == judged_case.heads
    assert (judged_case.drafted, judged_case.verified) == (passes * (1 + depth), 8 * every)
