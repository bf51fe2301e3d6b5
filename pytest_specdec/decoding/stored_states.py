"""Hidden states of a target that ran elsewhere, from the files that trainers of heads keep.

vLLM's extraction and the package speculators write one safetensors file for each text: `token_ids`
(length,) and `hidden_states` (length, layers, width), the states that a drafter reads and, last,
the output of the last layer. Files are read as they are needed: in memory stay the texts that a
suite's prompts begin, whatever else the folder holds.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from ..checkpoints.state_folders import IDS, SCALES, STATES, state_files
from ..common.errors import RequestError

_FLOATS = frozenset({"F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2"})
"""Types of states, as safetensors names them."""


class StoredStates:
    """The texts of a folder and the target's states on them.

    Raises RequestError for a folder without such files.
    """

    def __init__(self, folder: Path) -> None:
        self._listed = state_files(folder)
        self.folder = self._listed[0].parent
        self._found: dict[bytes, dict[bytes, Path]] = {}
        """By prompt: the texts that begin with it, and their files."""
        self._digests: dict[Path, bytes] = {}
        """Of the files that a fingerprint was asked for."""

    def texts_after(self, prompts: Sequence[Sequence[int]]) -> list[list[NDArray[np.int64]]]:
        """For each prompt the token ids of every text that begins with it, but with no longer one
        of the prompts, and goes on; the prompt is included. Raises RequestError for a folder with a
        file that is damaged or something else.
        """
        keys = [_key(prompt) for prompt in prompts]
        if new := {key for key in keys if key not in self._found}:
            self._found |= self._scanned(new)
        longest = {text: key for key in sorted(keys, key=len) for text in self._found[key]}
        return [
            [np.frombuffer(text, np.int64) for text in self._found[key] if longest[text] == key]
            for key in keys
        ]

    def _scanned(self, prompts: set[bytes]) -> dict[bytes, dict[bytes, Path]]:
        """What the folder's files, one after the other, have of some prompts."""
        found: dict[bytes, dict[bytes, Path]] = {prompt: {} for prompt in prompts}
        lengths = sorted(set(map(len, prompts)))
        for file in self._listed:
            with _opened(file) as held:
                text = _text_in(file, held)
            for length in lengths:
                if length < len(text) and (prompt := text[:length]) in found:
                    found[prompt].setdefault(text, file)
        return found

    def of(self, ids: Sequence[int]) -> torch.Tensor:
        """The states on a text, or on the beginning of one, that `texts_after` has found: (length,
        layers, width).

        Raises RequestError for any other text.
        """
        file = self._file_of(ids)
        with _opened(file) as held:
            if _text_in(file, held)[: 8 * len(ids)] != _key(ids):
                raise RequestError(
                    f"{file} has changed since it was read first; wait until the states are "
                    "written, and run again"
                )
            states: torch.Tensor = held.get_slice(STATES)[: len(ids)]
            if SCALES in held.keys():  # noqa: SIM118  # safetensors' files are no mappings
                states = states.float() * held.get_slice(SCALES)[: len(ids)].float()
            if states.dtype.itemsize == 1:
                states = states.float()
        _check_computed(states, file)
        return states

    def fingerprint(self, texts: Sequence[Sequence[int]]) -> str:
        """A hash of the files of texts that `texts_after` has found: other states are another
        measurement. Raises RequestError for any other text.
        """
        whole = hashlib.sha256()
        for ids in texts:
            file = self._file_of(ids)
            if file not in self._digests:
                with file.open("rb") as content:
                    self._digests[file] = hashlib.file_digest(content, "sha256").digest()
            whole.update(self._digests[file])
        return whole.hexdigest()[:16]

    def _file_of(self, ids: Sequence[int]) -> Path:
        wanted = _key(ids)
        for length in sorted(set(map(len, self._found))):
            for text, file in self._found.get(wanted[:length], {}).items():
                if text.startswith(wanted):
                    return file
        raise RequestError(
            f"no file of {self.folder} has the states of a text of the suite; extract the states "
            "of its prompts, too"
        )


def _text_in(file: Path, held: Any) -> bytes:
    """The token ids of a file, opened as `held`, whose states fit them."""
    try:
        ids, states = held.get_tensor(IDS), held.get_slice(STATES)
        shape, type_name = states.get_shape(), states.get_dtype()
        scaled = SCALES in held.keys()  # noqa: SIM118
        scales = held.get_slice(SCALES).get_shape() if scaled else [*ids.shape, 1, 1]
    except SafetensorError as error:
        raise RequestError(
            f"{file} has no {IDS!r} and {STATES!r} ({str(error)[:200]}); such files are "
            "written by vLLM's extraction of hidden states and by speculators"
        ) from None
    problem = None
    if ids.ndim != 1 or len(shape) != 3 or shape[0] != len(ids) or 0 in shape[1:]:
        problem = (
            f"{IDS} {list(ids.shape)} and {STATES} {list(shape)}, not (length,) and "
            "(length, layers, width)"
        )
    elif ids.is_floating_point() or ids.is_complex() or ids.dtype == torch.bool:
        problem = f"{IDS} that are no integers"
    elif type_name not in _FLOATS and not (scaled and type_name == "I8"):
        problem = f"{STATES} of type {type_name}, which no target computes"
    elif list(scales) != [len(ids), 1, 1]:
        problem = f"{SCALES} {list(scales)}, not (length, 1, 1)"
    if problem is not None:
        raise RequestError(f"{file} holds {problem}; extract the states again")
    return _key(ids.numpy())


def _check_computed(states: torch.Tensor, file: Path) -> None:
    """Refuse states (length, layers, width) that no target computes: numbers that are not finite,
    and zeros, where nothing was written. Zeros alone make all tokens equally probable, and no text
    contradicts that.
    """
    # Two numbers, and no tensor as large as the states.
    if not bool(torch.isfinite(torch.stack(torch.aminmax(states))).all()):
        raise RequestError(f"{file} holds states that are not finite; extract them again")
    written = states.any(-1)
    # The embedding of a single token may be zero, the last layer's output is not.
    if not bool(written[:, -1].all() and written.any(0).all()):
        raise RequestError(
            f"{file} holds states that are all zero, of a token or of a layer: they were never "
            "written; extract them again"
        )


def _opened(file: Path) -> safe_open:
    try:
        return safe_open(file, "pt")
    except (SafetensorError, OSError) as error:
        raise RequestError(
            f"{file} is no whole safetensors file ({str(error)[:200]}); extract the states again, "
            "or wait until they are written"
        ) from None


def _key(ids: Sequence[int] | NDArray[np.integer]) -> bytes:
    return np.asarray(ids, dtype=np.int64).tobytes()
