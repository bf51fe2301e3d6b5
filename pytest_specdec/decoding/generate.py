"""Speculative generation: draft, verify in one target pass, accept, take the caches back, repeat."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator, Sequence

import numpy as np
import torch

from ..acceptance.case import OWN_HEADS, Sampling, checked_rule
from ..acceptance.counts import Counts
from ..acceptance.rounds import Round, counts_of_rounds
from ..acceptance.texts import Text, texts_from_ids
from ..errors import RequestError
from .drafters import Drafter, ModelDrafter, OwnHeads, PromptLookup, reach_of
from .laws import choose, law
from .loading import LoadedModel
from .ragged import CachedModel, Sequences
from .replay import Progress, loaded_pair
from .rules import Rule, rule_named
from .sampling import eos_ids


@dataclasses.dataclass(frozen=True)
class Decoded:
    """What speculative decoding emitted, round by round."""

    texts: tuple[Text, ...]
    rounds: tuple[tuple[Round, ...], ...]
    """Per text, the last round cut short where the text ended."""
    k: int
    draft_ms: tuple[float, ...]
    """Milliseconds of drafting, one for each round of a batch."""
    verify_ms: tuple[float, ...]
    """Milliseconds of the target's pass and the rule, one for each round of a batch."""

    @property
    def counts(self) -> Counts:
        """Counts of the rounds whose k draft positions all lie in the text."""
        return counts_of_rounds(self.texts, self.rounds, self.k)


def decode(
    target: str | LoadedModel,
    drafter: str | LoadedModel,
    prompts: Sequence[Sequence[int]] | Sequence[str],
    *,
    k: int,
    depth: int = 0,
    rule: str | None = None,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    new_tokens: int = 128,
    batch_size: int = 16,
    seed: int = 0,
    progress: Progress | None = None,
) -> Decoded:
    """Decode speculatively after prompts, token ids or strings; models as paths, hub ids or loaded.

    `drafter` is a model, `"mtp"` for the target's own heads (depth at least 1) or `"prompt-lookup"`. `rule` is
    `rejection` unless told otherwise, `greedy` at temperature 0. An EOS token ends a text and is kept. Raises
    RequestError for a pair, rule or prompt that cannot be decoded.
    """
    chosen = rule_named(checked_rule(rule, temperature))
    loaded, model = loaded_pair(target, drafter, depth)
    sampling = Sampling(temperature, top_k, top_p)
    ids = [loaded.tokenizer(prompt)["input_ids"] if isinstance(prompt, str) else list(prompt) for prompt in prompts]
    _check_prompts([loaded, *([model] if isinstance(model, LoadedModel) else [])], ids, new_tokens)
    plan = _Plan(loaded, model, k, depth, sampling, chosen, new_tokens, torch.Generator(loaded.device).manual_seed(seed))
    batches: dict[int, _Row] = {}
    draft_ms: list[float] = []
    verify_ms: list[float] = []
    order = sorted(range(len(ids)), key=lambda row: len(ids[row]))
    for begin in range(0, len(order), batch_size):
        rows = [_Row([*ids[row]], len(ids[row]) + new_tokens) for row in order[begin : begin + batch_size]]
        for drafting, verifying in _rounds(plan, rows):
            draft_ms.append(drafting)
            verify_ms.append(verifying)
        batches |= dict(zip(order[begin : begin + batch_size], rows, strict=True))
        if progress:
            progress(len(batches), len(order))
    done = [batches[row] for row in range(len(ids))]
    texts = texts_from_ids([row.tokens for row in done], [len(own) for own in ids])
    return Decoded(texts, tuple(tuple(row.rounds) for row in done), k, tuple(draft_ms), tuple(verify_ms))


@dataclasses.dataclass(frozen=True)
class _Plan:
    """All that the batches of one call share."""

    target: LoadedModel
    drafter: str | LoadedModel
    k: int
    depth: int
    sampling: Sampling
    rule: Rule
    new_tokens: int
    generator: torch.Generator


@dataclasses.dataclass
class _Row:
    """One text as it grows."""

    tokens: list[int]
    limit: int
    rounds: list[Round] = dataclasses.field(default_factory=list)
    ended: bool = False

    def emit(self, tokens: Sequence[int], stop: frozenset[int]) -> None:
        """Append tokens up to the limit or the first end-of-sequence token, which is kept."""
        for token in tokens:
            self.tokens.append(token)
            self.ended = len(self.tokens) == self.limit or token in stop
            if self.ended:
                return


@torch.inference_mode()
def _rounds(plan: _Plan, rows: list[_Row]) -> Iterator[tuple[float, float]]:
    """Decode a batch to its end; yields the milliseconds of drafting and of verifying, round by round."""
    k, device, stop = plan.k, plan.target.device, frozenset(eos_ids(plan.target))
    sequences = Sequences([row.tokens for row in rows], plan.new_tokens + k + 1, device)
    target = CachedModel(plan.target, reach_of(k, plan.depth), keeps_hidden=plan.drafter == OWN_HEADS)
    logits = target.feed(sequences, sequences.lengths, 1)[:, 0]
    first = choose(logits, plan.sampling, plan.generator)
    sequences.put(0, first)
    sequences.lengths = sequences.lengths + 1
    for row, token in zip(rows, first.tolist(), strict=True):
        row.emit([token], stop)
    drafter = _drafter(plan, target, rows, logits.shape[-1])
    running = rows
    while running := _select(running, sequences, target, drafter):
        begun = _now(device)
        proposal = drafter.propose(sequences, k, plan.generator)
        drafted = _now(device)
        logits = target.feed(sequences, sequences.lengths + k, k + 1, sequences.agreed)
        taken, following = plan.rule.verify(law(logits, plan.sampling), proposal.laws, proposal.tokens, plan.generator)
        accepted = taken.cpu().numpy()
        yield (drafted - begun) * 1e3, (_now(device) - drafted) * 1e3
        emitted = [
            [*drafts[:count], token]
            for drafts, count, token in zip(proposal.tokens.tolist(), accepted, following.tolist(), strict=True)
        ]
        sequences.put(accepted, following)
        for row, new, start, proposed in zip(running, emitted, sequences.lengths, proposal.drafted, strict=True):
            row.rounds.append(Round(int(start), int(proposed), len(new) - 1))
            row.emit(new, stop)
        sequences.lengths = sequences.lengths + accepted + 1
        drafter.emitted(emitted)


def _select(rows: list[_Row], sequences: Sequences, target: CachedModel, drafter: Drafter) -> list[_Row]:
    """The rows that go on; those that have ended leave the batch and its caches."""
    alive = np.flatnonzero([not row.ended for row in rows])
    if 0 < len(alive) < len(rows):
        for part in (sequences, target, drafter):
            part.select(alive)
    return [rows[at] for at in alive]


def _drafter(plan: _Plan, target: CachedModel, rows: list[_Row], vocabulary: int) -> Drafter:
    if plan.drafter == OWN_HEADS:
        return OwnHeads(target, plan.depth, plan.sampling, plan.k)
    if isinstance(plan.drafter, LoadedModel):
        return ModelDrafter(plan.drafter, plan.depth, plan.sampling, plan.k)
    return PromptLookup([row.tokens for row in rows], vocabulary)


def _check_prompts(models: Sequence[LoadedModel], prompts: Sequence[Sequence[int]], new_tokens: int) -> None:
    """Raises RequestError for no prompt, an empty one, or one that leaves no room in a model's context."""
    if not prompts or not all(map(len, prompts)):
        raise RequestError("decode needs prompts of at least one token each; pass some")
    longest = max(map(len, prompts)) + new_tokens
    for model in models:
        if (context := model.checkpoint.context) is not None and longest > context:
            raise RequestError(
                f"a prompt and {new_tokens} new tokens make {longest}, more than the context of {model.checkpoint.folder} "
                f"({context}); shorten the prompt or ask for fewer new tokens"
            )


def _now(device: torch.device) -> float:
    """Seconds, after all work queued on the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
