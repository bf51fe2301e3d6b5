"""Speculative generation with trees of drafts: draft, verify in one target pass, keep the accepted
path, repeat. One text at a time.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch

from ...acceptance.rounds import Round
from ...cases.case import Sampling
from ...cases.texts import texts_from_ids
from ...cases.tree import ROOT, Tree, tree_of
from ...cases.tree_rules import checked_tree_rule
from ...checkpoints.drafter_folders import check_drafts
from ..batch import BatchRow
from ..clock import Lap
from ..decode import Decoded
from ..distributions import check_logits, probabilities, sample
from ..drafters.protocol import Drafter
from ..drafters.registry import DrafterSource, loaded_pair
from ..loading import LoadedModel
from ..prompt_ids import prompt_ids
from ..replay import Progress
from ..sampling import ending_tokens
from .cached import TreeModel
from .drafting import DraftedNodes, cut, draft_tree
from .proposers import tree_proposer
from .rules import TreeRule, tree_rule_named


@dataclasses.dataclass(frozen=True)
class TreePlan:
    """All that the texts of one call share."""

    target: LoadedModel
    drafter: Drafter
    tree: Tree
    sampling: Sampling
    rule: TreeRule
    generator: torch.Generator
    stop: frozenset[int] = frozenset()


def decode_tree(
    target: str | LoadedModel,
    drafter: DrafterSource,
    prompts: Sequence[Sequence[int]] | Sequence[str],
    *,
    tree: Tree | str | Sequence[Sequence[int]],
    depth: int = 0,
    rule: str | None = None,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    new_tokens: int = 128,
    seed: int = 0,
    progress: Progress | None = None,
) -> Decoded:
    """Decode speculatively with trees of drafts and count every round.

    Parameters
    ----------
    target, drafter, prompts, temperature, top_k, top_p, new_tokens, seed, progress
        As for `decode`. Trees grow from draft models without MTP heads, the target's own MTP heads
        (``"mtp"``), and EAGLE-3, Medusa and Hydra heads.
    tree
        The tree of each round: ``"topk=4,depth=5,nodes=16"`` as EAGLE-2 grows it; a list of paths
        of places as Medusa writes them, ``[[0], [1], [0, 0]]``; the same as text,
        ``"0 1 0.0"``, with ``sampled`` or ``replacement`` after it where children are drawn; or a
        `StaticTree` or `DynamicTree`.
    depth
        MTP layers of ``"mtp"``; 0 for the others.
    rule
        ``"rejection"`` (recursive rejection sampling), the default above temperature 0;
        ``"greedy"`` at temperature 0; ``"specinfer"``, ``"traversal"``, ``"sample-match"``, or the
        lossy ``"naive"``.

    Returns
    -------
    Decoded
        Texts and rounds; a round's drafts are counted by depth, and k is the tree's depth.

    Raises
    ------
    RequestError
        For a pair, tree or rule that cannot be decoded.
    MeasurementError
        For a model that returns NaN or infinite logits.

    References
    ----------
    Miao et al., arXiv 2305.09781 (tree attention); docs/trees.md has those of rules and trees.

    Examples
    --------
    >>> from pytest_specdec import decode_tree
    >>> decoded = decode_tree(
    ...     "suites/models/text-target",
    ...     "suites/models/text-draft",
    ...     ["The function returns"],
    ...     tree="topk=2,depth=3,nodes=6",
    ...     new_tokens=16,
    ...     temperature=0,
    ... )
    >>> decoded.k, decoded.rounds[0][0].drafted
    (3, 3)
    """
    shape = tree_of(tree)
    model, drafting = loaded_pair(target, drafter, depth)
    check_drafts(drafter, shape.depth, drafting.most_drafts)
    ids = prompt_ids([model, *drafting.models], prompts, new_tokens)
    plan = TreePlan(
        target=model,
        drafter=drafting,
        tree=shape,
        sampling=Sampling(temperature, top_k, top_p),
        rule=tree_rule_named(checked_tree_rule(rule, shape, temperature)),
        generator=torch.Generator(model.device).manual_seed(seed),
        stop=frozenset(ending_tokens(model, None)),
    )
    rows, laps = [], list[Lap]()
    for done, prompt in enumerate(ids, 1):
        rows.append(BatchRow([*prompt], len(prompt) + new_tokens))
        laps += run_tree(plan, rows[-1])
        if progress:
            progress(done, len(ids))
    return Decoded(
        texts=texts_from_ids([row.tokens for row in rows], [len(prompt) for prompt in ids]),
        rounds=tuple(tuple(row.rounds) for row in rows),
        k=shape.depth,
        draft_ms=tuple(lap.draft_ms for lap in laps),
        verify_ms=tuple(lap.verify_ms for lap in laps),
    )


class TreeText:
    """One text as rounds extend it. The prompt pass emits the first token; then `draft` and
    `verify` take turns.
    """

    @torch.inference_mode()
    def __init__(self, plan: TreePlan, row: BatchRow) -> None:
        self._plan, self._row = plan, row
        self._target = TreeModel(
            plan.target,
            keeps_hidden=plan.drafter.reads_hidden,
            keeps_layers=plan.drafter.reads_layers,
        )
        self._proposer = tree_proposer(plan.drafter)
        prompt = torch.tensor(row.tokens, device=plan.target.device)
        logits = self._target.read(prompt)
        check_logits(logits)
        first = sample(logits, plan.sampling, plan.generator)
        self._proposer.read(torch.cat([prompt, first[None]]), self._target.states)
        self._newest = first
        row.emit([int(first)], plan.stop)
        self._drafted: DraftedNodes | None = None

    @property
    def running(self) -> bool:
        return not self._row.ended

    @torch.inference_mode()
    def draft(self) -> None:
        """Grow the round's tree, no deeper than the text has room for."""
        plan = self._plan
        tree = cut(plan.tree, self._row.room(plan.tree.depth))
        self._drafted = (
            None
            if tree is None
            else draft_tree(self._proposer, tree, plan.sampling, plan.generator)
        )

    @torch.inference_mode()
    def verify(self) -> None:
        """The target's pass over the tree, the rule, and all that a round leaves to do after
        them.
        """
        plan, row, drafted = self._plan, self._row, self._drafted
        parents = {ROOT: None} | ({} if drafted is None else dict(enumerate(drafted.parents)))
        fed = self._newest[None]
        if drafted is not None:
            fed = torch.cat([fed, drafted.tokens])
        logits = self._target.grow(list(parents), fed, parents)
        check_logits(logits)
        if drafted is None:
            path, following = list[int](), sample(logits[0], plan.sampling, plan.generator)
        else:
            path, following = plan.rule.verify(
                probabilities(logits, plan.sampling),
                drafted.distributions,
                drafted.tokens,
                drafted.parents,
                plan.generator,
            )
        self._target.keep([ROOT, *path])
        states = self._target.states
        if states is not None:
            states = states[torch.tensor([0, *(node + 1 for node in path)], device=states.device)]
        accepted = [] if drafted is None else drafted.tokens[path].tolist()
        emitted = torch.tensor([*accepted, int(following)], device=fed.device)
        self._proposer.read(emitted, states)
        self._newest = emitted[-1]
        room = row.room(plan.tree.depth)
        row.rounds.append(Round(len(row.tokens), room, min(len(path), room)))
        row.emit(emitted.tolist(), plan.stop)
        self._drafted = None


def run_tree(plan: TreePlan, row: BatchRow) -> list[Lap]:
    """Decode a text to its end, round by round."""
    text, laps = TreeText(plan, row), list[Lap]()
    while text.running:
        laps.append(Lap.of(text, plan.target.device))
    return laps
