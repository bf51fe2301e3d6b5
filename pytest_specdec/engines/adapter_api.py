"""What an external engine's adapter reports, before anything is checked or normalised.

An adapter has its engine emit texts and passes on the engine's own numbers unchanged, together with
how that engine counts (`CountingConvention`). `counting.checks` finds numbers that contradict
each other, `counting.normalise` makes counts of the others.
"""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, NamedTuple, Protocol

from ..cases.case import Sampling
from ..cases.drafter import EAGLE3, LOOKUP, OWN_HEADS, SERVED
from ..cases.prompts import Prompt
from ..cases.tree import DynamicTree

Progress = Callable[[str, int, int], None]
"""Progress: (what, texts done, texts in all)."""


def no_progress(what: str, done: int, total: int) -> None:
    """Report nothing."""


DrafterKind = Literal["model", "mtp", "eagle3", "prompt-lookup"]
"""Kinds of drafters: a draft model, the target's own MTP heads, an EAGLE-3 head, the text itself.
"""


class ReportedRound(NamedTuple):
    """One verification as the engine reports it: draft tokens proposed, and how many of them were
    accepted.
    """

    drafted: int
    accepted: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Totals:
    """An engine's sums, over one request or over a whole run."""

    rounds: int | None
    """Rounds that drafted anything; None where the engine does not count them."""
    drafted: int
    accepted: int
    per_position: tuple[int, ...] | None = None
    """How many rounds accepted draft position 0, 1, ...; None where the engine does not report it.
    """


@dataclasses.dataclass(frozen=True, kw_only=True)
class Counters:
    """The engine's own names of its numbers, for messages: the reader can look them up in its log
    or documentation.
    """

    rounds: str = "rounds"
    drafted: str = "drafted"
    accepted: str = "accepted"
    per_position: str = "per_position"


@dataclasses.dataclass(frozen=True, kw_only=True)
class CountingConvention:
    """How an engine counts. The same for all texts of a run."""

    prefill_drafts: bool = False
    """Whether the prompt pass already verifies drafts; else it emits the first new token by
    itself.
    """
    end: Literal["clipped", "full"] = "clipped"
    """Near the length limit: `clipped` drafts only what can still be emitted, `full` counts k
    drafts in every round.
    """
    undelivered: bool = False
    """Whether the last round's accepted tokens may lie after the text's end (an EOS token, or
    `full`).
    """
    counts_empty: bool = False
    """Whether rounds with nothing proposed are among the rounds."""
    argmax_drafts: bool = False
    """Whether drafts are the drafter's likeliest tokens at every temperature, as in vLLM and
    llama.cpp; else draws from q.
    """
    ngrams: tuple[int, int] | None = None
    """Tokens of the shortest and longest n-gram that prompt lookup looks up; None where the engine
    does not report them.
    """
    counters: Counters = Counters()


@dataclasses.dataclass(frozen=True)
class TextEnds:
    """What ends the texts of a run before their length limit, where it is not the target's own EOS
    alone.
    """

    eos: tuple[int, ...] | None = None
    """Token ids that end a text; empty where the engine ignores EOS; None for the
    target's own.
    """
    stop: tuple[int | str, ...] = ()
    """Further token ids, and strings."""


@dataclasses.dataclass(frozen=True)
class Timings:
    """What the engine or its client measured; None for what it did not."""

    seconds: float
    """From the request to its last token."""
    draft_ms: tuple[float, ...] | None = None
    """Of each round."""
    verify_ms: tuple[float, ...] | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reported:
    """One prompt's text and what the engine counted while it emitted it.

    `rounds` is the best an engine can give; `totals` is this request's own sums. Both None where
    the engine counts for all requests together: then a `PooledCounters` follows the last text.
    """

    key: str
    """The prompt's."""
    prompt_ids: tuple[int, ...]
    """As the engine read it; empty where it is not reported, and then there is no oracle."""
    new_ids: tuple[int, ...]
    """As emitted, EOS included; empty where the engine gives no ids, and then `emitted` is
    their number.
    """
    convention: CountingConvention
    rounds: tuple[ReportedRound, ...] | None = None
    totals: Totals | None = None
    emitted: int | None = None
    """New tokens, where the ids are not known."""
    timings: Timings | None = None
    altered: str | None = None
    """A mode that makes the text or the counts no measurement of these models: `synthetic
    acceptance 0.8,0.5,0.25`.
    """
    where: str = ""
    """What to name in a message: `trace.jsonl:3`, `request 3 of http://localhost:8000`."""
    finish: str | None = None
    """Why the text ends, as reported: `stop` (EOS or a declared stop) or `length`; None where the
    engine does not report it.
    """
    ends: TextEnds = TextEnds()
    masks: tuple[tuple[tuple[int, int], ...] | None, ...] | None = None
    """Allowed token ids of each new token, as ranges of a first and a last id, None where all are;
    None where no masks were applied.
    """
    masked_drafts: bool = True
    """Whether the drafter's logits were masked, too."""

    @property
    def tokens(self) -> int:
        """New tokens emitted."""
        return len(self.new_ids) if self.emitted is None else self.emitted


@dataclasses.dataclass(frozen=True)
class PooledCounters:
    """Sums over all texts of a run, from an engine that counts no finer."""

    totals: Totals
    convention: CountingConvention
    where: str = ""


RULES = ("greedy", "rejection")
"""The rules of every engine: the arg-max when greedy, else rejection sampling or a rule with the
same distribution.
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Capabilities:
    """What an adapter supports. It is read before anything is run: what the adapter cannot do is
    refused, never left out.

    Fields that a case can require have no default, so every adapter declares them.
    """

    drafters: tuple[DrafterKind, ...]
    rules: tuple[str, ...]
    """Verification rules."""
    draft_depth: bool
    """Whether a draft model's MTP layers draft (depth above 0); else it drafts as a plain model."""
    samples: bool
    """Whether it can decode at a temperature above 0."""
    filters: bool
    """Whether it takes top-k and top-p."""
    most: int | None = None
    """Most draft tokens of a round; None without a limit."""
    all_heads: bool = True
    """Whether own MTP heads draft with as many layers as there are, up to k; else with as many as
    the case's depth says.
    """
    per_round: bool = False
    per_request: bool = False
    """Sums of each request by itself."""
    pooled: bool = False
    """Sums over the run only."""
    per_position: bool = False
    timings: bool = False
    batches: bool = False
    """Whether it decodes several texts at once."""
    trees: bool = False
    """Whether it drafts dynamic trees, and says which."""
    url: Literal["needed", "refused", "optional"] = "refused"
    """Whether `--specdec-url` must be given."""
    loads: bool = False
    """Whether it loads the target's and drafter's folders in this process; else they are at the
    server.
    """
    wants_ids: bool = True
    """Whether prompts go to it as token ids, where there is a tokenizer."""


@dataclasses.dataclass(frozen=True)
class PromptRequest:
    """One prompt to be continued."""

    prompt: Prompt
    ids: tuple[int, ...] | None
    """By the target's own tokenizer, BOS included, to be sent unchanged; None without a
    tokenizer.
    """

    @property
    def key(self) -> str:
        return self.prompt.key


@dataclasses.dataclass(frozen=True, kw_only=True)
class GenerationRequest:
    """All texts of one case, `batch` of them at once, each with a seed of its own: `seed_of`."""

    prompts: Sequence[PromptRequest]
    k: int
    depth: int
    target: str
    """Checkpoint folder or hub id."""
    drafter: str
    """Checkpoint folder or hub id, `mtp`, `prompt-lookup`, or `eagle3:FOLDER` (`eagle3` where only
    a server has the head).
    """
    sampling: Sampling
    new_tokens: int
    seed: int
    rule: str
    tree: DynamicTree | None = None
    """The tree of drafts of each round, whose depth is `k`; only where the adapter's capabilities
    say `trees`.
    """
    batch: int = 1
    """Texts decoded at once; above 1 only where the adapter's capabilities say `batches`."""

    @property
    def drafter_kind(self) -> DrafterKind:
        """What `drafter` names."""
        if self.drafter == OWN_HEADS:
            return "mtp"
        if self.drafter == LOOKUP:
            return "prompt-lookup"
        return "eagle3" if self.drafter.partition(":")[0] == EAGLE3 else "model"

    @property
    def drafter_files(self) -> str | None:
        """The folder or hub id of a draft model, the folder of an EAGLE-3 head; None for a drafter
        without files of its own, and for one that only a server has.
        """
        if self.drafter_kind == "eagle3":
            return self.drafter.partition(":")[2] or None
        return self.drafter if self.drafter_kind == "model" and self.drafter != SERVED else None

    def seed_of(self, prompt: PromptRequest) -> int:
        """A prompt's own seed, another one for each prompt and each run; 31 bits, which every
        engine takes.
        """
        return zlib.crc32(f"{self.seed} {prompt.key}".encode()) >> 1


@dataclasses.dataclass(frozen=True)
class EngineSetup:
    """What an adapter is made with, once per session."""

    url: str | None = None
    """`--specdec-url`: a server, or a trace's file."""
    device: str = "auto"
    dtype: str = "float32"
    model: Callable[[str], Any] | None = None
    """Loads a checkpoint into this process with torch, once a session: a `LoadedModel`."""
    report: Progress = no_progress


class Adapter(Protocol):
    """An external engine. The registry makes it as `factory(setup)`; it loads nothing before it is
    run.
    """

    capabilities: Capabilities

    @property
    def name(self) -> str:
        """As on the command line."""

    def version(self) -> str:
        """The engine's version, like `0.32.0`. Raises SpecdecError where the engine cannot be
        reached or imported.
        """

    def run(self, request: GenerationRequest) -> Iterator[Reported | PooledCounters]:
        """Texts one by one, in the order of the prompts, so that what was measured before a fault
        is kept.

        Raises SpecdecError with one message that ends with what to do.
        """

    def close(self) -> None:
        """Release what is held; never raises."""
