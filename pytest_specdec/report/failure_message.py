"""The message of a verdict: metric, before, after, change, interval, and where the change is."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from ..acceptance.counts import Counts
from ..common.percent import percent, signed_percent
from ..gate.paired import Pair
from ..gate.verdict import Verdict

INTENDED = "  intended?  "
AND_THEN = "  and then   "
CREATE = "  create     "
"""How lines with commands begin that accept a change or create a baseline."""
_OPTIONS = {"target": "--specdec-target", "drafter": "--specdec-draft"}
"""What replaces a model for one session."""
_WORST = 3
_NOISE = 1e-4
"""Relative change of a position that is not reported."""


def explain(
    verdict: Verdict,
    *,
    case_id: str,
    update_command: str,
    prompt_names: Mapping[str, str],
    where: Sequence[str] = (),
    replaced_models: Mapping[str, str] = MappingProxyType({}),
    forget_command: str | None = None,
    describes_models: bool = True,
    has_baseline: bool = True,
) -> list[str]:
    """The message of a verdict, headline first, one fact per line.

    `where` are lines on single tokens; `replaced_models` is how the tests name a `target` or
    `drafter` that the session replaced; `forget_command` accepts erosion that is large enough to
    fail; without `describes_models` the test handed over counts alone; without `has_baseline` the
    command creates one.
    """
    accept = INTENDED if has_baseline else CREATE
    update = [] if verdict.eroded else [f"{accept}{update_command}"]
    if verdict.outcome == "inconclusive":
        update.insert(0, "  undecided  --specdec-inconclusive=warn lets such gates pass")
    if forget_command is not None:
        update.append(f"{AND_THEN if update else INTENDED}{forget_command}")
    update += [
        f"  afterwards {name} still names the old {role}, which a run without {_OPTIONS[role]} "
        "would measure; change it, too"
        for role, name in replaced_models.items()
    ]
    if verdict.pair is None:
        return [headline(verdict), f"  case       {case_id}", *update]
    estimate = verdict.estimate
    pair = verdict.pair if estimate is None or estimate.pair is None else estimate.pair
    lines = [
        headline(verdict),
        f"  case       {case_id}: {verdict.reason}",
        f"  changed    {_changed(verdict, describes_models)}",
    ]
    if verdict.eroded:
        return [*lines, *update]
    lines += [
        *_judged(verdict),
        *_parts(verdict),
        *_erosion(verdict),
        f"  positions  {_positions(pair.before, pair.now)}",
        *_categories(pair.before, pair.now),
        *_prompts(pair, prompt_names),
        *where,
    ]
    return [*lines, *_test(verdict, verdict.pair), *update]


def _changed(verdict: Verdict, describes_models: bool) -> str:
    """What differs from the baseline."""
    if verdict.changed:
        return "; ".join(verdict.changed)
    if not describes_models:
        return "not known: the test hands over counts, and states neither models nor environment"
    if verdict.eroded:
        return (
            "neither models nor environment since the last update; the loss is that of earlier "
            "updates"
        )
    return "neither models nor environment: look at the code"


def _test(verdict: Verdict, pair: Pair) -> list[str]:
    """What the permutation test found largest, and what it could have found."""
    lines = []
    if verdict.position is not None:
        metric = (
            f"survival at position {verdict.position}"
            if verdict.position
            else "the acceptance length"
        )
        lines.append(f"  test       the largest standardised drop is that of {metric}")
    if verdict.regime == "sampled":
        lines.append(
            f"  detectable {_detectable(verdict.smallest_detectable_drop)} with "
            f"{pair.prompts} prompts"
        )
    return lines


_PROMISES = {
    "same weights": "exactly: the same weights on the same texts, so any change is the code's",
    "another environment": "on the same texts; rounding differs, so a permutation test over "
    "prompts guards against chance",
    "drafter changed": "on the same texts, without sampling noise; the interval is for other "
    "prompts like these",
    "greedy drafter changed": "on the same texts by exact counts",
    "target changed": "on fresh texts of the new target, by a permutation test over prompts",
    "sampled": "on each run's own texts, by a permutation test over prompts",
}


def _judged(verdict: Verdict) -> list[str]:
    """How the drop was judged, and what else was measured where that is not the metric itself."""
    estimate = verdict.estimate
    if verdict.regime is None:
        return []
    if estimate is None or verdict.before is None or verdict.now is None or verdict.drop is None:
        return [f"  judged     {_PROMISES[verdict.regime]}"]
    measured = f"{verdict.before:.4f} -> {verdict.now:.4f} ({_change(verdict)})"
    if verdict.regime == "greedy drafter changed":
        return [
            f"  judged     {estimate.name}: exact counts jump where a near-tie of the draft flips; "
            "the lines exact, tokens and contexts are not smoothed",
            f"  exact      {measured}",
        ]
    share = estimate.effective_share
    effective = "" if share is None else f" (effective sample size: {100 * share:.0f} % of them)"
    lines = [
        f"  judged     {estimate.name}: rounds from all positions of the old target's "
        f"texts{effective}; these lengths are not those of whole texts",
        f"  fresh      whole texts, the old target's and the new one's: {measured}",
    ]
    if estimate.unseen > 0:
        lines.append(
            f"  unseen     tokens outside the old target's top-k or top-p may make up for "
            f"{signed_percent(estimate.unseen)} at most"
        )
    return lines


def _change(verdict: Verdict) -> str:
    assert verdict.drop is not None
    facts = signed_percent(-verdict.drop)
    if verdict.interval is not None and all(map(math.isfinite, verdict.interval)):
        low, high = verdict.interval
        facts += f"; 95 % interval {signed_percent(-high)} to {signed_percent(-low)}"
    return facts


def _parts(verdict: Verdict) -> list[str]:
    """The parts of acceptance and of costs in a speed-up whose costs changed."""
    if verdict.costs is None or verdict.pair is None:
        return []
    before, now = verdict.pair.before.acceptance_length, verdict.pair.now.acceptance_length
    return [
        f"  acceptance {signed_percent(now / before - 1)} (length {before:.4f} -> {now:.4f})",
        f"  costs      {verdict.costs.describe()}",
    ]


def _erosion(verdict: Verdict) -> list[str]:
    """How far it has eroded, where the reason does not say it already."""
    if verdict.erosion is None or verdict.eroded:
        return []
    return [f"  erosion    {verdict.erosion.describe()}"]


def headline(verdict: Verdict) -> str:
    """`acceptance_length regressed: 3.412 -> 3.341 (-2.08 %; 95 % interval ...), fails from -0.50
    %`.
    """
    if verdict.before is None or verdict.now is None or verdict.drop is None:
        return f"{verdict.metric} {verdict.outcome}: {verdict.reason}"
    verdict = _as_judged(verdict)
    facts = _change(verdict)
    if verdict.p_value is not None:
        facts += f"; p = {verdict.p_value:.2g}"
    limit = "" if verdict.limit is None else f", fails from {signed_percent(-verdict.limit)}"
    if verdict.eroded and verdict.erosion is not None:
        limit = f", erosion {signed_percent(-verdict.erosion.drop)}{limit}"
    return (
        f"{verdict.metric} {verdict.outcome}{_way(verdict)}: {verdict.before:.4f} -> "
        f"{verdict.now:.4f} ({facts}){limit}"
    )


def _way(verdict: Verdict) -> str:
    """How the numbers were measured, where they are not those of the texts."""
    return "" if verdict.estimate is None else f" ({verdict.estimate.name})"


def _as_judged(verdict: Verdict) -> Verdict:
    """The verdict with the numbers that decided in the place of those of the texts."""
    estimate = verdict.estimate
    if estimate is None:
        return verdict
    return dataclasses.replace(
        verdict,
        before=estimate.before,
        now=estimate.now,
        drop=estimate.drop,
        interval=estimate.interval,
    )


def summary(verdict: Verdict) -> str:
    """`acceptance_length regressed -2.65 %: 3.641 -> 3.544`, for a line that also names the test,
    and that terminals cut off at its end.
    """
    verdict = _as_judged(verdict)
    if verdict.before is None or verdict.now is None or verdict.drop is None:
        return f"{verdict.metric} {verdict.outcome}: {verdict.reason}"
    change = signed_percent(-verdict.drop)
    if verdict.eroded and verdict.erosion is not None:
        change += f", erosion {signed_percent(-verdict.erosion.drop)}"
    return (
        f"{verdict.metric} {verdict.outcome} {change}{_way(verdict)}: {verdict.before:.3f} -> "
        f"{verdict.now:.3f}"
    )


def _positions(before: Counts, now: Counts) -> str:
    """Conditional acceptance per position, worst first: unlike survival it falls only at the
    position that lost acceptance.
    """
    pairs = zip(before.conditional, now.conditional, strict=True)
    changes = [
        (new / old - 1, place, old, new) for place, (old, new) in enumerate(pairs, 1) if old > 0
    ]
    losses = sorted(change for change in changes if change[0] < -_NOISE)
    if not losses:
        return "conditional acceptance fell nowhere"
    return "conditional acceptance fell at " + ", ".join(
        f"{place} ({old:.3f} -> {new:.3f}, {signed_percent(change)})"
        for change, place, old, new in losses[:_WORST]
    )


def _categories(before: Counts, now: Counts) -> list[str]:
    """The change of each category, worst first; no line where all prompts are of one."""
    after = now.by_category()
    if len(after) == 1:
        return []
    pairs = [(name, old, after[name]) for name, old in before.by_category().items()]
    changes = sorted(
        (new.acceptance_length / old.acceptance_length - 1, name)
        for name, old, new in pairs
        if old.total_rounds > 0 and new.total_rounds > 0
    )
    named = ", ".join(f"{name} {signed_percent(change)}" for change, name in changes)
    return [f"  categories {named}"]


def _prompts(pair: Pair, names: Mapping[str, str]) -> list[str]:
    before, now = pair.before, pair.now
    worst = (-pair.influence()).argsort().tolist()
    several = len(set(before.categories)) > 1
    lines = []
    for row in worst[:_WORST]:
        old, new = before.select([row]), now.select([row])
        if new.acceptance_length < old.acceptance_length:
            name = names.get(before.prompts[row], before.prompts[row])
            category = f" ({before.categories[row]})" if several else ""
            lines.append(
                f"  lost most  {name}{category}: {old.acceptance_length:.2f} -> "
                f"{new.acceptance_length:.2f}"
            )
    return lines


def _detectable(drop: float | None) -> str:
    return "no drop has 80 % power" if drop is None else f"a drop of {percent(drop)} at 80 % power"
