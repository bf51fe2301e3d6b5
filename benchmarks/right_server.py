"""A right server in this process, with whatever right servers do differently: end tokens with and without
letters, stops kept or cut, usage and log-probabilities given or left out, characters over several tokens,
any chunks of a stream, and texts that part at numerical ties from one request to the next.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from pytest_specdec.cases.prompts import Prompt
from pytest_specdec.output.constraints import CONSTRAINTS
from pytest_specdec.output.json_answers import SCHEMA
from pytest_specdec.output.languages import ServedToken
from pytest_specdec.output.text_server import ServedText, ToolCall

PIECES = [
    " the",
    " a",
    "de",
    "f ",
    "(x",
    "):",
    "\n",
    " Z",
    "ü",
    "rich",
    " 東",
    "京",
    "é",
    " ",
    "1",
    ".",
]
LIMIT = 40


class RightServer:
    """Answers by a table of texts that depends on the prompt alone, but for ties."""

    url = "http://right"

    def __init__(self, seed: int) -> None:
        rng = self._rng = np.random.default_rng(seed)
        self.owner = str(rng.choice(["vllm", "llamacpp", "toy"]))
        self._usage, self._logprobs, self._ids = rng.random(3) < (0.8, 0.7, 0.6)
        self._counts_end, self._keeps_stop, self._ties = rng.random(3) < (0.5, 0.3, 0.3)
        self._grammars, self._tools = rng.random(2) < (0.8, 0.8)
        self._several = np.random.default_rng([seed, 1]).random() < 0.8
        self._seed = seed
        self._texts: dict[str, tuple[list[bytes], bool, int]] = {}

    def _tokens(self, prompt: Prompt) -> tuple[list[bytes], bool]:
        """The tokens of a prompt's text and whether it ends by itself; at a tie, in some requests,
        another token and another text after it.
        """
        key = str(prompt.text)
        if key not in self._texts:
            rng = np.random.default_rng([self._seed, len(self._texts)])
            count = int(rng.integers(0, LIMIT + 20))
            tokens = [part for piece in rng.choice(PIECES, count) for part in _cut(piece, rng)]
            tied = int(rng.integers(2, 30)) if self._ties else 10**6
            self._texts[key] = tokens, bool(rng.random() < 0.5), tied
        tokens, ends, tied = self._texts[key]
        if not ends:
            tokens = [*tokens, *([b" on", b"!"] * LIMIT)]
        if tied < len(tokens) and self._rng.random() < 0.3:
            return [*tokens[:tied], b"#", *tokens[tied + 1 :][::-1]], ends
        return tokens, ends

    def greedy(
        self, prompt: Prompt, limit: int, *, stop: Sequence[str] = (), stream: bool = False
    ) -> ServedText:
        tokens, ends = self._tokens(prompt)
        text, used, finish = b"", 0, "length"
        for token in tokens[:limit]:
            text, used = text + token, used + 1
            at = min(
                (text.find(one.encode()) for one in stop if one.encode() in text), default=None
            )
            if at is not None:
                kept = len(stop[0].encode()) * self._keeps_stop
                return self._answer(text[: at + kept], "stop", used, stream)
        if ends and used == len(tokens) and (used < limit or not self._counts_end):
            finish = "stop"
            used += self._counts_end
        return self._answer(text, finish, used, stream)

    def choices(
        self,
        prompt: Prompt,
        limit: int,
        count: int,
        *,
        temperature: float = 0.0,
        seed: int = 1,
        stream: bool = False,
    ) -> dict[int, ServedText]:
        """Several choices; some servers give one alone."""
        given = count if self._several else 1
        return {index: self.greedy(prompt, limit, stream=stream) for index in range(given)}

    def greedy_ids(self, prompt: Prompt, limit: int, *, stop_ids: Sequence[int] = ()) -> ServedText:
        tokens, ends = self._tokens(prompt)
        ids = [int.from_bytes(token) for token in tokens][:limit]
        finish = "stop" if ends and len(tokens) < limit else "length"
        places = [at for at, one in enumerate(ids) if one in stop_ids]
        if places and self.owner != "llamacpp":
            ids, finish = ids[: places[0] + 1], "stop"
        answer = self._answer(b"".join(tokens[: len(ids)]), finish, len(ids), stream=False)
        known = tuple(ids) if self._ids else None
        return ServedText(text=answer.text, finish=finish, tokens=answer.tokens, ids=known)

    def constrained(
        self,
        prompt: Prompt,
        limit: int,
        constraint: dict[str, Any],
        *,
        stream: bool = False,
        rows: bool = False,
    ) -> ServedText:
        if not self._grammars:
            return self.greedy(prompt, limit, stream=stream)
        wanted = next(one for one in CONSTRAINTS if one.body(self.owner) == constraint)
        seeds = [self._seed % 40, len(str(prompt.text)), len(wanted.name)]
        rng = np.random.default_rng(seeds)
        if wanted.language is None:
            values = {
                name: rng.choice(np.array(one.get("enum", [True, False]), dtype=object))
                for name, one in SCHEMA["properties"].items()
            }
            text = json.dumps(values, ensure_ascii=False, indent=int(rng.integers(0, 3)) or None)
            return self._answer(text.encode(), "stop", len(text), stream)
        text, found = "", list[ServedToken]()
        letters = [chr(code) for code in range(32, 127)]
        while not wanted.language.holds(text) or rng.random() < 0.5:
            allowed = [letter for letter in letters if wanted.language.viable(text + letter)]
            if not allowed:
                break
            chosen = str(rng.choice(allowed))
            likeliest = {letter: -3.0 - rng.random() for letter in rng.choice(letters, 6)}
            likeliest = {one: value for one, value in likeliest.items() if one not in allowed}
            found.append(ServedToken(token=chosen, likeliest={**likeliest, chosen: -4.5}))
            text += chosen
        answer = self._answer(text.encode(), "stop", len(text), stream)
        shown = tuple(found) if rows and self._logprobs and " " in text else None
        return ServedText(
            text=answer.text,
            finish="stop",
            tokens=answer.tokens,
            pieces=answer.pieces,
            rows=shown,
        )

    def called(
        self, messages: Any, tools: Any, limit: int, *, choice: str, stream: bool = False
    ) -> ServedText:
        if not self._tools:
            return ServedText(text="I cannot say.", finish="stop", tokens=4)
        arguments = {"place": messages[0]["content"].split(" in ")[1].split(" for ")[0], "days": 2}
        spaced = self._rng.random() < 0.5  # the same JSON
        text = json.dumps(arguments, separators=(", ", ": ") if spaced else (",", ":"))
        call = ToolCall(name="get_weather", arguments=text)
        return ServedText(text="", finish="tool_calls", tokens=None, calls=(call,))

    def likeliest(self, text: str) -> list[float]:
        return [-0.7, -0.8] if self._logprobs else []

    def _answer(self, raw: bytes, finish: str, used: int, stream: bool) -> ServedText:
        text = raw.decode(errors="replace")
        cuts = sorted({0, len(text), *self._rng.integers(0, len(text) + 1, 5).tolist()})
        pieces = [text[begin:end] for begin, end in itertools.pairwise(cuts)]
        return ServedText(
            text=text,
            finish=finish,
            tokens=used if self._usage else None,
            pieces=tuple(pieces) if stream else (),
        )


def _cut(piece: str, rng: np.random.Generator) -> list[bytes]:
    """A piece as a token, or as tokens of single bytes."""
    raw = piece.encode()
    return [raw] if rng.random() < 0.7 else [raw[at : at + 1] for at in range(len(raw))]
