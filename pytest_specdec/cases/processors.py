"""The logits processors of a case, by name: penalties, biases, filters, grammars, and functions of
others.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.util
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..common.errors import RequestError
from ..common.strict_json import JsonError, parse_json

GRAMMARS = ("regex", "json_schema", "lark")
"""The settings that are grammars of the text after the prompt; a case has one at most."""
_SHORT = {
    "repetition_penalty": "rep",
    "presence_penalty": "pres",
    "frequency_penalty": "freq",
    "no_repeat_ngram": "ngram",
    "min_p": "minp",
    "logit_bias": "bias",
    "regex": "regex",
    "json_schema": "schema",
    "lark": "lark",
    "canonical": "canonical",
    "factory": "by",
}
"""How file names call the settings."""
_HASH = 8


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProcessorSpec:
    """Which logits processors a case decodes under. The name of its baseline holds all of them, so
    that cases under different ones are never compared.
    """

    repetition_penalty: float = 1.0
    """Of tokens in prompt and text, as transformers and vLLM define it; 1 is none."""
    presence_penalty: float = 0.0
    """Of tokens that the text has emitted, as OpenAI and vLLM define it."""
    frequency_penalty: float = 0.0
    """Of these, once for every time."""
    no_repeat_ngram: int = 0
    """No sequence of so many tokens occurs twice in prompt and text; 0 allows all."""
    min_p: float = 0.0
    """Keep tokens at least so likely, relative to the likeliest, after temperature."""
    logit_bias: tuple[tuple[int, float], ...] = ()
    """Added to the logits of token ids."""
    regex: str = ""
    """What the text after the prompt must match, in llguidance's syntax."""
    json_schema: str = ""
    """The JSON schema of the text after the prompt, as JSON."""
    lark: str = ""
    """Its grammar in llguidance's Lark syntax."""
    canonical: bool = False
    """Where a grammar leaves one spelling, whether only the tokenizer's own tokens of it are
    allowed, as engines do that have llguidance write forced letters; else all tokens that spell it.
    """
    factory: str = ""
    """`module:function` of a function of the target's tokenizer that returns logits processors."""
    source: str = ""
    """Hash of that module's file."""
    on_drafts: bool = True
    """Whether the drafter's logits are processed, too."""

    @property
    def grammar(self) -> tuple[str, str] | None:
        """The name and text of the grammar, if there is one."""
        return next(((name, value) for name in GRAMMARS if (value := getattr(self, name))), None)

    @property
    def name(self) -> str:
        """For file names, for example `rep1.1-pres0.5`; texts and tables are hashed."""
        parts = [
            f"{short}{_named(getattr(self, name), self.source * (name == 'factory'))}"
            for name, short in _SHORT.items()
            if getattr(self, name) != _DEFAULTS[name]
        ]
        return "-".join([*parts, *["targetonly"] * (not self.on_drafts)])

    def __str__(self) -> str:
        """As JSON, which `parse_processors` reads."""
        changed = {
            name: getattr(self, name)
            for name in (*_SHORT, "on_drafts")
            if getattr(self, name) != _DEFAULTS[name]
        }
        return json.dumps(
            changed | ({"logit_bias": dict(self.logit_bias)} if self.logit_bias else {})
        )


_DEFAULTS: dict[str, Any] = {
    field.name: field.default for field in dataclasses.fields(ProcessorSpec)
}


def parse_processors(given: str | Mapping[str, object] | ProcessorSpec) -> ProcessorSpec | None:
    """Settings as a mapping, as JSON, or as text: `name=value,...`; None where they change nothing.

    Raises RequestError for an unknown name or a value out of range.

    >>> parse_processors("repetition_penalty=1.1,on_drafts=false").name
    'rep1.1-targetonly'
    """
    if isinstance(given, ProcessorSpec):
        return given
    if isinstance(given, str):
        given = _read(given)
    if unknown := [name for name in given if name not in _CHECKS]:
        raise RequestError(
            f"processors have no setting {_short(unknown[0])}; choose among {', '.join(_CHECKS)}"
        )
    values = {name: _CHECKS[name](name, value) for name, value in given.items()}
    if sum(bool(values.get(name)) for name in GRAMMARS) > 1:
        raise RequestError(f"a text has one grammar; give one of {', '.join(GRAMMARS)}")
    if values.get("canonical") and not any(values.get(name) for name in GRAMMARS):
        raise RequestError(f"canonical is about a grammar; give one of {', '.join(GRAMMARS)}")
    if values.get("factory"):
        values["source"] = _module_hash(values["factory"])
    spec = ProcessorSpec(**values)
    return spec if dataclasses.replace(spec, on_drafts=True) != ProcessorSpec() else None


def _read(text: str) -> Mapping[str, object]:
    """JSON, or `name=value,...` with numbers and words as values."""
    if text.lstrip()[:1] == "{":
        try:
            read: Mapping[str, object] = parse_json(text)
        except JsonError as error:
            raise RequestError(
                f"processors {text[:60]!r} are no JSON ({error}); correct it"
            ) from None
        return read
    values: dict[str, object] = {}
    for part in filter(None, text.split(",")):
        name, equals, value = part.strip().partition("=")
        if not equals:
            raise RequestError(
                f"processors {text[:60]!r} give {_short(name)} no value; write name=value,..., or "
                "JSON"
            )
        try:
            values[name] = parse_json(value)
        except JsonError:
            values[name] = value
    return values


def _short(value: object) -> str:
    return repr(value)[:60]


def _number(least: float, most: float) -> Callable[[str, object], Any]:
    def check(name: str, value: object) -> float:
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not least <= value <= most
        ):
            raise RequestError(
                f"{name}={_short(value)} is no number from {least:g} to {most:g}; pass one in this "
                "range"
            )
        return float(value)

    return check


def _whole(name: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 1000:
        raise RequestError(f"{name}={_short(value)} is no whole number from 0 to 1000; pass one")
    return value


def _text(name: str, value: object) -> str:
    if not isinstance(value, str) or not value:
        raise RequestError(f"{name}={_short(value)} is no text; pass a string")
    return value


def _switch(name: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise RequestError(f"{name}={_short(value)} is neither true nor false; pass one of these")
    return value


def _schema(name: str, value: object) -> str:
    """Canonical JSON, so that equal schemas are one case."""
    try:
        read = parse_json(value) if isinstance(value, str) else value
        if isinstance(read, dict):
            return json.dumps(read, separators=(",", ":"))
    except (JsonError, TypeError, ValueError, RecursionError):
        pass
    raise RequestError(f"{name} is no JSON object; pass a schema, like {{'type': 'object'}}")


def _bias(name: str, value: object) -> tuple[tuple[int, float], ...]:
    items = list(value.items()) if isinstance(value, Mapping) else None
    biases: dict[int, float] = {}
    for token, bias in items or []:
        known = str(token).isascii() and str(token).isdigit()
        if not known or isinstance(bias, bool) or not isinstance(bias, int | float):
            items = None
            break
        biases[int(token)] = float(bias)
    if not items or not all(map(math.isfinite, biases.values())):
        raise RequestError(
            f"{name}={_short(value)} is no table of token ids and numbers; pass for example "
            "{50: -2.5}"
        )
    return tuple(sorted(biases.items()))


def _import_path(name: str, value: object) -> str:
    module, _, function = str(value).partition(":")
    if not all(part.isidentifier() for part in (*module.split("."), function)):
        raise RequestError(f"{name}={_short(value)} names no function; write module:function")
    return str(value)


_CHECKS: dict[str, Callable[[str, object], Any]] = {
    "repetition_penalty": _number(0.01, 100),
    "presence_penalty": _number(-100, 100),
    "frequency_penalty": _number(-100, 100),
    "no_repeat_ngram": _whole,
    "min_p": _number(0, 1),
    "logit_bias": _bias,
    "regex": _text,
    "json_schema": _schema,
    "lark": _text,
    "canonical": _switch,
    "factory": _import_path,
    "on_drafts": _switch,
}
"""The settings that are given, and how each is checked."""


def _module_hash(path: str) -> str:
    """Of the file of a function's module: another file is another case."""
    module = path.partition(":")[0]
    try:
        found = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        found = None
    if found is None or found.origin is None or not Path(found.origin).is_file():
        raise RequestError(
            f"factory={path[:60]!r} names a module that cannot be found; put it on the Python path"
        )
    return hashlib.sha256(Path(found.origin).read_bytes()).hexdigest()[:_HASH]


def _named(value: object, source: str) -> str:
    """Numbers as they are, a switch by its setting's name, anything else by its hash."""
    if value is True:
        return ""
    if isinstance(value, int | float):
        return f"{value:g}"
    return hashlib.sha256(f"{value}{source}".encode()).hexdigest()[:_HASH]
