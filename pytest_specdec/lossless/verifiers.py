"""Samplers to put under test: our own verification rules, and the user's by name."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path

import torch

from ..decoding.rules import rule_named
from ..errors import RequestError

Generator = torch.Generator | None


def of_rule(name: str) -> Callable[..., torch.Tensor]:
    """One of our rules as `verify(target_probs, draft_probs, draft_tokens, generator=None)`. Raises RequestError if unknown."""
    rule = rule_named(name)

    def verify(
        target_probs: torch.Tensor, draft_probs: torch.Tensor, draft_tokens: torch.Tensor, generator: Generator = None
    ) -> torch.Tensor:
        behind = torch.cat([draft_probs, torch.zeros_like(draft_probs[:1])])
        accepted, last = rule.verify(target_probs[None], behind[None], draft_tokens[None], generator)
        return torch.cat([draft_tokens[: int(accepted)], last])

    verify.__name__ = name
    return verify


def imported(path: str, root: Path) -> Callable[..., object]:
    """What `module:function` names, a module of the root folder or an installed one. Raises RequestError if there is none."""
    module, _, name = path.partition(":")
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as problem:
        raise RequestError(f"--specdec-verifier={path}: {problem}; name module:function as Python imports it") from None
    if not callable(found):
        raise RequestError(f"--specdec-verifier={path} is no function; name one of target_probs, draft_probs and draft_tokens")
    verifier: Callable[..., object] = found
    return verifier
