"""Defects of sampling that texts or counts show only under some settings, as patches of our
decoder: what table B judges.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from museum.defects import Defect, Patch

from pytest_specdec.cases.case import Sampling
from pytest_specdec.decoding import batch
from pytest_specdec.decoding import verification as rules
from pytest_specdec.decoding.distributions import filtered
from pytest_specdec.decoding.drafters.drafts import Drafts

RAW = Sampling()
"""Neither temperature nor filters."""


@dataclasses.dataclass(frozen=True)
class SamplingDefect:
    """A defect, where it was found, and what conformance should call it."""

    name: str
    mechanism: str
    defect: Defect
    source: str = ""
    """The issue that reports it: `owner/repository#number`."""
    cause: str = ""
    """What the message of conformance names; empty where the texts are right and only the oracle
    sees it.
    """


def raw_q(patch: Patch) -> None:
    """Drafts are drawn after temperature and filters, and their q is reported from before."""
    take = Drafts.take

    def broken(self: Drafts, logits: torch.Tensor) -> None:
        take(self, logits)
        if self._kept:
            self._kept[-1] = filtered(logits, RAW)

    patch.setattr(Drafts, "take", broken)


def softmax_q(patch: Patch) -> None:
    """Drafts are arg-maxima, and their q is reported as if they had been drawn."""
    take = Drafts.take

    def broken(self: Drafts, logits: torch.Tensor) -> None:
        take(self, logits.masked_fill(logits < logits.max(-1, keepdim=True).values, -torch.inf))
        if self._kept:
            self._kept[-1] = filtered(logits, self._sampling)

    patch.setattr(Drafts, "take", broken)


def ignored_settings(patch: Patch) -> None:
    """The drafter draws and reports without temperature and filters: lossless, and slower than its
    models allow.
    """
    start = Drafts.__init__

    def broken(self: Drafts, *arguments: Any) -> None:
        start(self, *arguments)
        if self._sampling.temperature > 0:
            self._sampling = RAW

    patch.setattr(Drafts, "__init__", broken)


def unfiltered_bonus(patch: Patch) -> None:
    """The token after full acceptance is drawn before temperature and filters."""
    probabilities = batch.probabilities

    def broken(logits: torch.Tensor, sampling: Sampling) -> torch.Tensor:
        distributions = probabilities(logits, sampling)
        if sampling.temperature > 0:
            distributions[:, -1] = probabilities(logits[:, -1], RAW)
        return distributions

    patch.setattr(batch, "probabilities", broken)


def recovered_from_p(patch: Patch) -> None:
    """After a rejection the token is drawn from p, not from the residual."""

    def broken(
        target: torch.Tensor, draft: torch.Tensor, tokens: torch.Tensor, generator: rules.Generator
    ) -> rules.Verified:
        accepted, _ = rules.rejection(target, draft, tokens, generator)
        return accepted, rules.draw(rules._at(target, accepted), generator)

    patch.setattr(rules, "REJECTION", dataclasses.replace(rules.REJECTION, verify=broken))


def small_q(patch: Patch) -> None:
    """Q is taken a tenth too small in the acceptance test and in the residual."""

    def broken(
        target: torch.Tensor, draft: torch.Tensor, tokens: torch.Tensor, generator: rules.Generator
    ) -> rules.Verified:
        return rules.rejection(target, 0.9 * draft, tokens, generator)

    patch.setattr(rules, "REJECTION", dataclasses.replace(rules.REJECTION, verify=broken))


SAMPLING_DEFECTS = (
    SamplingDefect(
        "q before temperature and filters",
        "drafts are drawn after temperature and filters, their q is reported from before",
        raw_q,
        "huggingface/transformers#47932",
    ),
    SamplingDefect(
        "arg-max drafts, softmax q",
        "drafts are arg-maxima, their q is reported as if they had been drawn",
        softmax_q,
    ),
    SamplingDefect(
        "drafter ignores the settings",
        "the drafter draws without temperature and filters; the text is right",
        ignored_settings,
    ),
    SamplingDefect(
        "bonus token unfiltered",
        "the token after full acceptance is drawn before temperature and filters",
        unfiltered_bonus,
    ),
    SamplingDefect(
        "recovered token from p",
        "after a rejection the token is drawn from p, not the residual",
        recovered_from_p,
    ),
    SamplingDefect(
        "q a tenth too small",
        "the acceptance test and the residual take q a tenth too small",
        small_q,
    ),
)
