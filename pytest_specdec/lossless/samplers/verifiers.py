"""Samplers to put under test: our own verification rules, and the user's by name."""

from __future__ import annotations

from collections.abc import Callable

import torch

from ...decoding.trees.rules import tree_rule_named
from ...decoding.verification import rule_named

Generator = torch.Generator | None


def of_rule(name: str) -> Callable[..., torch.Tensor]:
    """One of our rules as `verify(target_probs, draft_probs, draft_tokens, generator=None)`. Raises
    RequestError if unknown.
    """
    rule = rule_named(name)

    def verify(
        target_probs: torch.Tensor,
        draft_probs: torch.Tensor,
        draft_tokens: torch.Tensor,
        generator: Generator = None,
    ) -> torch.Tensor:
        padded_draft_probs = torch.cat([draft_probs, torch.zeros_like(draft_probs[:1])])
        accepted, last = rule.verify(
            target_probs[None], padded_draft_probs[None], draft_tokens[None], generator
        )
        return torch.cat([draft_tokens[: int(accepted)], last])

    verify.__name__ = name
    return verify


def of_tree_rule(name: str) -> Callable[..., list[torch.Tensor | int]]:
    """One of our rules for trees as `assert_lossless_tree` calls it. Raises RequestError if
    unknown.
    """
    rule = tree_rule_named(name)

    def verify(
        target_probs: torch.Tensor,
        draft_probs: torch.Tensor,
        draft_tokens: torch.Tensor,
        parents: torch.Tensor,
        generator: Generator = None,
    ) -> list[torch.Tensor | int]:
        path, last = rule.verify(
            target_probs, draft_probs, draft_tokens, parents.tolist(), generator
        )
        return [*draft_tokens[path].tolist(), last]

    verify.__name__ = name
    return verify
