"""Prompts of a .parquet file, by pyarrow: SPEED-Bench is published so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..common.bounded_files import read_bytes
from ..common.errors import RequestError, naming_extras
from ..common.limits import MOST_PROMPTS

MOST_UNPACKED = 1 << 30
"""Bytes of the columns once they are unpacked; the longest prompts of SPEED-Bench are a tenth."""
COLUMNS = ("category", "turns")


def parquet_rows(path: Path) -> list[Any]:
    """A dictionary for each row, with its category and turns.

    Raises OSError for a file that cannot be read, MissingExtraError without pyarrow, and
    RequestError for what is no such file or unpacks to more than `MOST_UNPACKED` bytes.
    """
    content = read_bytes(path)
    with naming_extras():
        import pyarrow
        import pyarrow.parquet
    try:
        file = pyarrow.parquet.ParquetFile(pyarrow.BufferReader(content))
        groups = [file.metadata.row_group(at) for at in range(file.metadata.num_row_groups)]
        unpacked, rows = sum(group.total_byte_size for group in groups), file.metadata.num_rows
        missing = [name for name in COLUMNS if name not in file.schema_arrow.names]
        if not missing and unpacked <= MOST_UNPACKED and rows <= MOST_PROMPTS:
            found: list[Any] = file.read(columns=list(COLUMNS)).to_pylist()
            return found
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise RequestError(
            f"prompt file {path} is no .parquet file ({str(error).splitlines()[0][:100]}); take it "
            "as it is published"
        ) from None
    if missing:
        raise RequestError(
            f"prompt file {path} has no column {missing[0]}; it needs {' and '.join(COLUMNS)}, as "
            "in SPEED-Bench"
        )
    raise RequestError(
        f"prompt file {path} holds {rows:,} rows of {unpacked:,} bytes, which is more than a "
        "prompt file may; take a part of it"
    )
