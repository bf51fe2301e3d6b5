"""A checkpoint folder as its files tell it: configuration, tensors, fingerprints. Needs no torch.

Everything that can be refused is refused here, before a model is loaded.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import re
import struct
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from .errors import RequestError

_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "merges.txt", "special_tokens_map.json")
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
MTP_COUNTS = ("num_mtp_layers", "num_nextn_predict_layers", "mtp_num_hidden_layers")
_NAMELESS = ("_name_or_path", "transformers_version")
_MTP_PREFIX = re.compile(r"(^|\.)mtp(_layers)?\.")
LARGE = 1 << 28
"""Bytes of weights from which on loading and hashing them may take seconds, and progress is worth a line."""
_LAYER = re.compile(r"(?:^|\.)layers\.(\d+)\.")


@dataclasses.dataclass(frozen=True)
class Tensor:
    """Where a tensor lies in its file, read from the header alone."""

    path: Path
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int

    def blocks(self, size: int = 1 << 24) -> Iterator[bytes]:
        """The tensor's bytes in pieces of at most `size`."""
        with self.path.open("rb") as file:
            file.seek(self.begin)
            for begin in range(self.begin, self.end, size):
                yield file.read(min(size, self.end - begin))


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """A local folder in transformers' layout; hub ids are fetched once by `decoding.loading` and come here as folders."""

    folder: Path

    @functools.cached_property
    def config(self) -> Mapping[str, Any]:
        path = self.folder / "config.json"
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise RequestError(f"{self.folder} has no config.json; name a transformers checkpoint folder") from None
        except ValueError as error:
            raise RequestError(f"{path} is not JSON ({error}); save the checkpoint again") from None
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
        return _whole(self.text_config.get("vocab_size"))

    @property
    def context(self) -> int | None:
        """Most tokens the model was built for; None when the configuration does not say."""
        found = (_whole(self.text_config.get(name)) for name in ("max_position_embeddings", "n_positions"))
        return next((count for count in found if count), None)

    @property
    def mtp_layers(self) -> int:
        """MTP layers that the configuration announces; 0 without."""
        return next((count for name in MTP_COUNTS if (count := _whole(self.text_config.get(name)))), 0)

    @functools.cached_property
    def weight_files(self) -> tuple[Path, ...]:
        """Raises RequestError where there are none, or only pickles, which are never opened."""
        files = tuple(sorted(self.folder.glob("*.safetensors")))
        if files:
            return files
        if any(next(self.folder.glob(pattern), None) for pattern in _PICKLES):
            raise RequestError(
                f"{self.folder} holds pickled weights only, which are never loaded; "
                "convert them: model.save_pretrained(folder) writes safetensors"
            )
        raise RequestError(f"{self.folder} holds no *.safetensors weights; save the model into it")

    @functools.cached_property
    def tensors(self) -> Mapping[str, Tensor]:
        return {name: tensor for path in self.weight_files for name, tensor in _safetensors_header(path).items()}

    def is_mtp_tensor(self, name: str) -> bool:
        """Whether a tensor belongs to an MTP layer, in the layouts that transformers reads."""
        layer = _LAYER.search(name)
        layers = _whole(self.text_config.get("num_hidden_layers")) or 0
        return bool(_MTP_PREFIX.search(name) or (layer and int(layer.group(1)) >= layers > 0))

    @property
    def has_mtp_tensors(self) -> bool:
        return any(map(self.is_mtp_tensor, self.tensors))

    @functools.cached_property
    def model_fingerprint(self) -> str:
        """SHA-256 over the configuration and every tensor but the MTP layers': what decides the emitted text."""
        return self._model_digest(lambda done, total: None)

    @functools.cached_property
    def weight_bytes(self) -> int:
        """Size of all tensors."""
        return sum(tensor.end - tensor.begin for tensor in self.tensors.values())

    def hash_now(self, report: Callable[[str, int, int], None]) -> None:
        """Compute `model_fingerprint`, if it is not known yet, with progress in MiB where there is much to read."""
        if self.weight_bytes >= LARGE and "model_fingerprint" not in self.__dict__:
            what = f"hashing {self.folder.name} (MiB)"
            self.__dict__["model_fingerprint"] = self._model_digest(lambda done, total: report(what, done >> 20, total >> 20))

    def _model_digest(self, progress: Callable[[int, int], None]) -> str:
        left_out = (*_NAMELESS, *MTP_COUNTS)
        kept = {name: value for name, value in self.config.items() if name not in left_out and value is not None}
        return self._digest(json.dumps(kept, sort_keys=True), mtp=False, progress=progress)

    @functools.cached_property
    def heads_fingerprint(self) -> str:
        """SHA-256 over the MTP layers' tensors alone, so that retrained heads leave the target's texts valid."""
        return self._digest(f"{self.mtp_layers} MTP layers", mtp=True, progress=lambda done, total: None)

    def _digest(self, preamble: str, *, mtp: bool, progress: Callable[[int, int], None]) -> str:
        digest = hashlib.sha256(preamble.encode())
        tensors = {name: self.tensors[name] for name in sorted(self.tensors) if self.is_mtp_tensor(name) == mtp}
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
    """The checkpoint of a folder; None for a hub id. Raises RequestError for a path where nothing is."""
    return open_checkpoint(Path(name)) if Path(name).is_absolute() or Path(name).is_dir() else None


def open_checkpoint(folder: Path) -> Checkpoint:
    """The checkpoint in `folder`; unchanged files are read once. Raises RequestError where there is none."""
    if not folder.is_dir():
        raise RequestError(f"no checkpoint folder at {folder}; check the path")
    stamps = ((entry.name, entry.stat().st_mtime_ns, entry.stat().st_size) for entry in folder.iterdir())
    return _opened(folder, tuple(sorted(stamps)))


@functools.lru_cache(maxsize=64)
def _opened(folder: Path, stamps: tuple[tuple[str, int, int], ...]) -> Checkpoint:
    checkpoint = Checkpoint(folder)
    checkpoint.config, checkpoint.tensors  # noqa: B018  both refuse early
    return checkpoint


def check_pair(target: Checkpoint, drafter: Checkpoint | None, depth: int) -> None:
    """Refuse a pair that cannot be measured; `drafter` None stands for the target's own MTP heads.

    Raises RequestError for another vocabulary, a depth above the MTP layers, or missing MTP weights.
    """
    if drafter is not None and drafter.vocabulary != target.vocabulary:
        raise RequestError(
            f"the drafter {drafter.folder} has a vocabulary of {drafter.vocabulary} tokens and the target "
            f"{target.folder} of {target.vocabulary}; choose a drafter trained for this target's tokenizer"
        )
    if drafter is not None and drafter.tokenizer_fingerprint != target.tokenizer_fingerprint:
        _check_same_tokens(target, drafter)
    heads = target if drafter is None else drafter
    least = 1 if drafter is None else 0
    if depth < least:
        raise RequestError(f"depth {depth}: the target's own heads draft with at least one layer; use --specdec-depth=1")
    if depth > heads.mtp_layers:
        raise RequestError(
            f"depth {depth} needs {depth} MTP layers and {heads.folder} has {heads.mtp_layers}; "
            f"use --specdec-depth={heads.mtp_layers} or less"
        )
    if depth:
        check_heads(heads)


def check_heads(checkpoint: Checkpoint) -> None:
    """Refuse a checkpoint that announces no MTP layers, or announces some and holds none. Raises RequestError."""
    if not checkpoint.mtp_layers:
        raise RequestError(f"{checkpoint.folder / 'config.json'} announces no MTP layers; add num_mtp_layers if it has some")
    if not checkpoint.has_mtp_tensors:
        raise RequestError(
            f"{checkpoint.folder} announces {checkpoint.mtp_layers} MTP layers and its safetensors hold none; "
            "save the checkpoint with its MTP tensors, or use --specdec-depth=0"
        )


def _check_same_tokens(target: Checkpoint, drafter: Checkpoint) -> None:
    """Tokenizer files may differ in form; the token ids may not."""
    ours, theirs = (_vocabulary_of(checkpoint.folder / "tokenizer.json") for checkpoint in (target, drafter))
    if ours is not None and theirs is not None and ours != theirs:
        raise RequestError(
            f"the drafter {drafter.folder} numbers its tokens differently from the target {target.folder}; "
            "choose a drafter trained for this target's tokenizer"
        )


def _vocabulary_of(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))["model"]["vocab"]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _safetensors_header(path: Path) -> dict[str, Tensor]:
    """Eight bytes of length, then JSON; offsets count from the header's end."""
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > path.stat().st_size:
                raise ValueError("header longer than the file")
            header = json.loads(file.read(length))
        header.pop("__metadata__", None)
        tensors = {
            name: Tensor(path, info["dtype"], tuple(info["shape"]), *(8 + length + at for at in info["data_offsets"]))
            for name, info in header.items()
        }
        if max((tensor.end for tensor in tensors.values()), default=8 + length) != path.stat().st_size:
            raise ValueError("tensors do not fill the file")
        return tensors
    except (OSError, ValueError, KeyError, TypeError, AttributeError, struct.error):
        raise RequestError(f"{path} is not a readable safetensors file; save or download it again") from None
