"""Files of others, read up to a size: a file that is endless, or larger than any of its kind, is
refused before it fills the memory.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

MOST_BYTES = 1 << 28
"""Of a stored file, a profile, a prompt file, a trace or a configuration: 256 MiB. The largest of
ours, 5,000 texts with log-probabilities, is a tenth of it.
"""


def read_bytes(path: Path, most: int = MOST_BYTES) -> bytes:
    """The content of a regular file. Raises OSError, as for a file that cannot be read, for pipes,
    devices and folders, and for files of more than `most` bytes.
    """
    found = path.stat()  # before it is opened: opening a pipe waits for somebody to write
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    with path.open("rb") as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise OSError(errno.EFBIG, f"more than {most:,} bytes", str(path))
    return content


def read_text(path: Path, most: int = MOST_BYTES) -> str:
    """The same as text, with each line end as "\\n". Raises UnicodeDecodeError, too.

    >>> read_text(Path("suites/text/prompts.jsonl"), most=10)
    Traceback (most recent call last):
        ...
    OSError: [Errno 27] more than 10 bytes: 'suites/text/prompts.jsonl'
    """
    text = read_bytes(path, most).decode("utf-8")
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text
