"""Flags of chat templates: what a suite's messages are rendered with, as servers do on request.

`enable_thinking=false`, `reasoning_effort=low` and the like are variables of a template; engines
take them as `chat_template_kwargs`. They change the prompt's tokens, and so the texts, never which
prompt it is: cases with other flags are paired by prompt.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence

from ..common.errors import RequestError
from .prompts import Prompt

SYSTEM = "system_prompt"
"""Not a template's variable: the content of a system message before the others."""
_FLAG = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_RESERVED = (
    *("messages", "conversation", "tools", "documents", "chat_template", "tokenizer_kwargs"),
    *("add_generation_prompt", "continue_final_message", "tokenize", "padding", "truncation"),
    *("max_length", "return_tensors", "return_dict", "return_assistant_tokens_mask"),
)
"""What the renderer is given otherwise."""
_MOST_LETTERS = 1 << 16
_FORM = (
    "NAME=VALUE with the name of one of the template's variables and true, false, a number or a "
    f"word, or {SYSTEM}=TEXT; several are separated by commas"
)

FlagValue = bool | int | float | str


@dataclasses.dataclass(frozen=True, eq=False)
class TemplateFlags:
    """What messages are rendered with; without a flag as the template does by itself.

    Flags are equal where templates see the same: true is not 1, though it is in Python.

    >>> parse_template_flags("enable_thinking=false").name
    'enable_thinking-false'
    >>> template_flags({"x": True}) == template_flags({"x": 1})
    False
    """

    values: tuple[tuple[str, FlagValue], ...]
    """By name, sorted."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TemplateFlags) and self._written == other._written

    def __hash__(self) -> int:
        return hash(self._written)

    @property
    def _written(self) -> str:
        return json.dumps(self.values)

    @property
    def variables(self) -> dict[str, FlagValue]:
        """The template's own."""
        return {name: value for name, value in self.values if name != SYSTEM}

    @property
    def system_prompt(self) -> str | None:
        """The content of the system message to be added; None for none."""
        return next((str(value) for name, value in self.values if name == SYSTEM), None)

    @property
    def name(self) -> str:
        """For file names: words as they are, other strings by their hash."""
        return "-".join(f"{name}-{_word(value)}" for name, value in self.values)

    def __str__(self) -> str:
        """As it is given: `enable_thinking=false`."""
        return ",".join(f"{name}={_shown(value)}" for name, value in self.values) or "none"


def _word(value: FlagValue) -> str:
    text = _shown(value)
    if re.fullmatch(r"[a-z0-9_.]{1,24}", text):
        return text
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:8]


def _shown(value: FlagValue) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def template_flags(given: Mapping[str, FlagValue]) -> TemplateFlags:
    """Flags by name. Raises RequestError for a name or value that cannot be one."""
    for name, value in given.items():
        named = isinstance(name, str) and _FLAG.fullmatch(name) and name not in _RESERVED
        long = isinstance(value, str) and len(value) > _MOST_LETTERS
        known = isinstance(value, bool | int | float | str) and not long
        known = known and (isinstance(value, str) or math.isfinite(value))
        if not (named and known) or (name == SYSTEM and not isinstance(value, str)):
            raise RequestError(f"{str(name)[:60]!r} cannot be a template's flag; use {_FORM}")
        if name != SYSTEM and isinstance(value, str) and value.lower() in ("true", "false"):
            raise RequestError(
                f"the template's flag {name} is the word {value!r}, which templates take for true; "
                f"write {name}={value.lower()}, in Python {value.capitalize()} without quotes"
            )
    return TemplateFlags(tuple(sorted(given.items())))


def parse_template_flags(given: str) -> TemplateFlags:
    """Flags of a command line; no flag for `none`. Raises RequestError for another form."""
    if given.strip() == "none":
        return TemplateFlags(())
    flags: dict[str, FlagValue] = {}
    for part in given.split(","):
        name, equals, text = part.strip().partition("=")
        if not equals or name in flags:
            raise RequestError(f"{given[:60]!r} names no flags of a template; use {_FORM}")
        flags[name] = text if name == SYSTEM else _value(text)
    return template_flags(flags)


def _value(text: str) -> FlagValue:
    if text in ("True", "False"):  # as Python writes them
        return text == "True"
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return value if isinstance(value, bool | int | float) else text


def with_flags(
    prompts: Sequence[Prompt], flags: TemplateFlags | None, where: str
) -> tuple[Prompt, ...]:
    """Prompts whose messages are rendered with flags; their keys stay.

    Raises RequestError where prompts have no messages, so that flags do not change them, or one
    has a system message of its own beside a `system_prompt`.
    """
    if flags is None:
        return tuple(prompts)
    if not any(prompt.messages for prompt in prompts):
        raise RequestError(
            f"{where} holds no messages, so no template's flag changes anything; leave "
            "--specdec-template out, or write the prompts as messages"
        )
    if bare := sum(not prompt.messages for prompt in prompts):
        raise RequestError(
            f"{bare} of {len(prompts)} prompts in {where} hold no messages, so no template's flag "
            "changes them, and a comparison would count them; keep them in a file of their own"
        )
    return tuple(_flagged(prompt, flags, where) for prompt in prompts)


def _flagged(prompt: Prompt, flags: TemplateFlags, where: str) -> Prompt:
    messages = prompt.messages
    if flags.system_prompt is not None:
        if any(dict(message).get("role") == "system" for message in messages):
            raise RequestError(
                f"{where}: a prompt has a system message of its own; leave {SYSTEM} out of "
                "--specdec-template, or the message out of the file"
            )
        added = tuple(sorted({"role": "system", "content": flags.system_prompt}.items()))
        messages = (added, *messages)
    return dataclasses.replace(prompt, messages=messages, variables=tuple(flags.variables.items()))
