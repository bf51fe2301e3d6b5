"""What is measured: one frozen `Case`, and the names that everything else derives from it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from .drafter import LOOKUP as LOOKUP
from .drafter import OWN_HEADS as OWN_HEADS
from .drafter import SERVED as SERVED
from .drafter import (
    DrafterSpec,
    DraftModelSpec,
    OwnHeadsSpec,
    PromptLookupSpec,
    ServedSpec,
    kind_of,
)
from .drafting import AS_TARGET, DraftSampling
from .processors import ProcessorSpec
from .prompts import Prompt, read_prompts
from .rules import LOSSY_RULES as LOSSY_RULES
from .rules import RULES as RULES
from .rules import checked_rule as checked_rule
from .rules import default_rule as default_rule
from .rules import is_lossy as is_lossy
from .rules import known_rule as known_rule
from .sampling import Sampling as Sampling
from .template_flags import TemplateFlags, with_flags
from .tree import Tree
from .tree_rules import is_lossy_tree

DEFINITION = "acceptance/1"
"""Id of the counting rules below; it is stored in every baseline and never compared across.

A round proposes k draft tokens; m of them, a prefix, are accepted; m + 1 are emitted. The prompt
pass emits the first new token without drafts. Only rounds whose k draft positions all lie inside
the text are counted. Averages over prompts are pooled: sums are divided, never means averaged.
"""

REPLAYING = ("replay", "logprobs", "hidden-states")
"""Engines that replay texts, stored and reused: unlike those that decode, they give the same counts
every time.
"""

TRACE = "trace"
"""The engine that is a recorded run."""

MEASURE = "measure"
"""In place of a cost profile's file: measure the loaded pair in this session."""


@dataclasses.dataclass(frozen=True)
class JudgedRange:
    """The tokens that are drafted and judged, for instance a speech model's audio tokens.

    Tokens outside the range are treated as given: they are neither drafted nor counted.
    """

    first: int
    """Smallest token id judged."""
    end: int
    """One more than the largest one."""
    every: int = 1
    """One in so many new tokens is judged, the last of each such step."""

    @property
    def name(self) -> str:
        """For file names: `ids41-296`."""
        return f"ids{self.first}-{self.end - 1}"

    def __str__(self) -> str:
        return f"{self.first}:{self.end}:{self.every}"

    def __contains__(self, token: int) -> bool:
        return self.first <= token < self.end

    def heads(self, depth: int) -> int:
        """Judged tokens that one pass of a draft model with `depth` MTP layers yields; the given
        ones cost it layers.
        """
        return 1 + depth // self.every


def settings_name(
    sampling: Sampling, processors: str | None, target: str | None = None, flags: str | None = None
) -> str:
    """Sampling settings, processors, and where there are several the target and the template's
    flags by name, for file names: `t1-rep1.1`.
    """
    return "-".join(filter(None, [sampling.suffix, processors, target, flags]))


def texts_name(settings: str, new_tokens: int, seed: int, *, served: bool) -> str:
    """File stem of stored texts, for example `t1-n128-s0`."""
    return f"{settings}-n{new_tokens}-s{seed}{'-served' * served}"


@dataclasses.dataclass(frozen=True)
class TextKey:
    """Which texts Y a case is replayed on; cases that agree here share texts and the target's
    pass.
    """

    suite: str
    target: str
    prompts: Path
    prompt_limit: int | None
    new_tokens: int
    temperature: float
    seed: int
    top_k: int = 0
    top_p: float = 1.0
    served: bool = False
    """Whether a served target emits them; they are kept apart from those of models in this
    process.
    """
    processors: ProcessorSpec | None = None
    """Logits processors of target and drafter."""
    target_name: str = ""
    """The target's folder, where a test measures several targets."""
    flags: TemplateFlags | None = None
    """What the target's chat template is rendered with."""

    @property
    def sampling(self) -> Sampling:
        """Without the processors, which come before it."""
        return Sampling(self.temperature, self.top_k, self.top_p)

    @property
    def processors_name(self) -> str | None:
        """The processors as stored files name them."""
        return None if self.processors is None else self.processors.name

    @property
    def settings(self) -> str:
        """For file names: sampling settings and processors, for example `t1-rep1.1`."""
        return settings_name(self.sampling, self.processors_name, self.target_name, self.flags_name)

    @property
    def flags_name(self) -> str | None:
        """The template's flags as stored files name them."""
        return None if self.flags is None else self.flags.name

    def read_prompts(self) -> tuple[Prompt, ...]:
        """The prompts, with the template's flags. Raises RequestError as `prompts.read_prompts`."""
        prompts = read_prompts(self.prompts, self.prompt_limit)
        return with_flags(prompts, self.flags, str(self.prompts))

    @property
    def name(self) -> str:
        """File stem of the stored texts, for example `t1-n128-s0`."""
        return texts_name(self.settings, self.new_tokens, self.seed, served=self.served)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
    """One cell of a suite: a pair of models, k, depth, rule and temperature on a set of prompts."""

    texts: TextKey
    drafter: DrafterSpec
    """Who drafts."""
    label: str
    """The drafter's name in ids and file names; stable when `--specdec-draft` points elsewhere."""
    k: int
    depth: int
    rule: str
    margin: float
    costs: Path | str | None = None
    """Cost profile: a file, or `measure`."""
    engine: str = "replay"
    judged: JudgedRange | None = None
    """Which tokens are drafted; None for all."""
    erosion: float | None = None
    """The relative drop below the best of the last baselines that fails it; None for no limit."""
    batch: int | None = None
    """Texts decoded at once, or requests to a server at once, where that is one of several sizes
    with a baseline each; None for as many as the engine decodes by itself.
    """
    drafting: DraftSampling = AS_TARGET
    """How drafts are drawn, where that is not as the target's tokens are."""
    tree: Tree | None = None
    """The tree of drafts of each round, whose depth `k` is then; None for chains."""
    candidate: str = ""
    """The name of one of several drafters that the session compares with each other, and not with
    baselines; empty for a drafter of its own.
    """

    @property
    def describes_models(self) -> bool:
        """Whether the case names its models, prompts and sampling settings; not where a test hands
        over counts alone, see `counts_case`.
        """
        return True

    @property
    def suite(self) -> str:
        return self.texts.suite

    @property
    def target(self) -> str:
        return self.texts.target

    @property
    def temperature(self) -> float:
        return self.texts.temperature

    @property
    def uses_own_heads(self) -> bool:
        return isinstance(self.drafter, OwnHeadsSpec)

    @property
    def uses_lookup(self) -> bool:
        return isinstance(self.drafter, PromptLookupSpec)

    @property
    def draft_model(self) -> str | None:
        """Checkpoint folder or hub id of the drafter where it is a causal language model of its
        own; `served` where only a server has it.
        """
        if isinstance(self.drafter, DraftModelSpec | ServedSpec):
            return str(self.drafter)
        return None

    @property
    def drafter_name(self) -> str:
        """The drafter in records: `draft` for a draft model, else the name of its type."""
        return kind_of(self.drafter)

    @property
    def name(self) -> str:
        """File stem of the baseline: `text-draft-k8-depth3-t1`, and what is not the default:
        `...-block-decode`. A candidate's has its name after the label: `draft@ckpt-3000-k8-...`.
        """
        rule = [self.rule] * (self.rule != default_rule(self.temperature)) + ["lossy"] * (
            self.lossy
        )
        engine = [self.engine] * (self.engine != "replay")
        judged = [self.judged.name] if self.judged else []
        batch = [] if self.batch is None else [f"batch{self.batch}"]
        drafting = [self.drafting.name] * (not self.drafting.as_target)
        drafter = f"{self.label}@{self.candidate}" if self.candidate else self.label
        return "-".join(
            [
                f"{drafter}-k{self.k}-depth{self.depth}-{self.texts.settings}",
                *([] if self.tree is None else [self.tree.name]),
                *drafting,
                *judged,
                *rule,
                *engine,
                *batch,
            ]
        )

    @property
    def lossy(self) -> bool:
        """Whether the rule's output does not follow the target."""
        return is_lossy(self.rule) if self.tree is None else is_lossy_tree(self.rule, self.tree)

    @property
    def id(self) -> str:
        """Unique in a session: suite and name."""
        return f"{self.suite}/{self.name}"

    @property
    def comparison(self) -> str:
        """What candidates that are compared with each other share: their id without the name."""
        return dataclasses.replace(self, candidate="").id

    @property
    def heads(self) -> int:
        """Heads that draft: the model's own and its MTP layers, or the target's layers; 0 for other
        types of drafters.
        """
        if self.draft_model is None and not self.uses_own_heads:
            return 0
        if self.judged is not None:
            return (
                self.depth // self.judged.every
                if self.uses_own_heads
                else self.judged.heads(self.depth)
            )
        return self.depth + (not self.uses_own_heads)

    @property
    def verified(self) -> int:
        """Tokens of the stream in one verification: the k judged ones and those given between
        them.
        """
        if self.tree is not None:
            return self.tree.nodes
        return self.k if self.judged is None else self.k * self.judged.every

    @property
    def steps(self) -> int:
        """Steps of the longest chain of drafts of a round."""
        return self.verified if self.tree is None else self.k

    @property
    def chain_rule(self) -> str:
        """The rule, for trees the one of chains that comes closest."""
        return self.rule if self.tree is None else default_rule(self.temperature)

    @property
    def drafted(self) -> int:
        """Tokens of the stream that a round's drafting passes make, those at given places
        included; of a tree the passes alone, one for each level.
        """
        if self.tree is not None:
            return self.k
        if self.judged is None or self.draft_model is None:
            return self.verified
        return -(-self.k // self.judged.heads(self.depth)) * (1 + self.depth)
