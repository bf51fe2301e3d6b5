"""Which type of drafter a folder holds."""

from __future__ import annotations

from pathlib import Path

from ..cases.drafter import (
    DFLASH,
    DOMINO,
    DRAFTER_TYPES,
    DSPARK,
    HYDRA,
    MEDUSA,
    PARD,
    DrafterSpec,
    DraftModelSpec,
    RegisteredSpec,
)
from ..cases.drafting import AS_TARGET, DraftSampling
from ..common.errors import RequestError
from .block_checks import block_drafts
from .checkpoint import Checkpoint, folder_kind
from .hydra_checks import hydra_heads
from .medusa_checks import medusa_heads


def recognised(drafter: DrafterSpec) -> DrafterSpec:
    """The drafter, as one of a registered type where it is a folder that such a type claims: its
    `Kind` has the type's name, or the type of another package recognises its config.json.

    Raises RequestError where two types claim it. A folder that cannot be read is refused when it
    is opened.
    """
    if not isinstance(drafter, DraftModelSpec) or not (folder := Path(drafter.path)).is_dir():
        return drafter
    names = [*_by_kind(folder), *_by_config(folder)]
    if len(names) > 1:
        raise RequestError(
            f"{folder} is a drafter of the types {' and '.join(names)}; name the one that is "
            f"meant: {names[0]}:{folder}"
        )
    return RegisteredSpec(names[0], folder.resolve()) if names else drafter


def _by_kind(folder: Path) -> list[str]:
    try:
        kind = folder_kind(folder)
        if kind is None and (folder / "config.json").is_file():
            # A whole model, which drafts on mask tokens where it was trained for that.
            return [PARD] if Checkpoint(folder).config.get("pard_token") is not None else []
    except RequestError:
        return []
    return [kind.drafter] if kind is not None and kind.drafter in DRAFTER_TYPES else []


def _by_config(folder: Path) -> list[str]:
    """The types of other packages that recognise the folder; none of ours is imported here."""
    types = DRAFTER_TYPES.added()
    if not types or not (folder / "config.json").is_file():
        return []
    try:
        config = Checkpoint(folder).config
    except RequestError:
        return []
    recognisers = {name: getattr(DRAFTER_TYPES.load(name), "recognises", None) for name in types}
    return [name for name, recognises in recognisers.items() if recognises and recognises(config)]


def largest_k(drafter: DrafterSpec) -> int | None:
    """The most drafts of a round of Medusa or Hydra heads or a block drafter, by files alone; None
    for other drafters, and for a folder that is refused later.
    """
    if not isinstance(drafter, RegisteredSpec) or drafter.folder is None:
        return None
    heads = {MEDUSA: medusa_heads, HYDRA: hydra_heads}
    try:
        if drafter.name in heads:
            return heads[drafter.name](drafter.folder)
        blocks = drafter.name in (DFLASH, DSPARK, DOMINO)
        return block_drafts(drafter.folder, drafter.name) if blocks else None
    except RequestError:
        return None


def check_drafts(
    drafter: object,
    k: int,
    most: int | None,
    *,
    trained: bool = False,
    drafting: DraftSampling = AS_TARGET,
) -> None:
    """Refuse more drafts in a round than a drafter can make, or was `trained` to make where it
    could make more, save where the `drafting` allows those. Raises RequestError.
    """
    if most is None or k <= most or (trained and drafting.longer_blocks):
        return
    if trained:
        raise RequestError(
            f"k={k}: {drafter} was trained to draft {most} token{'s' * (most > 1)} in a round, and "
            f"in a longer block all of them become others; use --specdec-k={most} or less, or "
            "--specdec-drafting=longer-blocks to measure what engines make of it"
        )
    raise RequestError(
        f"k={k}: {drafter} drafts at most {most} token{'s' * (most > 1)} in a round; use "
        f"--specdec-k={most} or less"
    )
