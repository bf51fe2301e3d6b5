"""How a text ends: by EOS, by a stop that was declared, or at the length limit; and nothing follows
such an end.

A text that ends otherwise was cut off, and neither its counts nor its tokens are a measurement of
the request. The target's files define EOS; a run may declare other ends (`TextEnds`), and an engine
may report why a text ends (`Reported.finish`), which decides only where the files define nothing. A
reason that is not the text's own is a fault of the output, and none of what is measured.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..checkpoints.checkpoint import Checkpoint
from ..checkpoints.text_ends import configured_ends, end_ids, token_ids
from ..common.bounded_files import read_text
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
    """By its generation defaults, or without these by its configuration: no text
    continues after one.
    """
    known: frozenset[int] = frozenset()
    """These, and those of its configuration and tokenizer, of which some engines take one for EOS
    and others none.
    """
    special: frozenset[int] = frozenset()
    """Tokens that stand for no text: an engine that reports that a text ended by EOS may
    mean any of them, as llama.cpp does.
    """


def target_ends(checkpoint: Checkpoint) -> TargetEnds:
    """What ends a target's texts, by generation_config.json, config.json and its tokenizer. Needs
    no torch.

    Raises RequestError for a file that is not JSON.
    """
    eos = end_ids(checkpoint)
    tokens = (_object(checkpoint.folder / "tokenizer.json") or {}).get("added_tokens")
    added = (
        [token for token in tokens if isinstance(token, dict)] if isinstance(tokens, list) else []
    )
    name = (_object(checkpoint.folder / "tokenizer_config.json") or {}).get("eos_token")
    name = name.get("content") if isinstance(name, dict) else name
    named = token_ids(
        [token.get("id") for token in added if name is not None and token.get("content") == name]
    )
    return TargetEnds(
        eos,
        eos | configured_ends(checkpoint) | named,
        token_ids([token.get("id") for token in added if token.get("special") is True]),
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class EndingFault:
    """One thing that is wrong with a text's end."""

    sentence: str
    """Which text, what is wrong, and what to do."""
    reason_alone: bool = False
    """Whether only the reported reason is wrong, and the text ends as it should."""


def check_ending(
    text: Reported,
    request: GenerationRequest,
    target: TargetEnds | None = None,
    decode: Decode | None = None,
) -> None:
    """Check that one text is a measurement of its request; `target` and `decode` are None without
    the target's files.

    Raises MeasurementError naming the prompt and the cause, RequestError where a declared string
    needs the tokenizer.
    """
    for fault in ending_faults(text, request.new_tokens, target, decode):
        if not fault.reason_alone:
            raise MeasurementError(fault.sentence)


def ending_faults(
    text: Reported,
    limit: int,
    target: TargetEnds | None = None,
    decode: Decode | None = None,
) -> tuple[EndingFault, ...]:
    """What is wrong with how a text ends, the gravest first; empty for one that ends by EOS, by a
    declared stop or at its limit, with nothing behind it and the reason that it reports.

    Parameters
    ----------
    text
        Its token ids, the reason that is reported, and what was declared to end it.
    limit
        The most new tokens that were asked for.
    target
        What ends the target's texts; None without its files.
    decode
        Makes text of token ids; None without the target's tokenizer.

    Raises
    ------
    RequestError
        A declared string needs the tokenizer.
    """
    if text.finish not in (None, "stop", "length"):
        return (
            _fault(f"{_named(text)}: the engine ended it by {text.finish!r}; look into its log"),
        )
    if text.tokens > limit:
        return (
            _fault(
                f"{_named(text)}: {text.tokens} tokens where {limit} were asked for; set the "
                "engine's limit"
            ),
        )
    if (follows := _what_follows(text, target, decode)) is not None:
        return (_fault(follows),)
    if text.tokens < limit and (cut := _cut_off(text, limit, target, decode)) is not None:
        return (_fault(cut),)
    wrong = _wrong_reason(text, limit, target, decode)
    return () if wrong is None else (EndingFault(sentence=wrong, reason_alone=True),)


def _fault(sentence: str) -> EndingFault:
    return EndingFault(sentence=sentence)


def _cut_off(
    text: Reported, limit: int, target: TargetEnds | None, decode: Decode | None
) -> str | None:
    """Why a text below its limit did not end; None where it did."""
    short = f"{_named(text)}: the text ends after {text.tokens} of {limit} tokens"
    if text.finish == "length":
        return f"{short} and the engine reports that its limit is reached; raise the engine's limit"
    if not text.new_ids:
        if text.finish is not None:
            return None
        return f"{short} and has neither token ids nor a finish_reason; {_CURE}"
    ends, strings = _ends_of(text, target), _strings(text)
    if text.new_ids[-1] in ends if ends is not None else text.finish == "stop":
        return None
    if strings and decode is None:
        raise RequestError(
            f"{short}, and its declared stops {_listed(map(repr, strings))} are strings, which "
            "need the target's tokenizer; "
            "name its folder by --specdec-target"
        )
    if decode is not None and any(stop in decode(text.new_ids) for stop in strings):
        return None
    if ends is None:
        return (
            f"{short}, and it is unknown which tokens end a text; name the target's folder, or "
            f"{_CURE}"
        )
    known = _listed(sorted(ends)) or "none"
    return (
        f"{short} with token {text.new_ids[-1]}, which is neither EOS nor a declared stop "
        f"({known}); {_CURE}"
    )


def _wrong_reason(
    text: Reported, limit: int, target: TargetEnds | None, decode: Decode | None
) -> str | None:
    """Why the reported reason is not the text's own; None where it is, where none is reported, and
    where it cannot be told.
    """
    ends, strings = _ends_of(text, target), _strings(text)
    if text.finish is None or text.tokens < limit or not text.new_ids or ends is None:
        return None
    if strings and decode is None:
        return None
    last, eos = text.new_ids[-1], _eos_of(text, target) | token_ids(text.ends.stop)
    by_string = decode is not None and any(stop in decode(text.new_ids) for stop in strings)
    if text.finish == "length" and (last in eos or by_string):
        what = f"token {last}" if last in eos else "a declared stop"
        return (
            f"{_named(text)}: the text ends by {what} and the engine reports that its limit of "
            f"{limit} tokens ended it; look for EOS and stops before the limit"
        )
    if text.finish == "stop" and last not in ends and not by_string:
        return (
            f"{_named(text)}: the text ends at its limit of {limit} tokens with token {last}, and "
            "the engine reports a stop; report 'length'"
        )
    return None


def _strings(text: Reported) -> list[str]:
    return [stop for stop in text.ends.stop if isinstance(stop, str)]


def _eos_of(text: Reported, target: TargetEnds | None) -> frozenset[int]:
    """Token ids after which no text continues."""
    if text.ends.eos is not None:
        return frozenset(text.ends.eos)
    return target.eos if target else frozenset()


def _ends_of(text: Reported, target: TargetEnds | None) -> frozenset[int] | None:
    """Token ids that may end this text; None where none is named."""
    stops = token_ids(text.ends.stop)
    if text.ends.eos is not None:
        return stops | frozenset(text.ends.eos)
    if target is None:
        return stops or None
    return stops | target.known | (target.special if text.finish == "stop" else frozenset())


def _what_follows(text: Reported, target: TargetEnds | None, decode: Decode | None) -> str | None:
    """Which end a text continues after; None where it does not."""
    ends, before = _eos_of(text, target) | token_ids(text.ends.stop), text.new_ids[:-1]
    at = next((at for at, token in enumerate(before) if token in ends), None)
    ending = None if at is None else f"token {before[at]}, which ends a text, at place {at + 1}"
    if ending is None and decode is not None and text.ends.stop:
        words = decode(before)
        ending = next(
            (f"the declared stop {stop!r}" for stop in _strings(text) if stop in words), None
        )
    if ending is None:
        return None
    return (
        f"{_named(text)}: the text of {text.tokens} tokens continues after {ending}; "
        "let the engine end its texts there, or declare that it ignores EOS (docs/trace.md)"
    )


def _object(path: Path) -> Mapping[str, Any] | None:
    """A file's JSON object; None where there is no file."""
    try:
        content = parse_json(read_text(path))
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError, JsonError) as error:
        raise RequestError(f"{path} cannot be read ({error}); save the checkpoint again") from None
    if not isinstance(content, dict):
        raise RequestError(f"{path} is not a JSON object; save the checkpoint again")
    return content


def _named(text: Reported) -> str:
    return (
        f"{text.where}, prompt {text.key}"
        if text.where and text.key not in text.where
        else text.where or f"prompt {text.key}"
    )


def _listed(values: Iterable[object]) -> str:
    return ", ".join(map(str, values))
