"""Caches that keep room for the columns to come hold what transformers' own hold."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import DynamicCache, MistralConfig
from transformers.cache_utils import DynamicLayer

from pytest_specdec.decoding.ragged import moved, new_cache, roll_back, select_rows
from pytest_specdec.decoding.roomy_cache import Room, RoomyLayer

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.integers(1, 90)),
        st.tuples(st.just("take back"), st.lists(st.integers(0, 4), min_size=3, max_size=3)),
        st.tuples(st.just("narrow"), st.integers(1, 40)),
        st.tuples(st.just("keep rows"), st.sampled_from([[0, 2], [1], [0, 1, 2]])),
    ),
    max_size=8,
)


@given(STEPS)
@settings(deadline=None, max_examples=60)
def test_a_layer_holds_what_transformers_own_holds(steps: list[tuple[str, object]]) -> None:
    torch.manual_seed(0)
    roomy, own = DynamicCache(), DynamicCache()
    roomy.layers, own.layers = [RoomyLayer()], [DynamicLayer()]
    rows = 3
    for what, by in [("append", 5), *steps, ("append", 2)]:
        held = own.layers[0].keys.shape[2] if own.layers[0].is_initialized else 0
        if what == "append":
            new = torch.randn(2, rows, 2, by, 4)
            for cache in (roomy, own):
                returned = cache.layers[0].update(new[0].clone(), new[1].clone())
                assert returned[0] is cache.layers[0].keys
        elif what == "keep rows" and max(by) < rows:
            for cache in (roomy, own):
                select_rows(cache, np.array(by))
            rows = len(by)
        elif what in ("take back", "narrow"):
            drop = np.array(by[:rows] if what == "take back" else [0] * rows).clip(max=held)
            width = held - int(drop.min()) if what == "take back" else by
            for cache in (roomy, own):
                roll_back(cache, drop, width, reach=9)
        for name in ("keys", "values"):
            ours, theirs = getattr(roomy.layers[0], name), getattr(own.layers[0], name)
            assert torch.equal(ours, theirs)
        assert roomy.layers[0].get_seq_length() == own.layers[0].get_seq_length()


def test_a_column_is_appended_without_a_copy_of_those_before_it() -> None:
    room = Room()
    held = room.appended(None, torch.randn(1, 2, 100, 4))
    grown = room.appended(held, torch.randn(1, 2, 1, 4))
    shortened = moved(grown, np.array([3]), 2, 100)
    again = room.appended(shortened, torch.randn(1, 2, 4, 4))
    assert held.data_ptr() == grown.data_ptr() == again.data_ptr()
    assert again.shape[2] == 102


def test_other_layers_than_those_of_full_attention_stay_as_they_are() -> None:
    layers = new_cache(
        MistralConfig(
            num_hidden_layers=2,
            sliding_window=4,
            layer_types=["sliding_attention", "full_attention"],
        )
    ).layers
    assert [type(layer).__name__ for layer in layers] == ["DynamicSlidingWindowLayer", "RoomyLayer"]
