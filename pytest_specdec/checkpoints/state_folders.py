"""Folders of hidden states: which package wrote one, and what is read of it."""

from __future__ import annotations

from pathlib import Path

from ..common.errors import RequestError

IDS, STATES, SCALES = "token_ids", "hidden_states", "hidden_states_scales"
"""The last where the states are kept in 8 bits: what they are multiplied by."""

_BESIDE = "hidden_states"
"""Where speculators puts them, in the folder of its data set."""
_PICKLES = {
    ".ckpt.gz": "SpecForge's packed .ckpt files",
    ".ckpt": "SpecForge's .ckpt files",
    ".pt": "ModelOpt's .pt files",
}
"""By the ending of its files: what a package writes."""


def state_folder(name: str | None) -> Path:
    """The folder that is named in the place of a server. Raises RequestError for none, and for an
    address.
    """
    if name is None or "://" in name:
        raise RequestError(
            "engine hidden-states reads a folder of files; name it: --specdec-hidden-states=DIR"
        )
    return Path(name)


def state_files(folder: Path) -> list[Path]:
    """The files of a folder, or of `hidden_states` in the folder of a data set of speculators.

    Raises RequestError for a folder without such files, with what to do about the files of
    another package.
    """
    if not folder.is_dir():
        raise RequestError(f"there is no folder {folder} of hidden states; check its name")
    for place in (folder, folder / _BESIDE):
        if files := sorted(place.glob("*.safetensors")):
            return files
    if (folder / "dataset_info.json").is_file():
        raise RequestError(
            f"{folder} is a data set of speculators without hidden states; write them: speculators "
            f"generate-offline-data --preprocessed-data {folder}"
        )
    for ending, files_of in _PICKLES.items():
        if pickle := next(folder.rglob(f"*{ending}"), None):
            raise RequestError(_unpickled(folder, f"{files_of}, such as {pickle.name}"))
    raise RequestError(
        f"{folder} holds no safetensors files; vLLM's extraction of hidden states and speculators "
        "write one for each text"
    )


def _unpickled(folder: Path, files: str) -> str:
    unpack = "unpack them (gunzip -r) and " * ("packed" in files)
    return (
        f"{folder} holds {files}: pickles, which are never opened, because they can run any code; "
        f"where you trust them, {unpack}write them as safetensors in the trainer's environment by "
        "the program in docs/hidden-states.md, and name its folder"
    )
