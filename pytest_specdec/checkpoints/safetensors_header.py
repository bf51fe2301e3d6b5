"""The header of a safetensors file: where each tensor lies. Read without torch, and without reading
any tensor.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..common.errors import RequestError
from ..common.strict_json import JsonError, parse_json

_MOST_HEADER = 100_000_000
"""Bytes; safetensors itself reads no longer one."""
_MOST_DIMENSIONS = 16
_BITS = {
    "BOOL": 8,
    "U8": 8,
    "I8": 8,
    "F8_E5M2": 8,
    "F8_E4M3": 8,
    "F8_E8M0": 8,
    "F8_E4M3FNUZ": 8,
    "F8_E5M2FNUZ": 8,
    "F6_E2M3": 6,
    "F6_E3M2": 6,
    "F4": 4,
    "F4_E2M1": 4,
    "I16": 16,
    "U16": 16,
    "F16": 16,
    "BF16": 16,
    "I32": 32,
    "U32": 32,
    "F32": 32,
    "I64": 64,
    "U64": 64,
    "F64": 64,
    "C64": 64,
}
"""Bits of one element."""


@dataclasses.dataclass(frozen=True)
class Tensor:
    """Where a tensor lies in its file."""

    path: Path
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int

    @property
    def elements(self) -> int:
        return math.prod(self.shape)

    def blocks(self, size: int = 1 << 24) -> Iterator[bytes]:
        """The tensor's bytes in pieces of at most `size`."""
        with self.path.open("rb") as file:
            file.seek(self.begin)
            for begin in range(self.begin, self.end, size):
                yield file.read(min(size, self.end - begin))


class _HeaderError(Exception):
    """What is wrong with a header."""


def read_header(path: Path) -> dict[str, Tensor]:
    """Every tensor of a safetensors file by its name.

    Raises RequestError unless the header is strict JSON, each tensor's bytes are what its type and
    shape need, and the tensors fill the file one after another, without gaps and overlaps.
    """
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            (length,) = struct.unpack("<Q", file.read(8))
            if length > min(size - 8, _MOST_HEADER):
                raise _HeaderError("its header is longer than the file")
            data = parse_json(file.read(length).decode())
        return _tensors(path, data, 8 + length, size)
    except JsonError as error:
        problem = f"its header is not JSON: {error.problem}"
    except UnicodeDecodeError:
        problem = "its header is not UTF-8"
    except struct.error:
        problem = "it is cut off"
    except OSError as error:
        problem = str(error.strerror)
    except _HeaderError as error:
        problem = str(error)
    raise RequestError(
        f"{path} is not a readable safetensors file ({problem}); save or download it again"
    )


def _tensors(path: Path, data: Any, begin: int, size: int) -> dict[str, Tensor]:
    if not isinstance(data, dict):
        raise _HeaderError("its header is not an object")
    metadata = data.get("__metadata__", {})
    if not isinstance(metadata, dict) or not all(
        isinstance(value, str) for value in metadata.values()
    ):
        raise _HeaderError("its metadata are not texts")
    tensors = {
        name: _tensor(path, name, info, begin)
        for name, info in data.items()
        if name != "__metadata__"
    }
    in_order = sorted(tensors.values(), key=lambda tensor: (tensor.begin, tensor.end))
    for before, after in itertools.pairwise(in_order):
        if before.end != after.begin:
            raise _HeaderError("its tensors overlap or leave gaps")
    first, last = (in_order[0].begin, in_order[-1].end) if in_order else (begin, begin)
    if (first, last) != (begin, size):
        raise _HeaderError("its tensors do not fill the file")
    return tensors


def _tensor(path: Path, name: str, info: Any, begin: int) -> Tensor:
    if not isinstance(info, Mapping):
        raise _HeaderError(f"{name[:60]!r} is not described by an object")
    dtype, shape, offsets = (
        info.get("dtype"),
        _counts(info.get("shape")),
        _counts(info.get("data_offsets")),
    )
    if not isinstance(dtype, str) or dtype not in _BITS:
        raise _HeaderError(f"{name[:60]!r} is of an unknown type")
    if shape is None or len(shape) > _MOST_DIMENSIONS or offsets is None or len(offsets) != 2:
        raise _HeaderError(f"{name[:60]!r} has no usable shape and offsets")
    if (offsets[1] - offsets[0]) * 8 != math.prod(shape) * _BITS[dtype]:
        raise _HeaderError(f"the bytes of {name[:60]!r} do not fit its type and shape")
    return Tensor(
        path=path, dtype=dtype, shape=shape, begin=begin + offsets[0], end=begin + offsets[1]
    )


def _counts(values: Any) -> tuple[int, ...] | None:
    """A list of whole numbers from 0 on; None for anything else."""
    if not isinstance(values, list) or not all(
        type(value) is int and 0 <= value < 2**63 for value in values
    ):
        return None
    return tuple(values)
