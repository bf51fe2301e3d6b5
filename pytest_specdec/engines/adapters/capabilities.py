"""What an engine cannot do is refused before it is run: no option of a case is dropped
silently.
"""

from __future__ import annotations

from ...cases.case import Case
from ...cases.drafter import EAGLE3, DrafterSpec, OwnHeadsSpec, PromptLookupSpec, RegisteredSpec
from ...cases.tree import DynamicTree
from ...checkpoints.checkpoint import Checkpoint
from ...common.errors import UnsupportedError
from ..adapter_api import Capabilities, DrafterKind


def drafter_kind(drafter: DrafterSpec) -> DrafterKind:
    """The kind of a case's drafter."""
    if isinstance(drafter, OwnHeadsSpec):
        return "mtp"
    if isinstance(drafter, RegisteredSpec) and drafter.name == EAGLE3:
        return "eagle3"
    return "prompt-lookup" if isinstance(drafter, PromptLookupSpec) else "model"


def check_capabilities(
    name: str, able: Capabilities, case: Case, target: Checkpoint | None
) -> None:
    """Refuse a case that an engine would decode differently; `target` is None without its files.

    Raises UnsupportedError with what to use instead.
    """
    kind, sampling = drafter_kind(case.drafter), case.texts.sampling
    if kind not in able.drafters:
        raise UnsupportedError(
            f"{name} drafts with {' or '.join(able.drafters)}, not with {kind}; choose another "
            "drafter"
        )
    if case.judged is not None:
        raise UnsupportedError(
            f"{name} drafts every token, not the judged ones alone; leave --specdec-judged out"
        )
    if case.texts.processors is not None:
        raise UnsupportedError(
            f"{name} is not asked for logits processors here, and would count the rounds of other "
            "texts; use --specdec-engine=replay or decode, or leave --specdec-processors out"
        )
    if (case.batch or 1) > 1 and not able.batches:
        raise UnsupportedError(
            f"{name} decodes one text at a time here, not {case.batch}; use --specdec-batch=1, or "
            "start its server and name that by --specdec-url"
        )
    _check_tree(name, able, case)
    if case.temperature > 0 and not able.samples:
        raise UnsupportedError(f"{name} decodes greedily here; use --specdec-temperature=0")
    if case.temperature > 0 and (sampling.top_k or sampling.top_p < 1) and not able.filters:
        raise UnsupportedError(
            f"{name} samples without top-k and top-p; use --specdec-top-k=0 --specdec-top-p=1"
        )
    if case.rule not in able.rules:
        raise UnsupportedError(
            f"{name} verifies by {' or '.join(able.rules)}, not by rule {case.rule!r}; leave the "
            "rule out"
        )
    if able.most is not None and case.k > able.most:
        raise UnsupportedError(
            f"{name} drafts at most {able.most} tokens, not {case.k}; use --specdec-k={able.most} "
            "or less"
        )
    if kind == "model" and case.depth and not able.draft_depth:
        raise UnsupportedError(
            f"{name} cannot draft with a draft model's MTP layers (depth {case.depth}); use "
            "--specdec-depth=0"
        )
    if kind == "mtp" and able.all_heads and target is not None and target.mtp_layers:
        layers = min(case.k, target.mtp_layers)
        if case.depth != layers:
            raise UnsupportedError(
                f"{name} drafts {case.k} tokens with {layers} of the target's {target.mtp_layers} "
                "MTP layers, not with "
                f"{case.depth}; use --specdec-depth={layers}"
            )


def _check_tree(name: str, able: Capabilities, case: Case) -> None:
    """Refuse a tree of drafts that an engine does not grow. Raises UnsupportedError."""
    if case.tree is not None and not (able.trees and isinstance(case.tree, DynamicTree)):
        raise UnsupportedError(
            f"{name} drafts no trees like {case.tree} here; use --specdec-engine=replay or decode, "
            "or leave --specdec-tree out"
        )
