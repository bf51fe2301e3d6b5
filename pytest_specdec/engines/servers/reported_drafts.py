"""What a server reports of its drafter, beside the drafter of a case: another one is refused.

What is not known is not refused, such as a folder on another machine: the oracle judges the
rounds by the weights that the case names.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ...checkpoints.checkpoint import Checkpoint
from ...checkpoints.head_files import hub_name
from ..adapter_api import DrafterKind, GenerationRequest


def contradiction(
    request: GenerationRequest,
    kinds: Mapping[str, DrafterKind],
    *,
    method: str,
    path: str | None,
) -> str | None:
    """Why the reported drafter is not that of the case; None where it is, or where that is not
    known.

    Parameters
    ----------
    request
        Of the case. A drafter that only the server has, `served`, is any.
    kinds
        What the engine's methods draft with.
    method
        As the server reports it.
    path
        Folder or hub id of the draft model or head, as the server reports it; None where it does
        not, or has none.

    Examples
    --------
    >>> contradiction(request, {"EAGLE3": "eagle3"}, method="NGRAM", path=None)  # doctest: +SKIP
    'it drafts by NGRAM and the case drafts with eagle3 (heads/llama-eagle3)'
    """
    ours, kind = request.drafter_files, request.drafter_kind
    if kind == "model" and ours is None:
        return None
    if kinds.get(method) != kind:
        named = f" ({ours})" if ours else ""
        return f"it drafts by {method} and the case drafts with {kind}{named}"
    if path is not None and ours is not None and _other(path, ours):
        return f"it drafts with {path} and the case names {ours}"
    return None


def _other(theirs: str, ours: str) -> bool:
    """Whether two names are known to be of different weights."""
    if Path(theirs).is_absolute() and Path(theirs).is_dir() and Path(ours).is_dir():
        weights = [Checkpoint(Path(folder)).model_fingerprint for folder in (theirs, ours)]
        return weights[0] != weights[1]
    names = _name(theirs), _name(ours)
    return None not in names and names[0] != names[1]


def _name(path: str) -> str | None:
    """The hub id, in lower case; None for a folder that is not in the hub's cache."""
    if not Path(path).is_absolute() and path.count("/") == 1 and not path.startswith("."):
        return path.lower()
    name = hub_name(Path(path))
    return None if name is None else name.lower()
