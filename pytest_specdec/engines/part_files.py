"""The file in which one of several processes leaves its share of a session's work.

One msgpack document, arrays as their bytes: nothing is rounded and nothing is executed when it is
read. What a number of parts must agree on is in their headers, and in the results of work that each
of them did.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_origin

import msgspec
import numpy as np
from msgspec import Meta

from ..common.bounded_files import read_bytes
from ..common.errors import MeasurementError, RequestError

SCHEMA = 1
MOST_SHARDS = 999_999
_MOST = 1 << 34
"""Bytes of a part."""
_MAGIC = b"specdec-part\n"
_DIGEST = 32
T = TypeVar("T")


class PartHeader(msgspec.Struct, frozen=True, kw_only=True):
    """What a part belongs to."""

    schema: int
    shard: Annotated[int, Meta(ge=1, le=MOST_SHARDS)]
    """From 1 on."""
    shards: Annotated[int, Meta(ge=1, le=MOST_SHARDS)]
    arguments: tuple[str, ...]
    """pytest's, without the shard and its file."""
    commit: str | None
    """The last commit where tests, prompts and baselines are; None outside a repository."""
    version: str
    """Of this package."""


class WorkResults(msgspec.Struct, kw_only=True):
    """Results of one piece of work, by unit."""

    units: int
    """In all."""
    everywhere: bool
    results: dict[int, bytes]


class ShardPart(msgspec.Struct, kw_only=True):
    """One process's share."""

    header: PartHeader
    work: dict[str, WorkResults]

    def write(self, path: Path) -> None:
        """Write the file at once or not at all. Raises RequestError where it cannot be written."""
        content = msgspec.msgpack.encode(self)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
                file.write(_MAGIC + hashlib.sha256(content).digest() + content)
            os.replace(file.name, path)
        except OSError as error:
            raise RequestError(
                f"{path} cannot be written ({error.strerror}); name another file with "
                "--specdec-part"
            ) from None

    @classmethod
    def read(cls, path: Path) -> ShardPart:
        """Raises RequestError for a file that is missing, damaged or something else."""
        try:
            whole = read_bytes(path, _MOST)
        except OSError as error:
            raise RequestError(
                f"{path} cannot be read ({error.strerror}); check its name"
            ) from None
        if not whole.startswith(_MAGIC):
            raise RequestError(
                f"{path} is no part of a session; name files that --specdec-shard wrote"
            )
        start = len(_MAGIC)
        digest, content = whole[start : start + _DIGEST], whole[start + _DIGEST :]
        if hashlib.sha256(content).digest() != digest:
            raise RequestError(f"{path} is damaged; run its shard again")
        try:
            return msgspec.msgpack.decode(content, type=cls)
        except msgspec.DecodeError as error:
            raise RequestError(
                f"{path} is of another version of this package ({error}); run all shards again "
                "with this one"
            ) from None


def encoded(result: object) -> bytes:
    """A unit's result as it is stored."""
    return msgspec.msgpack.encode(result, enc_hook=_plain)


def decoded(stored: bytes, kind: type[T]) -> T:
    """A unit's result, bit for bit. Raises MeasurementError for one of another kind."""
    try:
        return msgspec.msgpack.decode(stored, type=kind, dec_hook=_array)
    except msgspec.DecodeError as error:
        raise MeasurementError(
            f"a part holds other results than this version reads ({error}); run all shards again"
        ) from None


def _plain(value: object) -> object:
    if isinstance(value, np.ndarray):
        return {
            "dtype": value.dtype.str,
            "shape": list(value.shape),
            "data": np.ascontiguousarray(value).tobytes(),
        }
    raise NotImplementedError(type(value))


def _array(kind: Any, value: Any) -> Any:
    if (get_origin(kind) or kind) is not np.ndarray or not isinstance(value, Mapping):
        raise NotImplementedError(kind)
    array = np.frombuffer(value["data"], dtype=np.dtype(value["dtype"]))
    return array.reshape(value["shape"]).copy()
