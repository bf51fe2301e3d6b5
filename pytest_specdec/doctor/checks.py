"""What the command is given, checked by files alone and without torch; each message names the
command's own options.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from pathlib import Path

from ..cases.drafter import (
    DFLASH,
    DOMINO,
    DSPARK,
    EAGLE3,
    HYDRA,
    MEDUSA,
    OWN_HEADS,
    PEAGLE,
    DraftModelSpec,
    RegisteredSpec,
    parse_drafter,
)
from ..cases.prompts import Prompt, read_prompts
from ..checkpoints.block_checks import checked_block
from ..checkpoints.checkpoint import Checkpoint, check_pair, folder_kind, open_checkpoint
from ..checkpoints.drafter_folders import recognised
from ..checkpoints.eagle3_checks import read_head
from ..checkpoints.hydra_checks import read_hydra
from ..checkpoints.medusa_checks import read_medusa
from ..checkpoints.peagle_checks import checked_peagle
from ..common.errors import RequestError

_CURE = (
    f"HEAD is the folder of an EAGLE-3 head, or {OWN_HEADS} for the MTP layers of the target; "
    "block drafters (DFlash, DSpark, Domino), Medusa and Hydra heads are examined, too"
)
_READERS: Mapping[str, Callable[[Checkpoint, Path], object]] = {
    EAGLE3: read_head,
    MEDUSA: read_medusa,
    HYDRA: read_hydra,
    **{name: functools.partial(checked_block, kind=name) for name in (DFLASH, DSPARK, DOMINO)},
}
"""By type of drafter, what reads its folder without torch."""
EXAMINED = (OWN_HEADS, *_READERS)
"""Types whose readings are measured."""


def checked_texts(
    prompts: Path, count: int, *, new_tokens: int, k: int, temperature: float
) -> tuple[Prompt, ...]:
    """So many prompts spread evenly over the file, whose categories may follow one another. Raises
    RequestError for a file that is none, and for texts on which nothing can be measured.
    """
    if temperature == 0:
        raise RequestError(
            "the doctor compares probabilities of acceptance, which are 0 or 1 at temperature 0; "
            "use --temperature above 0"
        )
    if k >= new_tokens:
        raise RequestError(
            f"no text of {new_tokens} new tokens is long enough for a round of k={k}, which begins "
            "after the first of them; ask for more --new-tokens or a smaller --k"
        )
    every = read_prompts(prompts, cure="name one with --prompts=FILE")
    some = min(count, len(every))
    return tuple(every[place * len(every) // some] for place in range(some))


def check_target(name: str) -> Checkpoint | None:
    """The target's files; None for a hub id. Raises RequestError for a folder that holds no whole
    model.
    """
    folder = Path(name)
    if not folder.is_absolute() and not folder.is_dir():
        return None
    if folder.is_dir() and not (folder / "config.json").is_file():
        raise RequestError(
            f"{folder} has no config.json; name the target's transformers checkpoint folder with "
            "--target=PATH"
        )
    kind = folder_kind(folder)
    if kind is not None and kind.drafter:
        packed = f" ({kind.packaging})" if kind.packaging else ""
        raise RequestError(
            f"{folder} holds {kind.name}{packed} and not a complete model; name the target that it "
            "drafts for with --target=PATH, and the folder itself as HEAD"
        )
    return open_checkpoint(folder)


def check_drafter(target: Checkpoint, drafter: str) -> None:
    """Raises RequestError for what cannot be examined."""
    if drafter != OWN_HEADS:
        _check_contract(target, drafter)
        kind, folder = head_of(drafter)
        _READERS[kind](target, folder)
        return
    if not target.mtp_layers:
        raise RequestError(f"{target.folder} has no MTP layers; name the folder of an EAGLE-3 head")
    if not target.has_mtp_tensors:
        raise RequestError(
            f"{target.folder} announces {target.mtp_layers} MTP layers and its safetensors hold "
            "none; save the checkpoint with its MTP tensors"
        )
    check_pair(target, None, 1)


def _check_contract(target: Checkpoint, drafter: str) -> None:
    """Of a P-EAGLE head the files alone are examined: raises RequestError with what is wrong in
    them, and otherwise with what else can be done.
    """
    spec = parse_drafter(drafter)
    if isinstance(spec, DraftModelSpec) and Path(spec.path).is_dir():
        spec = recognised(spec)
    if not isinstance(spec, RegisteredSpec) or spec.folder is None or spec.name != PEAGLE:
        return
    checked_peagle(target, spec.folder)
    raise RequestError(
        f"{spec.folder} passes all contract checks of a {spec.name} head (tensors, sizes, "
        "vocabularies, layers, mask token), and other readings are measured of EAGLE-3 heads, "
        "block drafters, Medusa and Hydra heads and MTP layers alone; measure it with "
        f"--specdec-draft={spec.folder}, and an engine that drafts with it by specdec_oracle"
    )


def head_of(drafter: str) -> tuple[str, Path]:
    """The type and the folder of heads. Raises RequestError for anything but the folder of an
    EAGLE-3 head, a block drafter, Medusa heads or Hydra heads.
    """
    spec = parse_drafter(drafter)
    if isinstance(spec, RegisteredSpec) and spec.name in _READERS and spec.folder is not None:
        _check_config(spec.folder)
        return spec.name, spec.folder
    if isinstance(spec, DraftModelSpec):
        _check_config(Path(spec.path))
        found = recognised(spec)
        if isinstance(found, RegisteredSpec) and found.name in _READERS and found.folder:
            return found.name, found.folder
    raise RequestError(f"{drafter} is no EAGLE-3 head; {_CURE}")


def _check_config(folder: Path) -> None:
    """Raises RequestError for a folder that is not there, or has no config.json that can be read:
    its packaging is unknown without.
    """
    if not folder.is_dir():
        raise RequestError(f"no folder at {folder}; {_CURE}")
    if not (folder / "config.json").is_file():
        raise RequestError(f"{folder} has no config.json; {_CURE}")
    _ = Checkpoint(folder).config
