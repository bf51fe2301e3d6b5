"""Constrained decoding: a text that is held to a regular expression or a JSON schema is in that
language, is the same streamed, and each of its tokens is the likeliest one that the mask allows.

A mask that is applied one row late, to the first row of a round alone, or not to the bonus token
lets a token through that its prefix forbids, or forbids the one that should stand there. The first
shows in the text. The second shows beside a server without a drafter, in the log-probabilities that
are served with the text, or under the target's weights (`masked_rows`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from ..cases.prompts import Prompt
from ..engines.servers.client import ServerError
from .differences import context_lines, first_difference, shown_around
from .json_answers import SCHEMA, begins_answer, schema_fault
from .languages import LANGUAGES, Language, ServedToken, judged_rows, tied
from .results import OutputResult, failed, passed, unchecked
from .streams import stream_fault
from .ties import TIE, unsteady

if TYPE_CHECKING:
    from .text_server import ServedText, TextServer

NAME = "constraints"
LIMIT = 96
"""Tokens, more than any text of a language needs."""
MOST_PROMPTS = 4
_REFUSED = (400, 404, 405, 415, 422, 501)
"""HTTP statuses of a server that does not have what was asked for."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Constraint:
    """What a text is held to, and how each kind of server is asked for it."""

    name: str
    language: Language | None = None
    """None for the schema."""

    def body(self, owner: str) -> dict[str, Any]:
        """Fields of a request; for an unknown owner those of all kinds of servers."""
        if self.language is None:
            wanted = {"name": "answer", "schema": SCHEMA, "strict": True}
            asked = {"response_format": {"type": "json_schema", "json_schema": wanted}}
            # Its completions take the schema by a field of its own.
            return asked | ({"json_schema": SCHEMA} if owner == "llamacpp" else {})
        ways: dict[str, dict[str, Any]] = {
            "vllm": {"structured_outputs": {"regex": self.language.regex}},
            "sglang": {"regex": self.language.regex},
            "llamacpp": {"grammar": self.language.gbnf},
        }
        if owner in ways:
            return ways[owner]
        return {name: value for way in ways.values() for name, value in way.items()}

    @property
    def processors(self) -> dict[str, object]:
        """As settings of logits processors."""
        if self.language is None:
            return {"json_schema": SCHEMA}
        return {"regex": self.language.regex}

    def fault(self, text: str, finish: str | None) -> str | None:
        """Why a text is not what the constraint allows; None where it is, and where a limit cut
        it within its language.
        """
        if self.language is None:
            return schema_fault(text, finish)
        if self.language.holds(text):
            return None
        if self.language.viable(text):
            return None if finish == "length" else "the text ends before its grammar does"
        return "the text is not in the language"

    def good(self, text: str) -> int:
        """How many of its first characters the constraint allows."""
        allows = begins_answer if self.language is None else self.language.viable
        return next((end for end in range(len(text)) if not allows(text[: end + 1])), len(text))


CONSTRAINTS = (
    *(Constraint(name=name, language=language) for name, language in LANGUAGES.items()),
    Constraint(name="JSON schema"),
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConstrainedTexts:
    """Greedy texts of a server under each constraint, in the order of the prompts."""

    texts: Mapping[Constraint, list[ServedText]]
    refused: Mapping[str, str]
    """Constraints that the server does not take, and what it answers."""

    @property
    def visible_end(self) -> str | None:
        """The letters of an end token that the server does not hide: one token that every text that
        stopped has after a text of its language. Empty where there is none, None where only the
        tokens would say whether it is one.
        """
        end = self._common_end()
        last = [
            text.rows[-1].token
            for texts in self.texts.values()
            for text in texts
            if text.finish == "stop" and text.rows
        ]
        if end and not last:
            return None
        return end if all(token == end for token in last) else ""

    def _common_end(self) -> str:
        stopped = [
            (constraint, text.text)
            for constraint, texts in self.texts.items()
            for text in texts
            if text.finish == "stop"
        ]
        if len({constraint for constraint, _ in stopped}) < 2:  # one language may look like another
            return ""
        _, shown = stopped[0]
        for begin in range(len(shown) - 1, max(len(shown) - _LONGEST_END, 0), -1):
            end = shown[begin:]
            if all(
                text.endswith(end) and constraint.fault(text[: -len(end)], "stop") is None
                for constraint, text in stopped
            ):
                return end
        return ""


def constrained_texts(server: TextServer, prompts: tuple[Prompt, ...]) -> ConstrainedTexts:
    """Ask for all of them; a constraint that the server refuses is left out."""
    texts: dict[Constraint, list[ServedText]] = {}
    refused: dict[str, str] = {}
    for constraint in CONSTRAINTS:
        body = constraint.body(server.owner)
        try:
            texts[constraint] = [
                server.constrained(prompt, LIMIT, body, rows=True)
                for prompt in prompts[:MOST_PROMPTS]
            ]
        except ServerError as error:
            if error.status not in _REFUSED:
                raise
            refused[constraint.name] = str(error)
    return ConstrainedTexts(texts=texts, refused=refused)


@dataclasses.dataclass
class _Found:
    """What was seen so far."""

    texts: int = 0
    ended: int = 0
    ties: int = 0
    rows: int = 0
    ignored: dict[str, int] = dataclasses.field(default_factory=dict)
    doubt: str = ""


def check_constraints(
    server: TextServer,
    asked: ConstrainedTexts,
    prompts: tuple[Prompt, ...],
    reference: TextServer | None = None,
) -> OutputResult:
    """Judge constrained texts by their language, their streams, the reference's, and row by row by
    the served log-probabilities.
    """
    found, end = _Found(), asked.visible_end
    if end is None:
        return unchecked(
            NAME,
            "every text has the same letters after the end of its grammar; without "
            "log-probabilities nobody knows whether they are the end token; serve them",
        )
    beside = None if reference is None else constrained_texts(reference, prompts)
    if beside is not None and beside.texts and beside.visible_end != end:
        end = ""
    for constraint, texts in asked.texts.items():
        expected = [] if beside is None else beside.texts.get(constraint, [])
        for row, text in enumerate(texts):
            which = f"prompt {row}, {constraint.name}"
            wanted = _without(expected[row], end) if expected else None
            shown = _without(text, end)
            failure = (
                _letters_failure(server, prompts[row], constraint, shown, wanted, found, which)
                or _stream_failure(server, prompts[row], constraint, text, found, which)
                or _row_failure(constraint, shown, found, which)
                or _beside(constraint, shown, wanted, found, which)
            )
            if failure is not None:
                return failure
    return _summary(found, asked, end)


def _without(text: ServedText, end: str) -> ServedText:
    """A text and its rows without the letters of the end token."""
    if not end or text.finish != "stop" or not text.text.endswith(end):
        return text
    shorter = text.text.removesuffix(end)
    kept, length = list[ServedToken](), 0
    for row in text.rows or ():
        if length >= len(shorter):
            break
        kept.append(row)
        length += len(row.token)
    rows = tuple(kept) if text.rows is not None and length == len(shorter) else None
    return dataclasses.replace(text, text=shorter, rows=rows)


def _letters_failure(
    server: TextServer,
    prompt: Prompt,
    constraint: Constraint,
    text: ServedText,
    wanted: ServedText | None,
    found: _Found,
    which: str,
) -> OutputResult | None:
    """Judge a text by its language. A constraint that changes nothing is ignored, which a
    reference that does not ignore it shows to be wrong.
    """
    fault = constraint.fault(text.text, text.finish)
    if fault is None:
        found.texts += 1
        found.ended += text.finish == "stop"
        return None
    held = wanted is not None and constraint.fault(wanted.text, wanted.finish) is None
    if not held and _ignored(server, prompt, constraint, text):
        found.ignored[constraint.name] = found.ignored.get(constraint.name, 0) + 1
        return None
    line = f"returned: {shown_around(text.text, constraint.good(text.text))}"
    return failed(NAME, f"{which}: {fault}; {_CURE}", (line,))


def _ignored(server: TextServer, prompt: Prompt, constraint: Constraint, text: ServedText) -> bool:
    """Whether a text leaves its language as the one without a constraint does, from which it may
    part later at a tie.
    """
    free = server.greedy(prompt, LIMIT).text
    left = constraint.good(text.text) + 1
    return text.text == free or text.text[:left] == free[:left]


def _stream_failure(
    server: TextServer,
    prompt: Prompt,
    constraint: Constraint,
    text: ServedText,
    found: _Found,
    which: str,
) -> OutputResult | None:
    """Compare a text with its stream."""
    body = constraint.body(server.owner)
    streamed = server.constrained(prompt, LIMIT, body, stream=True)
    if (fault := stream_fault(text, streamed)) is None:
        return None
    if unsteady(
        (partial(server.constrained, prompt, LIMIT, body), text),
        (partial(server.constrained, prompt, LIMIT, body, stream=True), streamed),
    ):
        found.doubt = f"{which}: two equal requests have two greedy texts"
        return None
    lines = context_lines(text.text, streamed.text, names=("whole", "streamed"))
    return failed(NAME, f"{which}: {fault}", lines)


_CURE = "mask each row of a round after its own prefix, the bonus token's, too"
_LONGEST_END = 16
"""Letters of an end token at most."""


def _row_failure(
    constraint: Constraint, text: ServedText, found: _Found, which: str
) -> OutputResult | None:
    """Judge the tokens by the log-probabilities that came with them, where they can be."""
    rows = text.rows
    if constraint.language is None or rows is None:
        return None
    judged, fault = judged_rows(constraint.language, rows, TIE)
    found.rows += judged
    if fault is None:
        return None
    at = len("".join(row.token for row in rows[: fault[0]]))
    line = f"returned: {shown_around(text.text, at)}"
    return failed(NAME, f"{which}: row {fault[0]}: {fault[1]}; {_CURE}", (line,))


def _beside(
    constraint: Constraint, text: ServedText, wanted: ServedText | None, found: _Found, which: str
) -> OutputResult | None:
    """Compare a text with that of a server without a drafter."""
    if wanted is None or first_difference(wanted.text, text.text) is None:
        return None
    names = ("without a drafter", "drafting")
    rows = text.rows or (wanted.rows if wanted is not None else None)
    if constraint.language is None or rows is None:
        lines = "; ".join(context_lines(wanted.text, text.text, names=names))
        found.doubt = (
            f"{which}: another text than without a drafter, and without log-probabilities it is "
            f"not known whether a tie explains it ({lines})"
        )
        return None
    other = wanted.text if rows is text.rows else text.text
    if tied(constraint.language, rows, other, TIE):
        found.ties += 1
        return None
    return failed(
        NAME,
        f"{which}: another text than without a drafter, and no tie explains it; {_CURE}",
        context_lines(wanted.text, text.text, names=names),
    )


def _summary(found: _Found, asked: ConstrainedTexts, end: str) -> OutputResult:
    left = [
        *(f"{name} is refused ({reason})" for name, reason in asked.refused.items()),
        *(f"{name} is ignored in {count} texts" for name, count in found.ignored.items()),
        *([found.doubt] if found.doubt else []),
    ]
    if found.doubt or not found.texts:
        cure = "" if found.doubt else "; start the server with a grammar backend"
        return unchecked(NAME, f"{'; '.join(left)}{cure}")
    seen = [
        f"{found.texts} greedy texts are in their languages, whole and streamed, {found.ended} to "
        "the end",
        *([f"each ends by {end!r}, its end token"] if end else []),
        *([f"{found.ties} numerical ties"] if found.ties else []),
        *(
            [f"{found.rows} tokens are the likeliest allowed ones by the served log-probabilities"]
            if found.rows
            else []
        ),
    ]
    return passed(NAME, "; ".join([*seen, *left]))
