"""assert_lossless_tree tries every small shape: a fault that only one of them shows is found."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from helpers.tiers import exhaustive

from pytest_specdec.common.errors import RequestError
from pytest_specdec.lossless import assert_lossless_tree

Rejected = Callable[[Sequence[int], int], bool]
"""Whether the residual is forgotten, by the tokens accepted and the number of the sibling."""


def rejection(forgets: Rejected) -> Callable[..., list[Any]]:
    """Recursive rejection sampling with a residual that is forgotten in one place."""

    def verify(
        target_probs: torch.Tensor,
        draft_probs: torch.Tensor,
        draft_tokens: torch.Tensor,
        parents: torch.Tensor,
        generator: torch.Generator | None = None,
    ) -> list[Any]:
        emitted, node = list[Any](), -1
        while True:
            p, accepted = target_probs[node + 1], None
            for sibling, child in enumerate((parents == node).nonzero()[:, 0].tolist()):
                token, q = draft_tokens[child], draft_probs[child]
                if torch.rand((), generator=generator) * q[token] < p[token]:
                    accepted = child
                    break
                residual = (p - q).clamp(min=0)
                if residual.sum() > 0 and not forgets(emitted, sibling):
                    p = residual / residual.sum()
            if accepted is None:
                return [*emitted, torch.multinomial(p, 1, generator=generator)]
            emitted.append(draft_tokens[accepted])
            node = accepted

    return verify


@pytest.mark.parametrize(
    "forgets",
    [
        lambda emitted, sibling: len(emitted) == 3,
        exhaustive(lambda emitted, sibling: len(emitted) == 1 and sibling == 2),
    ],
    ids=["after three accepted drafts", "after the third sibling below the root's child"],
)
def test_a_fault_of_one_shape_is_found(forgets: Rejected) -> None:
    with pytest.raises(AssertionError, match="is not lossless"):
        assert_lossless_tree(rejection(forgets))


@pytest.mark.parametrize(("options", "rounds"), [({"max_examples": 30}, 30), exhaustive({}, 100)])
def test_the_right_twin_passes(options: dict[str, int], rounds: int) -> None:
    checked = assert_lossless_tree(rejection(lambda emitted, sibling: False), **options)
    assert str(checked) == f"verify is lossless: exact in {rounds} rounds"


def test_no_way_of_drafting_children_is_refused() -> None:
    with pytest.raises(RequestError, match="no way of drafting children is given; leave"):
        assert_lossless_tree(rejection(lambda emitted, sibling: False), children=())
