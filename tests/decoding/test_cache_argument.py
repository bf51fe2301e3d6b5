"""The same decoder runs on transformers that call their cache one thing and on those that call it
another.
"""

from __future__ import annotations

import functools

import pytest
import torch
import transformers
from helpers.embedded import Pair
from transformers import LlamaForCausalLM

from pytest_specdec.decoding.cache_argument import cache_name


def old(ids: object, past_key_values: object = None) -> None: ...
def new(ids: object, cache: object = None) -> None: ...


@functools.wraps(new)
def deprecated(*given: object, **named: object) -> None: ...


@pytest.mark.parametrize(
    ("function", "name"), [(old, "past_key_values"), (new, "cache"), (deprecated, "cache")]
)
def test_the_argument_is_read_from_the_signature(function, name: str) -> None:
    assert cache_name(function) == name


def test_it_is_that_of_this_transformers(pair: Pair) -> None:
    """A cache that is passed by its name is used, and nothing warns."""
    with torch.inference_mode():
        whole = pair.target.model(torch.tensor([[5, 6, 7, 8]]), use_cache=False).logits[0, -1]
        cache = transformers.DynamicCache(config=pair.target.model.config)
        for ids in ([5, 6, 7], [8]):
            last = pair.target.model(
                torch.tensor([ids]), use_cache=True, **{cache_name(LlamaForCausalLM.forward): cache}
            ).logits
    torch.testing.assert_close(last[0, -1], whole, rtol=0, atol=1e-4)
