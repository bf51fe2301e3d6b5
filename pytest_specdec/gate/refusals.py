"""Numbers that look like a valid measurement but are not one: they are neither judged nor stored as
a baseline.
"""

from __future__ import annotations

import math

from ..acceptance.counts import Counts
from ..acceptance.reference_drafters import References
from ..cases.case import SERVED
from ..common.student import student_quantile
from ..records.conditions import Fingerprints
from .paired import Pair

DEAD = 0.05
"""Accepted tokens per round below which a drafter is called dead: no gate could detect that it got
worse.
"""
NOISE = 0.01
"""The acceptance length must be above one with confidence 1 - NOISE."""
IMPOSSIBLE = 1e-6
"""Chance, for a whole session, that a correct decoder is reported to accept more than its models
allow.
"""
LOOPING_SHARE = 0.25
"""Share of texts that may end in a loop."""
_SAME = 1e-6
"""Relative difference of two lengths that rounding explains."""


def same_model(fingerprints: Fingerprints) -> str | None:
    """Why a pair is refused: the drafter is the target itself. None for two models."""
    drafter, target = (name.split("-")[0] for name in (fingerprints.drafter, fingerprints.target))
    if drafter != target or drafter == SERVED:
        return None
    return (
        f"drafter and target are the same model (fingerprint {drafter}), so every draft is "
        "accepted and nothing is measured; name the draft model with --specdec-draft= or drafter="
    )


def dead_drafter(counts: Counts) -> str | None:
    """Why counts cannot become a baseline: their acceptance length is within noise of one. None
    where they can.
    """
    accepted, prompts = counts.expected_accepted, len(counts.prompts)
    cure = (
        "a dead drafter cannot become a baseline; check the drafter, its tokenizer and its prompts"
    )
    if not accepted > 0:
        return f"no draft token was ever accepted, and {cure}"
    if accepted < DEAD:
        return f"the acceptance length {1 + accepted:.4f} is within noise of 1, and {cure}"
    error = counts.standard_error
    if math.isnan(error) or accepted > _quantile(prompts) * error:
        return None
    enough = _prompts_to_tell(accepted, error * math.sqrt(prompts))
    return (
        f"{prompts} prompts are too few to tell the acceptance length {1 + accepted:.4f} from 1, "
        f"that of a dead drafter; use at least {enough} prompts like these"
    )


def no_better(counts: Counts, references: References) -> str | None:
    """Why counts cannot become a baseline: a drafter that knows nothing of the target gets as many
    tokens accepted. None where they can.
    """
    for name, reference in (
        ("uniform guesses", references.uniform),
        ("token frequencies of the other texts", references.unigrams),
    ):
        if counts.acceptance_length <= reference.acceptance_length * (1 + _SAME):
            return (
                f"the acceptance length {counts.acceptance_length:.4f} is no better than that of a "
                f"drafter that knows nothing ({name}: {reference.acceptance_length:.4f} on the "
                "same texts), so it cannot become a baseline; check that the drafter's weights "
                "were loaded, and its tokenizer"
            )
    return None


def below_lookup(counts: Counts, references: References) -> str | None:
    """A warning for a drafter with a smaller acceptance length than prompt lookup, which costs
    nothing; None for others.
    """
    lookup = references.lookup
    if lookup is None or counts.acceptance_length >= lookup.acceptance_length:
        return None
    return (
        "prompt lookup, which needs no model, has an acceptance length of "
        f"{lookup.acceptance_length:.4f} on the same texts, the drafter one of "
        f"{counts.acceptance_length:.4f}; check the drafter, or draft by prompt lookup"
    )


def _prompts_to_tell(accepted: float, spread: float) -> int:
    """Number of prompts with which `accepted` tokens per round differ from none; `spread` is the
    standard deviation of a prompt's share.
    """
    return next(
        (n for n in range(2, 100_000) if accepted > _quantile(n) * spread / math.sqrt(n)), 100_000
    )


def _quantile(prompts: int) -> float:
    return -student_quantile(NOISE, prompts)


def looping_texts(looping: int, texts: int) -> str | None:
    """Why texts do not measure a drafter: too many repeat themselves. None where they do."""
    if looping <= LOOPING_SHARE * texts:
        return None
    return (
        f"{looping} of {texts} texts end in a loop that any drafter can continue, so their "
        "acceptance is meaningless; use the chat template, a temperature above 0 or other prompts"
    )


def too_good(counts: Counts, expected: Counts, *, gates: int) -> str | None:
    """Why counts cannot be right: more tokens were accepted than the pair's own distributions allow
    on these texts. None where they can.

    `expected` is the replay of the emitted texts: given the texts, the mean over drafts of what a
    lossless decoder counts. Drafts drawn from another distribution than the q of the acceptance
    test raise acceptance silently.
    """
    pair = Pair.of(expected, counts)
    excess, error = -pair.length_drop, pair.standard_error()
    if not math.isfinite(error) or excess <= 1e-6 * expected.acceptance_length:
        return None
    critical = -student_quantile(IMPOSSIBLE / gates, pair.prompts)
    if excess <= critical * error:
        return None
    above = f"{excess / error:.1f} standard errors above" if error > 0 else "in every prompt"
    return (
        f"accepts {counts.acceptance_length:.4f} tokens per round where target and drafter allow "
        f"{expected.acceptance_length:.4f} on the same texts ({above}), so the decoder is wrong; "
        "check that drafts are drawn from the q that the acceptance test uses"
    )
