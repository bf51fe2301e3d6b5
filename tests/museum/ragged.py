"""Samplers that are right while all rows draft alike, and wrong as soon as they do not: flat rows,
as vLLM's.

`reference` is right; each of `RAGGED` is wrong in one place. All are given to `flat_batch`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

Generator = torch.Generator | None
Starts = Callable[[Sequence[int]], list[int]]


def starts(counts: Sequence[int]) -> list[int]:
    """Where the rows of each request begin."""
    return [sum(counts[:request]) for request in range(len(counts))]


def rejection(
    counts: Sequence[int],
    begins: Sequence[int],
    drafts: Tensor,
    q: Tensor,
    p: Tensor,
    bonus: Tensor,
    generator: Generator,
    coins: Tensor | None = None,
) -> Tensor:
    """One request after the other; (requests, most drafts + 1), padded with -1. Rows past the end
    are the last one.
    """
    out, last = torch.full((len(counts), max(counts) + 1), -1, dtype=torch.int32), len(drafts) - 1
    for request, (count, begin) in enumerate(zip(counts, begins, strict=True)):
        for step in range(count):
            row = min(begin + step, last)
            token = int(drafts[row])
            coin = torch.rand((), generator=generator) if coins is None else coins[step]
            if coin * q[row, token] < p[row, token]:
                out[request, step] = token
                continue
            rest = (p[row] - q[row]).clamp(min=0)
            rest = rest if rest.sum() > 0 else p[row]
            out[request, step] = torch.multinomial(rest, 1, generator=generator)[0]
            break
        else:
            out[request, count] = bonus[request, 0]
    return out


def reference(
    draft_token_ids: Tensor,
    num_draft_tokens: list[int],
    cu_num_draft_tokens: Tensor,
    draft_probs: Tensor,
    target_probs: Tensor,
    bonus_token_ids: Tensor,
    generator: Generator = None,
) -> Tensor:
    begins = [0, *cu_num_draft_tokens[:-1].tolist()]
    return rejection(
        num_draft_tokens,
        begins,
        draft_token_ids,
        draft_probs,
        target_probs,
        bonus_token_ids,
        generator,
    )


def as_vllm(
    draft_token_ids: Tensor,
    num_draft_tokens: list[int],
    max_spec_len: int,
    cu_num_draft_tokens: Tensor,
    draft_probs: Tensor,
    target_logits: Tensor,
    bonus_token_ids: Tensor,
    generator: Generator = None,
) -> Tensor:
    """vLLM's `rejection_sample` step by step, its kernels as loops.

    One set of exponentials serves all positions of a request, and a token is recovered for every
    position, used or not.
    """
    target_probs = target_logits.softmax(-1, dtype=torch.float32)
    uniforms = torch.rand(len(draft_token_ids), dtype=torch.float64, generator=generator)
    noise = (
        torch.empty(len(num_draft_tokens), target_probs.shape[1])
        .exponential_(generator=generator)
        .reciprocal()
    )
    request_of = torch.arange(len(num_draft_tokens)).repeat_interleave(
        torch.tensor(num_draft_tokens)
    )
    recovered = ((target_probs - draft_probs).clamp(min=0) * noise[request_of]).argmax(-1)
    drafts = draft_token_ids.long()[:, None]
    ratio = target_probs.gather(1, drafts)[:, 0] / draft_probs.gather(1, drafts)[:, 0]
    accepted = (ratio >= uniforms).tolist()
    out = torch.full((len(num_draft_tokens), max_spec_len + 1), -1, dtype=torch.int32)
    for request, (end, count) in enumerate(
        zip(cu_num_draft_tokens.tolist(), num_draft_tokens, strict=True)
    ):
        kept = next((step for step in range(count) if not accepted[end - count + step]), count)
        out[request, :kept] = draft_token_ids[end - count : end - count + kept]
        out[request, kept] = (
            bonus_token_ids[request, 0] if kept == count else recovered[end - count + kept]
        )
    return out


def with_starts(begins_of: Starts) -> Callable[..., Tensor]:
    """Requests whose rows are looked for in another place."""

    def sample(
        draft_token_ids: Tensor,
        num_draft_tokens: list[int],
        draft_probs: Tensor,
        target_probs: Tensor,
        bonus_token_ids: Tensor,
        generator: Generator = None,
    ) -> Tensor:
        begins = begins_of(num_draft_tokens)
        return rejection(
            num_draft_tokens,
            begins,
            draft_token_ids,
            draft_probs,
            target_probs,
            bonus_token_ids,
            generator,
        )

    return sample


def changed(change: Callable[[Tensor, list[int], Tensor], Tensor]) -> Callable[..., Tensor]:
    """What `change` makes of the right answer, the numbers of drafts and the bonus tokens."""

    def sample(
        draft_token_ids: Tensor,
        num_draft_tokens: list[int],
        draft_probs: Tensor,
        target_probs: Tensor,
        bonus_token_ids: Tensor,
        generator: Generator = None,
    ) -> Tensor:
        flat = draft_token_ids, draft_probs, target_probs, bonus_token_ids
        out = rejection(num_draft_tokens, starts(num_draft_tokens), *flat, generator)
        return change(out, num_draft_tokens, bonus_token_ids)

    return sample


def bonus_of_another_row(out: Tensor, counts: list[int], bonus: Tensor) -> Tensor:
    """Rows without drafts take the bonus tokens from a list that such requests are left out of."""
    drafting = [request for request, count in enumerate(counts) if count]
    for request, count in enumerate(counts):
        if not count:
            out[request, 0] = bonus[drafting[min(request, len(drafting) - 1)], 0]
    return out


def last_column(out: Tensor, counts: list[int], bonus: Tensor) -> Tensor:
    """The bonus token is stored after the longest row's drafts, not after the row's own."""
    for request, count in enumerate(counts):
        if out[request, count] != -1:
            token = out[request, count].clone()
            out[request, count] = -1
            out[request, -1] = token
    return out


def nothing_without_drafts(out: Tensor, counts: list[int], bonus: Tensor) -> Tensor:
    out[torch.tensor(counts) == 0] = -1
    return out


def every_row_verified_to_the_longest(
    draft_token_ids: Tensor,
    num_draft_tokens: list[int],
    max_spec_len: int,
    draft_probs: Tensor,
    target_probs: Tensor,
    bonus_token_ids: Tensor,
    generator: Generator = None,
) -> Tensor:
    flat = draft_token_ids, draft_probs, target_probs, bonus_token_ids
    return rejection(
        [max_spec_len] * len(num_draft_tokens), starts(num_draft_tokens), *flat, generator
    )


def coins_by_position(
    draft_token_ids: Tensor,
    num_draft_tokens: list[int],
    max_spec_len: int,
    draft_probs: Tensor,
    target_probs: Tensor,
    bonus_token_ids: Tensor,
    generator: Generator = None,
) -> Tensor:
    coins = torch.rand(max_spec_len, generator=generator)
    flat = draft_token_ids, draft_probs, target_probs, bonus_token_ids
    return rejection(num_draft_tokens, starts(num_draft_tokens), *flat, generator, coins)


@dataclasses.dataclass(frozen=True)
class Ragged:
    """A wrong sampler with flat rows."""

    name: str
    source: str
    """As in `mutants`."""
    mechanism: str
    sample: Callable[..., Any]


PAPER = "arXiv:2211.17192"
RAGGED = (
    Ragged(
        "rows at equal distances",
        PAPER,
        "a request's rows are looked for at b * max_spec_len, not where those of the requests "
        "before it end",
        with_starts(lambda counts: [max(counts) * request for request in range(len(counts))]),
    ),
    Ragged(
        "rows of the next request",
        "vllm-project/vllm#41768",
        "the cumulative number is that with the request's own drafts, which is where the next "
        "request begins",
        with_starts(
            lambda counts: [
                start + count for start, count in zip(starts(counts), counts, strict=True)
            ]
        ),
    ),
    Ragged(
        "requests without drafts counted",
        "vllm-project/vllm#41768",
        "a request without drafts is taken to hold one row, so that all requests behind it are off "
        "by one",
        with_starts(lambda counts: starts([max(count, 1) for count in counts])),
    ),
    Ragged(
        "bonus of another row",
        PAPER,
        "a row without drafts takes its token from a list that holds requests with drafts only",
        changed(bonus_of_another_row),
    ),
    Ragged(
        "bonus in the last column",
        PAPER,
        "the bonus token is stored behind the longest row's drafts, so that padding lies inside of "
        "shorter rows",
        changed(last_column),
    ),
    Ragged(
        "nothing without drafts",
        "vllm-project/vllm-ascend#10237",
        "a row without drafts is all padding, and its request stands still",
        changed(nothing_without_drafts),
    ),
    Ragged(
        "verified to the longest",
        PAPER,
        "max_spec_len drafts of every request are verified, which for a shorter row are the next "
        "request's",
        every_row_verified_to_the_longest,
    ),
    Ragged(
        "coins by position",
        PAPER,
        "one coin for each position serves all requests: each follows its target, and they depend "
        "on each other",
        coins_by_position,
    ),
)
