"""Hidden states of a target that ran elsewhere, from the files that trainers of heads keep.

vLLM's extraction and the package speculators write one safetensors file for each text: `token_ids`
(length,) and `hidden_states` (length, layers, width), the states that a drafter reads and, last,
the output of the last layer, before the final norm. Files are read as they are needed; only token
ids stay in memory.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open

from ..common.errors import RequestError

IDS, STATES, SCALES = "token_ids", "hidden_states", "hidden_states_scales"
"""The last where the states are kept in 8 bits: what they are multiplied by."""


class StoredStates:
    """The texts of a folder and the target's states on them.

    Raises RequestError for a folder without such files, or with one that is damaged.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        files = sorted(folder.glob("*.safetensors"))
        if not files:
            raise RequestError(_nothing_in(folder))
        self._files: dict[bytes, Path] = {}
        for file in files:
            self._files[_key(_ids_in(file))] = file
        self._beginnings: dict[int, dict[bytes, list[bytes]]] = {}

    def texts_after(self, prompt: Sequence[int]) -> list[tuple[int, ...]]:
        """The token ids of every text that begins with a prompt and goes on, prompts included."""
        if len(prompt) not in self._beginnings:
            found = defaultdict(list)
            width = len(prompt) * np.dtype(np.int64).itemsize
            for key in self._files:
                if len(key) > width:
                    found[key[:width]].append(key)
            self._beginnings[len(prompt)] = dict(found)
        keys = self._beginnings[len(prompt)].get(_key(prompt), [])
        return [tuple(np.frombuffer(key, dtype=np.int64).tolist()) for key in keys]

    def of(self, ids: Sequence[int]) -> torch.Tensor:
        """The states on a text, or on the beginning of a stored one: (length, layers, width).

        Raises RequestError for a text that no file has.
        """
        file = self._files.get(_key(ids))
        if file is None:
            start = _key(ids)
            file = next((path for key, path in self._files.items() if key.startswith(start)), None)
        if file is None:
            raise RequestError(
                f"no file of {self.folder} has the states of a text of the suite; extract the "
                "states of its prompts, too"
            )
        with _opened(file) as held:
            states: torch.Tensor = held.get_tensor(STATES)
            if SCALES in held.keys():  # noqa: SIM118  # safetensors' files are no mappings
                states = states.float() * held.get_tensor(SCALES).float()
        if not bool(torch.isfinite(states).all()):
            raise RequestError(f"{file} holds states that are not finite; extract them again")
        return states[: len(ids)]


def _ids_in(file: Path) -> list[int]:
    """The token ids of a file whose states fit them."""
    try:
        with _opened(file) as held:
            ids, shape = held.get_tensor(IDS), held.get_slice(STATES).get_shape()
    except SafetensorError as error:
        raise RequestError(
            f"{file} has no {IDS!r} and {STATES!r} ({str(error)[:200]}); such files are "
            "written by vLLM's extraction of hidden states and by speculators"
        ) from None
    if ids.ndim != 1 or ids.is_floating_point() or len(shape) != 3 or shape[0] != len(ids):
        raise RequestError(
            f"{file} holds {IDS} {list(ids.shape)} and {STATES} {list(shape)}, not (length,) and "
            "(length, layers, width); extract the states again"
        )
    return [int(token) for token in ids]


def _opened(file: Path) -> safe_open:
    try:
        return safe_open(file, "pt")
    except (SafetensorError, OSError) as error:
        raise RequestError(
            f"{file} is no whole safetensors file ({str(error)[:200]}); extract the states again"
        ) from None


def _key(ids: Sequence[int]) -> bytes:
    return np.asarray(ids, dtype=np.int64).tobytes()


def _nothing_in(folder: Path) -> str:
    if not folder.is_dir():
        return f"there is no folder {folder} of hidden states; check --specdec-hidden-states"
    pickled = [file for ending in ("ckpt", "pt", "bin") for file in folder.glob(f"*.{ending}")]
    if pickled:
        return (
            f"{folder} holds pickled files such as {pickled[0].name}, which may run code when they "
            f"are read; write {IDS!r} and {STATES!r} of each text into a safetensors file"
        )
    return (
        f"{folder} holds no safetensors files; vLLM's extraction of hidden states and speculators "
        "write one for each text"
    )
