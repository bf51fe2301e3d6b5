"""Constrained requests of a toy server: its model is a table of scores by text and token, drafted and
verified round by round with a mask for each row, right or with one defect.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import json
import math
import string
from collections.abc import Sequence
from typing import Any

from pytest_specdec.output.constraints import CONSTRAINTS
from pytest_specdec.output.json_answers import _object
from pytest_specdec.output.languages import Language, ServedToken

K = 3
END = "</s>"
LETTERS = [*string.ascii_letters, *string.digits, *' ,!?:{}"', *"üã東京"]
PIECES = [
    "Mon",
    "day",
    "Sun",
    "ay, ",
    " the",
    "the ",
    " a",
    "in",
    "an",
    "20",
    "19",
    '"place',
    '": ',
]
PIECES += [", ", "Par", "is", "Z", "São", "true", "fal", "!"]
TOKENS = [*LETTERS, *PIECES, END]
GRAMMAR_DEFECTS = (
    "a mask is one row late",
    "the bonus token is not masked",
    "every row has the mask of the round's start",
    "a round goes on after the grammar's end",
    "masks are left out while drafting",
    "a mask forbids what a rejected draft forbids",
)


def language_of(body: dict[str, Any]) -> Language | None:
    """The language that a request asks for; None for a request without constraint."""
    for constraint in CONSTRAINTS:
        if constraint.language is not None and constraint.language.regex == body.get("regex"):
            return constraint.language
    return _object(("place", "days", "metric")) if "response_format" in body else None


@functools.cache
def score(text: str, token: str, kind: str = "target") -> float:
    """A logit, from 0 to 8; the draft's is another one after a third of the texts."""
    if kind == "draft" and _hashed(f"{text}|other") > 2 / 3:
        return 8 * _hashed(f"{text}|{token}|draft")
    return 8 * _hashed(f"{text}|{token}")


def _hashed(text: str) -> float:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=4).digest()) / 2**32


@functools.cache
def allowed(language: Language, text: str) -> list[str]:
    """The mask of one row; after a text that has left the language all tokens."""
    kept = [token for token in TOKENS[:-1] if language.viable(text + token)]
    kept += [END] * language.holds(text)
    return kept or TOKENS


def likeliest(prompt: str, text: str, tokens: Sequence[str], kind: str = "target") -> str:
    return max(tokens, key=lambda token: score(prompt + text, token, kind))


@functools.cache
def constrained_rounds(
    language: Language, prompt: str, limit: int, defect: str = ""
) -> tuple[list[list[str]], str]:
    """The tokens of each round, and why the text ends."""
    text, rounds = "", list[list[str]]()
    while sum(map(len, rounds)) < limit:
        drafts = list[str]()
        for _ in range(K):
            before = text + "".join(drafts)
            drafts.append(likeliest(prompt, before, allowed(language, before), "draft"))
        emitted = _verified(language, prompt, text, drafts, defect)
        emitted = emitted[: limit - sum(map(len, rounds))]
        ended = END in emitted
        if ended and defect == "a round goes on after the grammar's end":
            emitted = [token for token in emitted if token != END] + ["is", " the"]
        elif ended:
            emitted = emitted[: emitted.index(END)]
        rounds.append(emitted)
        text += "".join(emitted)
        if ended:
            return rounds, "stop"
    return rounds, "length"


def _verified(
    language: Language, prompt: str, text: str, drafts: list[str], defect: str
) -> list[str]:
    emitted = list[str]()
    for row in range(K + 1):
        before = text + "".join(emitted)
        masked_by = before
        if defect == "a mask is one row late" and row:
            masked_by = text + "".join(emitted[:-1])
        if defect == "every row has the mask of the round's start":
            masked_by = text
        mask = allowed(language, masked_by)
        if defect == "masks are left out while drafting" or (
            defect == "the bonus token is not masked" and row == K
        ):
            mask = TOKENS[:-1]
        if defect == "a mask forbids what a rejected draft forbids" and row < K and emitted:
            mask = [token for token in mask if token != drafts[row]] or mask
        emitted.append(likeliest(prompt, before, mask))
        if row == K or emitted[-1] != drafts[row] or emitted[-1] == END:
            break
    return emitted


def rows_of(prompt: str, tokens: Sequence[str], top: int) -> list[ServedToken]:
    """The served log-probabilities, without masks."""
    rows, text = [], ""
    for token in tokens:
        scores = {other: score(prompt + text, other) for other in TOKENS}
        total = math.log(sum(map(math.exp, scores.values())))
        best = sorted(scores, key=scores.__getitem__, reverse=True)[:top]
        shown = {name: scores[name] - total for name in {*best, token}}
        rows.append(ServedToken(token=token, likeliest=shown))
        text += token
    return rows


def answer(
    language: Language, body: dict[str, Any], defect: str
) -> tuple[dict[str, Any], list[str]]:
    """A choice, and the pieces of its stream."""
    rounds, finish = constrained_rounds(language, body["prompt"], body["max_tokens"], defect)
    tokens = [*itertools.chain(*rounds)]
    choice: dict[str, Any] = {"text": "".join(tokens), "finish_reason": finish}
    if body.get("logprobs"):
        rows = rows_of(body["prompt"], tokens, body["logprobs"])
        choice["logprobs"] = {
            "tokens": [row.token for row in rows],
            "top_logprobs": [row.likeliest for row in rows],
        }
    return choice, ["".join(emitted) for emitted in rounds if emitted]


def schema_texts() -> list[str]:
    """All answers of the schema, in its own order."""
    places = ("Paris", "Zürich", "São Paulo", "東京")
    return [
        json.dumps({"place": place, "days": days, "metric": metric}, ensure_ascii=False)
        for place, days, metric in itertools.product(places, (1, 2, 3), (True, False))
    ]
