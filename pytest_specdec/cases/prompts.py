"""Prompt files: one JSON object a line, `{"category": ..., "prompt": ...}` or `{"category": ...,
"messages": [...]}`; or the question files of public benchmarks, whose lines, or rows of a .parquet
file, are `{"question_id": ..., "category": ..., "turns": [...]}`: MT-bench, Spec-Bench and
SPEED-Bench.

Of several turns the first is the prompt: the others follow answers that another target would not
have given.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Annotated, Any

import msgspec

from ..common.bounded_files import read_text
from ..common.errors import RequestError
from ..common.strict_json import JsonError, parse_json

SHAPE = (
    '{"category": "prose", "prompt": "Once upon"} or '
    '{"category": "chat", "messages": [{"role": "user", ...}]}'
)


class _Category(msgspec.Struct):
    category: Annotated[str, msgspec.Meta(min_length=1)]


PLACEHOLDER = "FULL BENCHMARK DATA SHOULD BE FETCHED FROM THE SOURCE"
"""How a turn of SPEED-Bench begins whose text is not in the published file."""


class _Turns(msgspec.Struct):
    turns: Annotated[list[Annotated[str, msgspec.Meta(min_length=1)]], msgspec.Meta(min_length=1)]


class _Content(msgspec.Struct):
    prompt: Annotated[str, msgspec.Meta(min_length=1)] | None = None
    messages: (
        Annotated[
            list[Annotated[dict[str, str], msgspec.Meta(min_length=1)]], msgspec.Meta(min_length=1)
        ]
        | None
    ) = None


@dataclasses.dataclass(frozen=True)
class Prompt:
    """A prompt; `key` is its content's hash, by which runs and baselines are paired."""

    key: str
    category: str
    text: str | None = None
    messages: tuple[tuple[tuple[str, str], ...], ...] = ()
    """Chat messages, each as sorted items, so that the prompt stays hashable."""
    variables: tuple[tuple[str, bool | int | float | str], ...] = ()
    """What the chat template is given beside the messages, see `template_flags`."""

    def chat(self) -> list[dict[str, str]]:
        return [dict(message) for message in self.messages]


def read_prompts(
    path: Path,
    limit: int | None = None,
    cure: str = "name one in the marker: prompts=",
) -> tuple[Prompt, ...]:
    """Read a prompt file: one JSON object a line, with a category and a prompt or chat messages.

    Parameters
    ----------
    path
        The file; blank lines are skipped.
    limit
        Read the first so many prompts; None reads all.
    cure
        What to do about a file that cannot be read.

    Returns
    -------
    tuple of Prompt
        In the order of the file.

    Raises
    ------
    RequestError
        For a missing or empty file, a line of another shape, a prompt that the file holds twice,
        or fewer prompts than `limit`.

    Examples
    --------
    >>> from pathlib import Path
    >>> from pytest_specdec.cases.prompts import read_prompts
    >>> prompts = read_prompts(Path("suites/text/prompts.jsonl"), limit=2)
    >>> len(prompts)
    2
    >>> prompts[0].text is not None
    True
    """
    try:
        rows = _rows(path)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise RequestError(f"prompt file {path} cannot be read ({reason}); {cure}") from None
    prompts: dict[str, Prompt] = {}
    for number, row in enumerate(rows, 1):
        if row is not None:
            prompt = _parse(row, f"{path}:{number}")
            if prompt.key in prompts:
                raise RequestError(
                    f"{path}:{number} repeats an earlier prompt; delete one of the two lines"
                )
            prompts[prompt.key] = prompt
    if not prompts:
        raise RequestError(
            f"prompt file {path} holds no prompt; write one JSON object a line: {SHAPE}"
        )
    if limit is not None and limit > len(prompts):
        raise RequestError(
            f"{limit} prompts were asked for and {path} holds {len(prompts)}; lower "
            "--specdec-prompts"
        )
    return tuple(prompts.values())[:limit]


def _rows(path: Path) -> list[Any]:
    """The rows of a file: lines of text, None for a blank one, or rows of a .parquet file."""
    if path.suffix == ".parquet":
        from .parquet_prompts import parquet_rows

        return parquet_rows(path)
    # Not splitlines(): JSON may hold other line separators unescaped.
    return [line if line.strip() else None for line in read_text(path).split("\n")]


def _parse(row: Any, where: str) -> Prompt:
    try:
        data: Any = parse_json(row) if isinstance(row, str) else row
    except JsonError as error:
        raise RequestError(
            f"{where}: not JSON ({error.problem}); write one object a line: {SHAPE}"
        ) from None
    if isinstance(data, dict) and "turns" in data and not data.keys() & {"prompt", "messages"}:
        data = {**data, "messages": [{"role": "user", "content": _first_turn(data, where)}]}
    try:
        category = msgspec.convert(data, _Category).category
    except msgspec.ValidationError:
        raise RequestError(f"{where}: no category; write {SHAPE}") from None
    try:
        content = msgspec.convert(data, _Content)
    except msgspec.ValidationError:
        content = _Content()
    text, messages = content.prompt, content.messages
    if (text is None) == (messages is None):
        raise RequestError(f"{where}: neither a prompt nor messages; write {SHAPE}")
    return Prompt(
        key=key_of(text, messages),
        category=category,
        text=text,
        messages=tuple(tuple(sorted(message.items())) for message in messages or ()),
    )


def _first_turn(data: dict[str, Any], where: str) -> str:
    """What a benchmark's question begins with. Raises RequestError for turns that are no texts."""
    try:
        first = msgspec.convert(data, _Turns).turns[0]
    except msgspec.ValidationError:
        raise RequestError(
            f"{where}: turns is not a list of texts; take the benchmark's file as it is published"
        ) from None
    if first.startswith(PLACEHOLDER):
        raise RequestError(
            f"{where}: the text of this question is not in the published file; make the whole file "
            "with prepare_data.py of NVIDIA's specdec_bench"
        )
    return first


def key_of(text: str | None, messages: list[dict[str, str]] | None) -> str:
    """A prompt's key: the hash of its text, or of its messages."""
    content = json.dumps(messages, sort_keys=True) if text is None else text
    return hashlib.sha256(content.encode()).hexdigest()[:16]
