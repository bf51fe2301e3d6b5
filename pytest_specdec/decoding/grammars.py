"""Masks of grammars: which tokens may follow a prefix so that the text can still match a regular
expression, a JSON schema or a grammar.

llguidance does the matching (the extra `constraints`), or xgrammar. The mask of a prefix depends
on the tokens after the prompt alone. Whatever order it is asked in, the matcher is taken back to
the common prefix first. After a prefix that the grammar does not allow, or that has ended, the mask
allows all: nothing is emitted there.
"""

from __future__ import annotations

import itertools
import json
import weakref
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from transformers import LogitsProcessor

from ..common.errors import RequestError, naming_extras
from .loading import LoadedModel

_TOKENIZERS: weakref.WeakKeyDictionary[LoadedModel, Any] = weakref.WeakKeyDictionary()
"""llguidance's, of each target."""


_NO_FORCING = '%llguidance {"no_forcing": true}'
"""By itself llguidance allows one token alone where the grammar leaves one spelling, that of the
tokenizer. Other engines allow all tokens that spell it.
"""


class Matcher(Protocol):
    """How far a text matches its grammar, token by token."""

    def accept(self, token: int) -> bool:
        """Take one token, no end token; False, and nothing is taken, for one that the grammar does
        not allow.
        """

    def take_back(self, count: int) -> None:
        """Take back so many tokens that were taken."""

    def allowed(self, vocabulary: int) -> torch.Tensor | None:
        """(vocabulary,): which tokens may be next; None where the text can only end."""


class GrammarMask:
    """The mask of a grammar, as a logits processor of any text. `new_matcher` makes a matcher for
    one text, `ends` are the tokens that end it.
    """

    def __init__(self, new_matcher: Callable[[], Matcher], ends: frozenset[int]) -> None:
        self._new_matcher, self.ends = new_matcher, ends

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Without a prompt."""
        return self.for_prompt(())(input_ids, scores)

    def for_prompt(self, prompt: Sequence[int]) -> TextMask:
        return TextMask(self._new_matcher(), len(prompt), self.ends)


class TextMask(LogitsProcessor):  # type: ignore[misc]
    """The mask of a grammar after the prefixes of one text."""

    def __init__(self, matcher: Matcher, prompt_length: int, ends: frozenset[int]) -> None:
        self._matcher, self._prompt_length, self._ends = matcher, prompt_length, ends
        self._taken: list[int] = []

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """(1, length) and (1, vocabulary) to (1, vocabulary)."""
        (row,) = input_ids.tolist()
        allowed = self._after(row[self._prompt_length :], scores.shape[-1])
        if allowed is None:
            return scores
        return scores.masked_fill(~allowed.to(scores.device), -torch.inf)

    def _after(self, text: list[int], vocabulary: int) -> torch.Tensor | None:
        pairs = zip(self._taken, text, strict=False)
        common = sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))
        if common < len(self._taken):
            self._matcher.take_back(len(self._taken) - common)
            del self._taken[common:]
        for token in text[common:]:
            if token in self._ends or not self._matcher.accept(token):
                return None
            self._taken.append(token)
        allowed = self._matcher.allowed(vocabulary)
        if allowed is None:
            allowed = torch.zeros(vocabulary, dtype=torch.bool)
            allowed[sorted(self._ends)] = True
        return allowed


class LlguidanceMatcher:
    """A matcher of llguidance."""

    def __init__(self, tokenizer: Any, grammar: str) -> None:
        import llguidance

        self._matcher = llguidance.LLMatcher(tokenizer, grammar)
        self._check()

    def accept(self, token: int) -> bool:
        if self._matcher.is_stopped():
            return False
        return int(self._matcher.try_consume_tokens([token])) == 1

    def take_back(self, count: int) -> None:
        self._matcher.rollback(count)
        self._check()

    def allowed(self, vocabulary: int) -> torch.Tensor | None:
        if self._matcher.is_stopped():
            return None
        bits = np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint8)
        self._check()
        mask = np.unpackbits(bits, bitorder="little", count=min(vocabulary, 8 * len(bits)))
        whole = np.zeros(vocabulary, dtype=bool)
        whole[: len(mask)] = mask
        return torch.from_numpy(whole)

    def _check(self) -> None:
        if self._matcher.is_error():
            reason = str(self._matcher.get_error()).splitlines()[0]
            raise RequestError(f"llguidance cannot match the grammar ({reason}); correct it")


class XgrammarMatcher:
    """A matcher of xgrammar, from a compiled grammar. Its tokenizer's stop tokens are the `ends` of
    the mask.

    Example: `GrammarMask(lambda: XgrammarMatcher(compiled), frozenset([eos]))`.
    """

    def __init__(self, compiled: Any) -> None:
        with naming_extras():
            import xgrammar
        self._matcher = xgrammar.GrammarMatcher(compiled)
        self._bits = xgrammar.allocate_token_bitmask(1, compiled.tokenizer_info.vocab_size)

    def accept(self, token: int) -> bool:
        return bool(self._matcher.accept_token(token))

    def take_back(self, count: int) -> None:
        self._matcher.rollback(count)

    def allowed(self, vocabulary: int) -> torch.Tensor | None:
        if self._matcher.is_terminated():
            return None
        self._bits.fill_(-1)  # a mask that allows all is not written
        self._matcher.fill_next_token_bitmask(self._bits)
        bits = (self._bits[0][:, None] >> torch.arange(32)) & 1
        whole = torch.zeros(vocabulary, dtype=torch.bool)
        known = bits.flatten()[:vocabulary]
        whole[: len(known)] = known.bool()
        return whole


def grammar_mask(
    kind: str, text: str, target: LoadedModel, *, canonical: bool = False
) -> GrammarMask:
    """The mask of a grammar of llguidance for the target's tokens; `kind` is `regex`, `json_schema`
    or `lark`.

    It allows every token that keeps the text in the language; `canonical` as in
    `cases.processors.ProcessorSpec`.

    A text ends with a token that the target names as its end, or with the tokenizer's. Raises
    RequestError for a grammar that cannot be read, MissingExtraError without llguidance.
    """
    with naming_extras():
        import llguidance
        import llguidance.hf
    ends = target.model.generation_config.eos_token_id
    if ends is None:
        ends = target.tokenizer.eos_token_id
    if ends is None:
        raise RequestError(
            f"{target.checkpoint.folder} names no end-of-sequence token, so no text can end by a "
            "grammar; add eos_token_id to its generation_config.json"
        )
    tokenizer = _TOKENIZERS.get(target)
    if tokenizer is None:  # takes a second for large vocabularies
        width = max(target.model.get_input_embeddings().num_embeddings, len(target.tokenizer))
        tokenizer = _TOKENIZERS[target] = llguidance.hf.from_tokenizer(
            target.tokenizer, n_vocab=width, eos_token=ends
        )
    try:
        lark = _lark(kind, text, llguidance.LLMatcher)
        grammar = llguidance.LLMatcher.grammar_from_lark(
            lark if canonical or "%llguidance" in lark else f"{_NO_FORCING}\n{lark}"
        )
    except ValueError as error:
        raise RequestError(f"llguidance cannot read the {kind} ({error}); correct it") from None
    if problem := llguidance.LLMatcher.validate_grammar(grammar, tokenizer):
        reason = str(problem).splitlines()[0]
        raise RequestError(f"llguidance cannot read the {kind} ({reason}); correct it")
    named = frozenset([ends] if isinstance(ends, int) else ends)
    return GrammarMask(lambda: LlguidanceMatcher(tokenizer, grammar), named)


def _lark(kind: str, text: str, library: Any) -> str:
    """A grammar in llguidance's Lark syntax. Raises ValueError for one that cannot be read."""
    if kind == "lark":
        return text
    if kind == "json_schema":
        return f"start: %json {text}"
    made = json.loads(library.grammar_from_regex(text))
    return str(made["grammars"][0]["lark_grammar"])
