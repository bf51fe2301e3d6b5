"""A language model of five tokens, served in every dialect, so that what is read can be compared
with what is so.
"""

from __future__ import annotations

import itertools
import json
from typing import Any

import numpy as np

from helpers.playback import Answer, Play
from pytest_specdec.cases.texts import Text, texts_from_ids

TOKENS = 5
CARDS = {"vllm": "vllm", "sglang": "sglang", "llama.cpp": "llamacpp", "echo": "somebody"}
"""Dialect: the owner that such a server's /v1/models names."""


class Toy:
    """The distribution of each token depends on the one before."""

    def __init__(self, seed: int) -> None:
        logits = 2 * np.random.default_rng(seed).standard_normal((TOKENS, TOKENS))
        self.log = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
        self.logits = logits

    def texts(
        self, count: int, length: int = 40, prompt: int = 3, seed: int = 0
    ) -> tuple[Text, ...]:
        """Sampled texts."""
        rng = np.random.default_rng(seed)
        rows = []
        for _ in range(count):
            ids = rng.integers(0, TOKENS, prompt).tolist()
            while len(ids) < length:
                ids.append(int(rng.choice(TOKENS, p=np.exp(self.log[ids[-1]]))))
            rows.append(ids)
        return texts_from_ids(rows, [prompt] * count)

    def scores(self, text: Text) -> np.ndarray:
        """Log-probabilities of the tokens from the first draft on."""
        before, after = text.ids[text.first_draft - 1 : -1], text.ids[text.first_draft :]
        return np.array(
            [self.log[previous, token] for previous, token in zip(before, after, strict=True)]
        )

    def largest(self, before: int, count: int) -> list[tuple[int, float]]:
        """(token, log-probability) of the likeliest tokens after another."""
        order = np.argsort(-self.log[before])[:count]
        return [(int(token), float(self.log[before, token])) for token in order]

    def plays(self, dialect: str, name: str = "toy") -> dict[str, list[Play]]:
        """What a server of this model answers in a dialect."""
        card = json.dumps({"data": [{"id": name, "owned_by": CARDS[dialect]}]})
        path = {
            "vllm": "/v1/completions",
            "echo": "/v1/completions",
            "sglang": "/generate",
            "llama.cpp": "/completion",
        }[dialect]
        return {"/v1/models": [Answer(card)], path: [getattr(self, dialect.replace(".", "_"))]}

    def vllm(self, body: dict[str, Any]) -> Answer:
        ids, rows = body["prompt"], []
        for before, following in itertools.pairwise(ids):
            listed = {following: float(self.log[before, following])} | dict(
                self.largest(before, body["prompt_logprobs"])
            )
            rows.append(
                {str(token): {"logprob": value, "rank": 1} for token, value in listed.items()}
            )
        return Answer(json.dumps({"choices": [{"prompt_logprobs": [None, *rows]}]}))

    def echo(self, body: dict[str, Any]) -> Answer:
        ids = body["prompt"]
        logprobs = [float(self.log[before, after]) for before, after in itertools.pairwise(ids)]
        top = [
            {str(token): value for token, value in self.largest(before, body["logprobs"])}
            for before in ids[:-1]
        ]
        echoed = {
            "token_logprobs": [None, *logprobs, -0.5],
            "top_logprobs": [None, *top, {"x": -0.5}],
        }
        return Answer(
            json.dumps({"choices": [{"logprobs": echoed}], "usage": {"prompt_tokens": len(ids)}})
        )

    def sglang(self, body: dict[str, Any]) -> Answer:
        ids = body["input_ids"]
        scored = [
            [float(self.log[before, after]), after, None]
            for before, after in itertools.pairwise(ids)
        ]
        top = [
            [
                [value, token, None]
                for token, value in self.largest(previous, body["top_logprobs_num"])
            ]
            for previous in ids[:-1]
        ]
        meta = {
            "prompt_tokens": len(ids),
            "input_token_logprobs": [[None, ids[0], None], *scored],
            "input_top_logprobs": [None, *top],
        }
        return Answer(json.dumps({"meta_info": meta}))

    def llama_cpp(self, body: dict[str, Any]) -> Answer:
        ((token, _),) = body["logit_bias"]
        before = body["prompt"][-1]
        top = [
            {"id": name, "logprob": value} for name, value in self.largest(before, body["n_probs"])
        ]
        forced = {"id": token, "logprob": float(self.log[before, token]), "top_logprobs": top}
        return Answer(
            json.dumps(
                {"tokens_evaluated": len(body["prompt"]), "completion_probabilities": [forced]}
            )
        )
