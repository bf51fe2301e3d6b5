"""How a text ends: by EOS, by a stop that was declared, or at the length limit; and nothing follows
such an end.

A text that ends otherwise was cut off, and neither its counts nor its tokens are a measurement of
what was asked for. What the target's files name as EOS holds; a run may declare other ends
(`Ends`), and an engine may say why a text ends (`Reported.finish`), which is believed only where
the files say nothing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..checkpoints.checkpoint import Checkpoint
from ..common.errors import MeasurementError, RequestError
from ..common.strict_json import JsonError, parse_json
from .adapter_api import GenerationRequest, Reported

_CURE = "look for what cut it off, or declare what ends texts (docs/trace.md)"

Decode = Callable[[Sequence[int]], str]
"""Token ids as text, special tokens included."""


@dataclasses.dataclass(frozen=True)
class TargetEnds:
    """Token ids that end texts, by the target's files."""

    eos: frozenset[int] = frozenset()
    """By its generation defaults, or without these by its configuration: no text goes on after
    one.
    """
    known: frozenset[int] = frozenset()
    """These, and those of its configuration and tokenizer, of which some engines take one for EOS
    and others none.
    """
    special: frozenset[int] = frozenset()
    """Tokens that stand for no text: an engine that says that a text ended by EOS may mean any of
    them, as llama.cpp does.
    """


def target_ends(checkpoint: Checkpoint) -> TargetEnds:
    """What ends a target's texts, by generation_config.json, config.json and its tokenizer. Needs
    no torch.

    Raises RequestError for a file that is not JSON.
    """
    defaults, own = _object(checkpoint.folder / "generation_config.json"), checkpoint.config
    configured = _ids(own.get("eos_token_id")) | _ids(checkpoint.text_config.get("eos_token_id"))
    eos = configured if defaults is None else _ids(defaults.get("eos_token_id"))
    tokens = (_object(checkpoint.folder / "tokenizer.json") or {}).get("added_tokens")
    added = [one for one in tokens if isinstance(one, dict)] if isinstance(tokens, list) else []
    name = (_object(checkpoint.folder / "tokenizer_config.json") or {}).get("eos_token")
    name = name.get("content") if isinstance(name, dict) else name
    named = _ids(
        [one.get("id") for one in added if name is not None and one.get("content") == name]
    )
    return TargetEnds(
        eos,
        eos | configured | named,
        _ids([one.get("id") for one in added if one.get("special") is True]),
    )


def check_ending(
    one: Reported,
    request: GenerationRequest,
    target: TargetEnds | None = None,
    decode: Decode | None = None,
) -> None:
    """Check how one text ends; `target` and `decode` are None where the target's files are not at
    hand.

    Raises MeasurementError naming the prompt and the cause, RequestError where a declared string
    needs the tokenizer.
    """
    if one.finish not in (None, "stop", "length"):
        raise MeasurementError(
            f"{_named(one)}: the engine ended it by {one.finish!r}; look into its log"
        )
    _check_nothing_follows(one, target, decode)
    if one.tokens >= request.new_tokens:
        return
    short = f"{_named(one)}: the text ends after {one.tokens} of {request.new_tokens} tokens"
    if one.finish == "length":
        raise MeasurementError(
            f"{short} and the engine says that its limit is reached; raise the engine's own limit"
        )
    if not one.new_ids:
        if one.finish is None:
            raise MeasurementError(
                f"{short} and neither token ids nor a finish_reason say why; {_CURE}"
            )
        return
    ends, strings = _ends_of(one, target), [own for own in one.ends.stop if isinstance(own, str)]
    if one.new_ids[-1] in ends if ends is not None else one.finish == "stop":
        return
    if strings and decode is None:
        raise RequestError(
            f"{short}, and its declared stops {_listed(map(repr, strings))} are strings, which "
            "need the target's tokenizer; "
            "name its folder by --specdec-target"
        )
    if decode is not None and any(own in decode(one.new_ids) for own in strings):
        return
    if ends is None:
        raise MeasurementError(
            f"{short}, and nothing says which tokens end one; name the target's folder, or {_CURE}"
        )
    known = _listed(sorted(ends)) or "there is none"
    raise MeasurementError(
        f"{short} with token {one.new_ids[-1]}, which is neither EOS nor a declared stop "
        f"({known}); {_CURE}"
    )


def _ends_of(one: Reported, target: TargetEnds | None) -> frozenset[int] | None:
    """Token ids that may end this text; None where nobody names any."""
    stops = _ids(one.ends.stop)
    if one.ends.eos is not None:
        return stops | frozenset(one.ends.eos)
    if target is None:
        return stops or None
    return stops | target.known | (target.special if one.finish == "stop" else frozenset())


def _check_nothing_follows(one: Reported, target: TargetEnds | None, decode: Decode | None) -> None:
    eos = (
        frozenset(one.ends.eos)
        if one.ends.eos is not None
        else target.eos
        if target
        else frozenset()
    )
    ends, before = eos | _ids(one.ends.stop), one.new_ids[:-1]
    at = next((at for at, token in enumerate(before) if token in ends), None)
    told = None if at is None else f"token {before[at]}, which ends a text, at place {at + 1}"
    if told is None and decode is not None and one.ends.stop:
        words = decode(before)
        told = next(
            (
                f"the declared stop {own!r}"
                for own in one.ends.stop
                if isinstance(own, str) and own in words
            ),
            None,
        )
    if told is not None:
        raise MeasurementError(
            f"{_named(one)}: the text of {one.tokens} tokens goes on after {told}; let the engine "
            "end its texts there, or "
            "declare that it ignores EOS (docs/trace.md)"
        )


def _object(path: Path) -> Mapping[str, Any] | None:
    """A file's JSON object; None where there is no file."""
    try:
        found = parse_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError, JsonError) as error:
        raise RequestError(f"{path} cannot be read ({error}); save the checkpoint again") from None
    if not isinstance(found, dict):
        raise RequestError(f"{path} is not a JSON object; save the checkpoint again")
    return found


def _ids(value: Any) -> frozenset[int]:
    """Token ids of a field that holds one, a list of them, or none."""
    values = value if isinstance(value, list | tuple) else [value]
    return frozenset(one for one in values if isinstance(one, int) and not isinstance(one, bool))


def _named(one: Reported) -> str:
    return (
        f"{one.where}, prompt {one.key}"
        if one.where and one.key not in one.where
        else one.where or f"prompt {one.key}"
    )


def _listed(values: Iterable[object]) -> str:
    return ", ".join(map(str, values))
