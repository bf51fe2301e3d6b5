"""Suffix decoding (Oliaro et al., arXiv 2411.04975): drafts that followed the text's last tokens
most often, in the text itself and in the answers to earlier requests.

A tree holds every piece of at most `depth` tokens of its sequences and how often each occurs. For
each length of the text's end that the tree holds, the likeliest continuation is followed token by
token while the product of the shares of its branches is at least `least_share`; its score is the
sum of these products. The best score wins, of equal ones the longest match. One tree is the
request's own prompt and answer; the other is of the answers of the requests before it, and wins
only with a higher score. These are the rules of Arctic Inference, which vLLM runs as `suffix`;
where two branches are equally frequent its choice is that of a hash table, and here the one seen
first.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Sequence

from ..common.errors import RequestError

MOST_DEPTH = 64
"""Longest pieces that a tree may hold: its memory grows with them."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SuffixSettings:
    """The settings of suffix decoding, with vLLM's defaults."""

    depth: int = 24
    """Most tokens of a piece: `suffix_decoding_max_tree_depth`."""
    factor: float = 1.0
    """Most drafts for each token of the match: `suffix_decoding_max_spec_factor`."""
    least_share: float = 0.1
    """`suffix_decoding_min_token_prob`."""
    cached: int = 10000
    """Answers of earlier requests that are kept, 0 for none and -1 for all:
    `suffix_decoding_max_cached_requests`.
    """

    @property
    def name(self) -> str:
        """All settings, for fingerprints."""
        return f"suffix-d{self.depth}-f{self.factor:g}-p{self.least_share:g}-c{self.cached}"


class _Node:
    """A piece of tokens: how often it occurs, and its continuations by token."""

    __slots__ = ("children", "count")

    def __init__(self) -> None:
        self.count = 0
        self.children: dict[int, _Node] | None = None

    def child(self, token: int) -> _Node:
        """The continuation by a token, counted once more."""
        if self.children is None:
            self.children = {}
        node = self.children.get(token)
        if node is None:
            node = self.children[token] = _Node()
        node.count += 1
        return node


class SuffixTree:
    """All pieces of at most `depth` tokens of its sequences, with their counts."""

    def __init__(self, depth: int) -> None:
        self._root, self._depth = _Node(), depth
        self._open: deque[_Node] = deque(maxlen=depth)

    def begin(self) -> None:
        """Begin another sequence."""
        self._open.clear()

    def extend(self, tokens: Sequence[int]) -> None:
        """Append tokens to the sequence begun last."""
        for token in tokens:
            self._open.append(self._root)
            self._open = deque((node.child(token) for node in self._open), maxlen=self._depth)

    def propose(
        self, pattern: Sequence[int], k: int, settings: SuffixSettings
    ) -> tuple[list[int], float]:
        """At most k drafts after a text that ends in `pattern`, and their score; none scores 0."""
        best: list[int] = []
        best_score = 0.0
        for length in range(1, len(pattern)):
            node = self._found(pattern[len(pattern) - length :])
            if node is None:
                break
            most = min(k, int(length * settings.factor + 1e-6))
            drafts, score = _followed(node, most, settings.least_share)
            if score >= best_score:
                best, best_score = drafts, score
        return best, best_score

    def _found(self, piece: Sequence[int]) -> _Node | None:
        node: _Node | None = self._root
        for token in piece:
            if node is None or node.children is None:
                return None
            node = node.children.get(token)
        return node


def _followed(node: _Node, most: int, least_share: float) -> tuple[list[int], float]:
    """The most frequent continuation of a piece, and its score."""
    drafts: list[int] = []
    share, score = 1.0, 0.0
    while len(drafts) < most and node.children:
        token, child = max(node.children.items(), key=lambda item: item[1].count)
        share *= child.count / node.count
        if share < least_share:
            break
        drafts.append(token)
        score += share
        node = child
    return drafts, score


class SuffixCache:
    """The answers of the requests so far, in their order, and what a further request drafts."""

    def __init__(self, settings: SuffixSettings) -> None:
        self.settings, self._requests = settings, 0
        self.answers = SuffixTree(settings.depth)

    def request(self, prompt: Sequence[int], answer: Sequence[int] = ()) -> SuffixIndex:
        """Another request, after those before it have ended. Raises RequestError for one more than
        are kept: which answers an engine drops depends on when its requests come and end.
        """
        self._requests += 1
        if 0 < self.settings.cached < self._requests:
            raise RequestError(
                f"suffix decoding keeps {self.settings.cached} answers and this is request "
                f"{self._requests}; use fewer prompts, or max_cached_requests -1"
            )
        self.answers.begin()
        return SuffixIndex(self, prompt, answer)


class SuffixIndex:
    """One request: an `acceptance.lookup.DraftIndex`."""

    def __init__(
        self, cache: SuffixCache, prompt: Sequence[int], answer: Sequence[int] = ()
    ) -> None:
        self._cache, self._settings = cache, cache.settings
        self._own = SuffixTree(self._settings.depth)
        self._recent: deque[int] = deque(maxlen=self._settings.depth)
        self._own.extend(prompt)
        self._recent.extend(prompt)
        self.extend(answer)

    def extend(self, tokens: Sequence[int]) -> None:
        """Append emitted tokens, which later requests see, too."""
        self._own.extend(tokens)
        self._recent.extend(tokens)
        if self._settings.cached:
            self._cache.answers.extend(tokens)

    def propose(self, k: int) -> list[int]:
        """At most k draft tokens; fewer where matches are short or their continuations differ."""
        pattern = list(self._recent)
        drafts, score = self._own.propose(pattern, k, self._settings)
        if self._settings.cached:
            others, other_score = self._cache.answers.propose(pattern, k, self._settings)
            if other_score > score:
                return others
        return drafts
