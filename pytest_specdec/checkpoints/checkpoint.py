"""A checkpoint folder by its files: configuration, tensors, fingerprints. Needs no torch.

Everything that can be refused is refused here, before a model is loaded.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import operator
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..common.errors import RequestError
from .config_checks import check_config, count_of
from .folder_kinds import Kind, kind_of
from .json_files import read_json
from .safetensors_header import Tensor, read_header
from .tokenizer_files import vocabulary_of

_TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer.model",
    "vocab.json",
    "merges.txt",
    "special_tokens_map.json",
)
MTP_COUNTS = ("num_mtp_layers", "num_nextn_predict_layers", "mtp_num_hidden_layers")
_NAMELESS = ("_name_or_path", "transformers_version")
_MTP_PREFIX = re.compile(r"(^|\.)mtp(_layers)?\.")
LARGE = 1 << 28
"""Bytes of weights from which on loading and hashing them may take seconds, and progress is worth a
line.
"""
_LAYER = re.compile(r"(?:^|\.)layers\.(\d+)\.")
Stamp = tuple[str, int, int]
"""A file's name, time of its last change and size."""
Stamps = tuple[Stamp, ...]
"""Name, time and size of each file of a folder."""


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """A local folder in transformers' layout; hub ids are fetched once by `decoding.loading` and
    come here as folders.
    """

    folder: Path

    @functools.cached_property
    def config(self) -> Mapping[str, Any]:
        path = self.folder / "config.json"
        if not path.is_file():
            raise RequestError(
                f"{self.folder} has no config.json; name a transformers checkpoint folder"
            )
        data = read_json(path, "save the checkpoint again")
        if not isinstance(data, dict):
            raise RequestError(f"{path} is not a JSON object; save the checkpoint again")
        return data

    @property
    def text_config(self) -> Mapping[str, Any]:
        """The language model's part of a multimodal configuration, or all of it."""
        nested = self.config.get("text_config")
        return nested if isinstance(nested, dict) else self.config

    @property
    def vocabulary(self) -> int | None:
        return count_of(self.text_config.get("vocab_size"))

    @property
    def context(self) -> int | None:
        """Most tokens the model was built for; None when the configuration does not say."""
        lengths = (
            count_of(self.text_config.get(name))
            for name in ("max_position_embeddings", "n_positions")
        )
        return next((length for length in lengths if length), None)

    @property
    def mtp_layers(self) -> int:
        """MTP layers that the configuration announces; 0 without."""
        return next(
            (count for name in MTP_COUNTS if (count := count_of(self.text_config.get(name)))), 0
        )

    @functools.cached_property
    def weight_files(self) -> tuple[Path, ...]:
        """Raises RequestError where there are none, or what is named so is no file."""
        files = tuple(sorted(self.folder.glob("*.safetensors")))
        for file in files:
            if not file.is_file():
                raise RequestError(f"{file} is no file; save the model again")
        if files:
            return files
        raise RequestError(f"{self.folder} holds no *.safetensors weights; save the model into it")

    @functools.cached_property
    def tensors(self) -> Mapping[str, Tensor]:
        return {
            name: tensor for path in self.weight_files for name, tensor in read_header(path).items()
        }

    def is_mtp_tensor(self, name: str) -> bool:
        """Whether a tensor belongs to an MTP layer, in the layouts that transformers reads."""
        layer = _LAYER.search(name)
        layers = count_of(self.text_config.get("num_hidden_layers")) or 0
        return bool(_MTP_PREFIX.search(name) or (layer and int(layer.group(1)) >= layers > 0))

    @functools.cached_property
    def model_tensors(self) -> Mapping[str, Tensor]:
        """The tensors of the model itself, without its MTP layers."""
        return {
            name: tensor for name, tensor in self.tensors.items() if not self.is_mtp_tensor(name)
        }

    @property
    def has_mtp_tensors(self) -> bool:
        return any(map(self.is_mtp_tensor, self.tensors))

    @functools.cached_property
    def model_fingerprint(self) -> str:
        """SHA-256 over the configuration and every tensor but the MTP layers': what decides the
        emitted text.
        """
        return self._digest(self._settings, mtp=False)

    @property
    def weight_bytes(self) -> int:
        """Size of all tensors."""
        return sum(tensor.end - tensor.begin for tensor in self.tensors.values())

    def hash_now(self, report: Callable[[str, int, int], None]) -> None:
        """Compute `model_fingerprint`, if it is not known yet, with progress in MiB where there is
        much to read.
        """
        if self.weight_bytes >= LARGE and "model_fingerprint" not in self.__dict__:
            what = f"hashing {self.folder.name} (MiB)"
            self.__dict__["model_fingerprint"] = self._digest(
                self._settings,
                mtp=False,
                progress=lambda done, total: report(what, done >> 20, total >> 20),
            )

    @property
    def _settings(self) -> str:
        """The configuration without names, versions and MTP layers."""
        left_out = (*_NAMELESS, *MTP_COUNTS)
        kept = {
            name: value
            for name, value in self.config.items()
            if name not in left_out and value is not None
        }
        return json.dumps(kept, sort_keys=True)

    def is_model_of(self, other: Checkpoint) -> bool:
        """Whether both have one model fingerprint; the weights of different models are not read to
        the end.
        """
        ours, theirs = self.model_tensors, other.model_tensors
        if self._settings != other._settings or ours.keys() != theirs.keys():
            return False
        pairs = [(ours[name], theirs[name]) for name in sorted(ours)]
        if any((our.dtype, our.shape) != (their.dtype, their.shape) for our, their in pairs):
            return False
        return all(
            our == their or all(map(operator.eq, our.blocks(), their.blocks()))
            for our, their in pairs
        )

    @functools.cached_property
    def heads_fingerprint(self) -> str:
        """SHA-256 over the MTP layers' tensors alone, so that retrained heads leave the target's
        texts valid.
        """
        return self._digest(f"{self.mtp_layers} MTP layers", mtp=True)

    def _digest(
        self,
        preamble: str,
        *,
        mtp: bool,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> str:
        digest = hashlib.sha256(preamble.encode())
        tensors = {
            name: self.tensors[name]
            for name in sorted(self.tensors)
            if self.is_mtp_tensor(name) == mtp
        }
        total, done = sum(tensor.end - tensor.begin for tensor in tensors.values()), 0
        for name, tensor in tensors.items():
            digest.update(f"{name} {tensor.dtype} {tensor.shape}".encode())
            for block in tensor.blocks():
                digest.update(block)
                done += len(block)
                progress(done, total)
        return digest.hexdigest()[:16]

    @functools.cached_property
    def tokenizer_fingerprint(self) -> str:
        """SHA-256 over the files that decide how text becomes tokens."""
        digest = hashlib.sha256()
        for name in _TOKENIZER_FILES:
            path = self.folder / name
            if path.is_file():
                digest.update(name.encode() + path.read_bytes())
        return digest.hexdigest()[:16]


def local_checkpoint(name: str) -> Checkpoint | None:
    """The checkpoint of a folder; None for a hub id. Raises RequestError for a path where nothing
    is.
    """
    return open_checkpoint(Path(name)) if Path(name).is_absolute() or Path(name).is_dir() else None


def case_checkpoint(name: str) -> Checkpoint | None:
    """The files of a case's model, whose name is an absolute path where it is a folder.

    None for a hub id and for `SERVED`, whatever folder of that name lies about. Raises RequestError
    for a path where nothing is.
    """
    return open_checkpoint(Path(name)) if Path(name).is_absolute() else None


def open_checkpoint(folder: Path) -> Checkpoint:
    """The checkpoint in `folder`; unchanged files are read once. Raises RequestError where there is
    none.
    """
    return _opened(folder, stamps_of(folder))


def folder_kind(folder: Path) -> Kind | None:
    """What `folder` holds where that is not a whole model. Raises RequestError for a folder that
    cannot be read.
    """
    return _read(folder, stamps_of(folder))[1]


def stamps_of(folder: Path) -> Stamps:
    """Of the files of a folder; others where one of them was written again. Raises RequestError
    where there is no folder.
    """
    if not folder.is_dir():
        raise RequestError(f"no checkpoint folder at {folder}; check the path")
    try:
        return tuple(sorted(map(stamp_of, folder.iterdir())))
    except OSError as error:
        raise RequestError(
            f"{folder} cannot be read ({error.strerror}); check its rights"
        ) from None


def stamp_of(entry: Path) -> Stamp:
    """What changes with a file's content; a link that leads nowhere has none."""
    try:
        status = entry.stat()
    except OSError:
        return entry.name, 0, 0
    return entry.name, status.st_mtime_ns, status.st_size


@functools.lru_cache(maxsize=64)
def _read(folder: Path, stamps: Stamps) -> tuple[Checkpoint, Kind | None]:
    """The files of a folder, unchecked, and what they are where they are not a whole model."""
    checkpoint = Checkpoint(folder)
    names = {name for name, _, _ in stamps}
    config = checkpoint.config if "config.json" in names else None
    return checkpoint, kind_of(config, names, lambda: checkpoint.tensors)


@functools.lru_cache(maxsize=64)
def _opened(folder: Path, stamps: Stamps) -> Checkpoint:
    checkpoint, kind = _read(folder, stamps)
    if kind is not None:
        raise RequestError(kind.refusal(folder))
    check_config(folder, checkpoint.config, checkpoint.text_config, checkpoint.model_tensors)
    _check_index(checkpoint)
    _check_generation_config(folder)
    return checkpoint


def _check_generation_config(folder: Path) -> None:
    """The ids that end a text are read from there; transformers takes a file that it cannot read
    for none.
    """
    path = folder / "generation_config.json"
    if not path.is_file():
        return
    data = read_json(path, "save it again, or delete it")
    ends = data.get("eos_token_id") if isinstance(data, dict) else "none"
    listed = ends if isinstance(ends, list) else [] if ends is None else [ends]
    if any(count is None or count < 0 for count in map(count_of, listed)):
        raise RequestError(f"{path} names no usable eos_token_id; save it again, or delete it")


def _check_index(checkpoint: Checkpoint) -> None:
    """The index of weights in several files names files of the folder; a loader would open whatever
    it names.
    """
    path = checkpoint.folder / "model.safetensors.index.json"
    if not path.is_file() or (checkpoint.folder / "model.safetensors").is_file():
        return
    data = read_json(path, "save the checkpoint again")
    named = data.get("weight_map") if isinstance(data, dict) else None
    if not isinstance(named, dict) or not isinstance(data.get("metadata"), dict):
        raise RequestError(f"{path} has no weight_map and metadata; save the checkpoint again")
    known = {file.name for file in checkpoint.weight_files}
    for file in named.values():
        if not isinstance(file, str) or file not in known:
            raise RequestError(
                f"{path} names {str(file)[:60]!r}, which is not a weights file in the folder; "
                "save it there, too"
            )


def check_pair(target: Checkpoint, drafter: Checkpoint | None, depth: int) -> None:
    """Refuse a pair that cannot be measured; `drafter` None stands for the target's own MTP heads.

    Raises RequestError for another vocabulary, a depth above the MTP layers, or missing MTP
    weights.
    """
    if drafter is not None and drafter.vocabulary != target.vocabulary:
        raise RequestError(
            f"the drafter {drafter.folder} has a vocabulary of {drafter.vocabulary} tokens and the "
            "target "
            f"{target.folder} of {target.vocabulary}; choose a drafter trained for this target's "
            "tokenizer"
        )
    if drafter is not None and drafter.tokenizer_fingerprint != target.tokenizer_fingerprint:
        _check_same_tokens(target, drafter)
    heads = target if drafter is None else drafter
    least = 1 if drafter is None else 0
    if depth < least:
        raise RequestError(
            f"depth {depth}: the target's own heads draft with at least one layer; use "
            "--specdec-depth=1"
        )
    if depth > heads.mtp_layers:
        raise RequestError(
            f"depth {depth} needs {depth} MTP layers and {heads.folder} has {heads.mtp_layers}; "
            f"use --specdec-depth={heads.mtp_layers} or less"
        )
    if depth:
        check_heads(heads)


def check_not_itself(target: Checkpoint, drafter: Checkpoint) -> None:
    """Refuse a drafter that is the target, under whatever path. Raises RequestError."""
    if drafter.is_model_of(target):
        raise RequestError(
            f"the drafter {drafter.folder} is the target itself, and what it drafts is always "
            "accepted; name a smaller draft "
            "model, mtp for the target's own heads, or prompt-lookup"
        )


def check_heads(checkpoint: Checkpoint) -> None:
    """Refuse a checkpoint that announces no MTP layers, or announces some and holds none. Raises
    RequestError.
    """
    if not checkpoint.mtp_layers:
        raise RequestError(
            f"{checkpoint.folder / 'config.json'} announces no MTP layers; add num_mtp_layers if "
            "it has some"
        )
    if not checkpoint.has_mtp_tensors:
        raise RequestError(
            f"{checkpoint.folder} announces {checkpoint.mtp_layers} MTP layers and its safetensors "
            "hold none; "
            "save the checkpoint with its MTP tensors, or use --specdec-depth=0"
        )


def _check_same_tokens(target: Checkpoint, drafter: Checkpoint) -> None:
    """Tokenizer files may differ in form; the token ids may not."""
    ours, theirs = (
        vocabulary_of(checkpoint.folder / "tokenizer.json") for checkpoint in (target, drafter)
    )
    if ours is not None and theirs is not None and ours != theirs:
        raise RequestError(
            f"the drafter {drafter.folder} numbers its tokens differently from the target "
            f"{target.folder}; "
            "choose a drafter trained for this target's tokenizer, or draft with the tokens that "
            f"both have: tli:{drafter.folder}"
        )
