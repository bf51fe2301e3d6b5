"""Prompt files: one JSON object a line, `{"category": ..., "prompt": ...}` or `{"category": ...,
"messages": [...]}`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

from ..common.errors import RequestError
from ..common.strict_json import JsonError, parse_json

SHAPE = (
    '{"category": "prose", "prompt": "Once upon"} or '
    '{"category": "chat", "messages": [{"role": "user", ...}]}'
)


@dataclasses.dataclass(frozen=True)
class Prompt:
    """A prompt; `key` is its content's hash, by which runs and baselines are paired."""

    key: str
    category: str
    text: str | None = None
    messages: tuple[tuple[tuple[str, str], ...], ...] = ()
    """Chat messages, each as sorted items, so that the prompt stays hashable."""

    def chat(self) -> list[dict[str, str]]:
        return [dict(message) for message in self.messages]


def read_prompts(path: Path, limit: int | None = None) -> tuple[Prompt, ...]:
    """Read at most `limit` prompts.

    Raises RequestError for a missing or empty file, a line of another shape, or a prompt that
    stands twice.
    """
    try:
        # Not splitlines(): JSON may hold other line separators unescaped.
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise RequestError(
            f"prompt file {path} cannot be read ({reason}); name one in the marker: prompts="
        ) from None
    prompts: dict[str, Prompt] = {}
    for number, line in enumerate(lines, 1):
        if line.strip():
            prompt = _parse(line, f"{path}:{number}")
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


def _parse(line: str, where: str) -> Prompt:
    try:
        data: Any = parse_json(line)
    except JsonError as error:
        raise RequestError(
            f"{where}: not JSON ({error.problem}); write one object a line: {SHAPE}"
        ) from None
    if (
        not isinstance(data, dict)
        or not isinstance(data.get("category"), str)
        or not data["category"]
    ):
        raise RequestError(f"{where}: no category; write {SHAPE}")
    category, text, messages = data["category"], data.get("prompt"), data.get("messages")
    if isinstance(text, str) and text and messages is None:
        return Prompt(key=key_of(text, None), category=category, text=text)
    if text is None and isinstance(messages, list) and messages and all(map(_is_message, messages)):
        frozen = tuple(tuple(sorted(message.items())) for message in messages)
        return Prompt(key=key_of(None, messages), category=category, messages=frozen)
    raise RequestError(f"{where}: neither a prompt nor messages; write {SHAPE}")


def _is_message(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and bool(value)
        and all(isinstance(item, str) for item in (*value, *value.values()))
    )


def key_of(text: str | None, messages: list[dict[str, str]] | None) -> str:
    """A prompt's key: the hash of its text, or of its messages."""
    content = json.dumps(messages, sort_keys=True) if text is None else text
    return hashlib.sha256(content.encode()).hexdigest()[:16]
