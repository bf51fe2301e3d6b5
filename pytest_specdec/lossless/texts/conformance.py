"""Losslessness from an engine's text alone: its tokens against the target's teacher-forced
distributions.

Sampled texts are judged by a test martingale (`martingale`), greedy ones by their divergences
(`greedy_divergence`). The distributions are taken batch by batch; only a few numbers per
token are kept.
"""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Literal

import numpy as np
import torch

from ...acceptance.rounds import Round
from ...cases.case import Sampling
from ...cases.texts import Text
from ...decoding.loading import LoadedModel
from ...decoding.named_processors import ProcessorSource
from ..budget import check_alpha
from .causes import Cause, likely_causes, named, roles_of
from .greedy_divergence import Divergence
from .histories import Drafts
from .martingale import Draws, evidence, uniformity
from .preparation import prepare
from .processed_logits import WRONG_ROWS
from .readable import FORBIDDEN
from .readable import Violation as Violation
from .teacher_forcing import new_places
from .text_judge import JudgedTexts, JudgedTokens
from .token_scores import END_ODDS


@dataclasses.dataclass(frozen=True)
class Conformance:
    """Whether texts are what the target would emit. Natural reading: `assert found.conforms,
    found.message`.
    """

    sampling: Sampling
    alpha: float
    texts: int
    tokens: int
    """New tokens that were scored."""
    z: float = 0.0
    """Standardised surprisal, about standard normal for a lossless engine; 0 at temperature 0."""
    uniformity: float = 1.0
    """Kolmogorov-Smirnov p-value of the randomised transforms; reported, not judged. 1 at
    temperature 0.
    """
    evidence: float = 1.0
    """Highest value of the test martingale over the tokens that the target can emit."""
    suspect: str = ""
    """The bets that paid most: what the texts look like."""
    crossed: tuple[int, int] | None = None
    """Text and position at which the martingale reached 1 / alpha."""
    violations: tuple[Violation, ...] = ()
    divergences: tuple[Divergence, ...] = ()
    """At temperature 0, in each text up to its first that is not a tie: after it the text is a
    different one.
    """
    causes: tuple[Cause, ...] = ()
    """Where texts violate and the rounds are known: the defects that explain them best and cannot
    be distinguished.
    """
    ties: int = 0
    """Tokens that only a numerical tie explains: with the arg-max, or at the cut-off of top-k or
    top-p.
    """
    unbet: str = ""
    """Where logits processors failed after the histories of wrong engines, so that nothing was bet
    on these: how often, and the commonest error.
    """

    @property
    def bugs(self) -> tuple[Divergence, ...]:
        """The divergences that are not ties."""
        return tuple(divergence for divergence in self.divergences if not divergence.tie)

    @property
    def e_value(self) -> float:
        """The evidence; infinite for what a lossless engine cannot emit."""
        return math.inf if self.violations or self.bugs else self.evidence

    @property
    def p_value(self) -> float:
        """1 / e-value, at most 1: valid at any time by Ville's inequality."""
        return min(1.0, 1.0 / self.e_value)

    @property
    def conforms(self) -> bool:
        return self.e_value < 1 / self.alpha

    @property
    def verdict(self) -> Literal["conforms", "violates"]:
        return "conforms" if self.conforms else "violates"

    @property
    def _wrong_rows(self) -> bool:
        """Whether the texts are most like those of wrong rows or histories of processors."""
        return self.suspect.removeprefix("some tokens: ") in WRONG_ROWS

    @property
    def message(self) -> str:
        """One sentence: where the texts leave the target, and what to do."""
        if self.violations:
            first = self.violations[0]
            explained = f"; it is most like {named(self.causes)}" if self.causes else ""
            return (
                f"text {first.text} emits token {first.token} at position {first.position}, "
                f"{first.reason}{explained}"
            )
        if self.bugs:
            bug = self.bugs[0]
            if math.isinf(bug.gap):
                return (
                    f"text {bug.text} leaves the target at position {bug.position}: token "
                    f"{bug.token}, {FORBIDDEN}"
                )
            return (
                f"text {bug.text} leaves the target at position {bug.position}: token {bug.token}, "
                f"{bug.gap:.3g} logits below the arg-max {bug.expected} and so no tie; decode the "
                "text without a drafter, and look at the round at that position if it differs there"
            )
        if self.crossed is not None:
            text, position = self.crossed
            crossing = (
                f"the texts are not draws from the target: evidence reaches {1 / self.alpha:.4g} "
                f"at text {text}, position {position}"
            )
            if self.causes:
                return f"{crossing}, and what the rounds emit is most like {named(self.causes)}"
            settings = (
                "temperature, top-k and top-p are those passed here, then its verification rule"
            )
            if self.suspect in END_ODDS:
                settings = "EOS tokens, stops and least length are the target's own"
            if self._wrong_rows:
                settings = (
                    "logits processors see, for each row, the prompt, the emitted tokens and the "
                    "drafts before it, each once"
                )
            return (
                f"{crossing}, and is most like {self.suspect}; check that the engine's {settings}"
            )
        conform = f"{self.tokens} tokens of {self.texts} texts conform to the target"
        return f"{conform}; {self.unbet or 'nothing to do'}"

    def report(self) -> str:
        """One short paragraph for a log."""
        scored = (
            f"{self.verdict}: {self.tokens} tokens of {self.texts} texts at {self.sampling.suffix}"
        )
        ties = f", {self.ties} numerical ties" if self.ties else ""
        ending = "" if self.conforms else f" {self.message[0].upper()}{self.message[1:]}."
        unbet = f"; {self.unbet}" if self.unbet else ""
        if self.sampling.temperature == 0:
            return f"{scored}, {len(self.bugs)} texts leave the arg-max{ties}.{ending}"
        return (
            f"{scored}, evidence {self.e_value:.3g} of {1 / self.alpha:.4g} (p "
            f"{self.p_value:.2g}), surprisal z {self.z:+.2f}, "
            f"transforms uniform at p {self.uniformity:.2g}{ties}{unbet}.{ending}"
        )


@torch.inference_mode()
def conformance(
    target: str | LoadedModel,
    sequences: Sequence[Text] | Sequence[Sequence[int]],
    *,
    prompt_lengths: Sequence[int] | None = None,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    drafter: str | LoadedModel | None = None,
    alpha: float = 0.01,
    seed: int = 0,
    tolerance: float | None = None,
    rounds: Sequence[Sequence[Round]] | None = None,
    new_tokens: int | None = None,
    processors: ProcessorSource = None,
    drafts: Sequence[Drafts] | None = None,
) -> Conformance:
    """Judge whether an engine's texts follow the target.

    Parameters
    ----------
    target
        The target model: a path, a hub id, or loaded.
    sequences
        `Text`s, or token ids of prompt and new tokens together with `prompt_lengths`. Sampled texts
        must be independent of each other: give each request its own seed. A text is read up to
        its first new EOS token, which is judged too: whether texts end as often as the target's.
        The order of the texts is the order of the evidence.
    prompt_lengths
        Number of prompt tokens of each sequence of token ids.
    temperature, top_k, top_p
        The engine's sampling settings.
    drafter
        The draft model that the engine used, if any: bets are then also laid on what wrong
        verification rules emit. Its distribution need not be the engine's for `alpha` to hold.
    alpha
        The probability with which a lossless engine `violates`, at most. At temperature 0 neither
        drafter nor alpha matters.
    seed
        Breaks ties of ranks.
    tolerance
        How far the gap of two logits may differ from the engine's; by default that of the target's
        dtype in `TOLERANCES`. Pass the engine's where its dtype is coarser.
    rounds
        The rounds of each text, as in `Decoded.rounds` and verified by rejection sampling. Texts
        that violate are then also explained: `causes` names the defects that fit what each round
        emitted. Without processors, verdict and evidence do not depend on them; with some, bets are
        also laid on histories that hold an accepted draft twice, a rejected one, or none of the
        round.
    new_tokens
        The most new tokens that were asked for, the same for every text. Then a token after EOS, a
        text beyond the limit, and one that ends before it without EOS are violations. Leave it out
        for texts that are padded, that other stops end, or that ignore EOS.
    processors
        Logits processors that the engine was asked for, see `decode`: the distribution of each
        token is the target's after them, given the text before it.
    drafts
        Token ids of each round's drafts, as in `Decoded.drafts`. Under processors, rejected drafts
        that count are then found sooner; without them, and with a drafter, some are drawn again.

    Returns
    -------
    Conformance
        `.conforms`, and `.message`: where the texts leave the target, and what to do.

    Raises
    ------
    RequestError
        Texts or settings that cannot be scored.
    MeasurementError
        The texts hold no new token, or the target returns NaN or infinite logits.

    Notes
    -----
    Sampled texts are judged by a test martingale (Ville's inequality), valid at any number of
    tokens; greedy ones by their first divergence from the arg-max that is not a numerical tie.

    Examples
    --------
    >>> from pytest_specdec import decode
    >>> from pytest_specdec.lossless import conformance
    >>> target = "suites/models/text-target"
    >>> decoded = decode(target, "prompt-lookup", ["the ", "a "], k=4, new_tokens=16)
    >>> print(conformance(target, decoded.texts).message)
    32 tokens of 2 texts conform to the target; nothing to do
    """
    sampling = _checked(Sampling(temperature, top_k, top_p), alpha)
    prepared = prepare(
        target,
        sequences,
        sampling,
        prompt_lengths=prompt_lengths,
        drafter=drafter,
        tolerance=tolerance,
        new_tokens=new_tokens,
        processors=processors,
        rounds=rounds,
        drafts=drafts,
    )
    judged = map(prepared.judge.judge, prepared.facts.batches)
    result = concluded(sampling, alpha, prepared.given, prepared.facts, judged, seed=seed)
    if temperature == 0 or rounds is None or result.conforms or result._wrong_rows:
        return result
    roles = roles_of(prepared.texts, rounds)
    return dataclasses.replace(
        result, causes=likely_causes(prepared.judge.parts(), roles, sampling)
    )


def concluded(
    sampling: Sampling,
    alpha: float,
    given: Sequence[Text],
    facts: JudgedTexts,
    judged: Iterable[Sequence[JudgedTokens]],
    *,
    seed: int = 0,
) -> Conformance:
    """The judgement on texts from that on their batches, in the order of `facts.batches`."""
    texts = [
        dataclasses.replace(text, ids=text.ids[:length])
        for text, length in zip(given, facts.lengths, strict=True)
    ]
    places = new_places(texts)
    result = Conformance(
        sampling, alpha, len(texts), len(places), violations=tuple(facts.violations)
    )
    parts = [part for batch in judged for part in batch]
    if sampling.temperature == 0:
        return _greedy(result, parts)
    return _sampled(result, parts, places, np.random.default_rng(seed))


def _greedy(result: Conformance, parts: Iterable[JudgedTokens]) -> Conformance:
    """Divergences of each text up to its first that is not a tie."""
    seen = [divergence for part in parts for divergence in part.divergences]
    seen.sort(key=lambda divergence: (divergence.text, divergence.position))
    ends: dict[int, int] = {}
    for divergence in seen:
        if not divergence.tie:
            ends.setdefault(divergence.text, divergence.position)
    kept = tuple(
        divergence
        for divergence in seen
        if divergence.position <= ends.get(divergence.text, divergence.position)
    )
    return dataclasses.replace(
        result, divergences=kept, ties=sum(divergence.tie for divergence in kept)
    )


def _sampled(
    result: Conformance,
    parts: Sequence[JudgedTokens],
    places: list[tuple[int, int]],
    rng: np.random.Generator,
) -> Conformance:
    """Tokens outside the support, then the martingale over all others in the order of the texts."""
    beyond = [violation for part in parts for violation in part.beyond]
    violations = sorted([*result.violations, *beyond], key=lambda violation: violation.place)
    ties = sum(part.ties for part in parts)
    unbet = _unbet(sum((Counter(part.failed) for part in parts), Counter[str]()))
    result = dataclasses.replace(result, ties=ties, violations=tuple(violations), unbet=unbet)
    at = np.concatenate([part.at for part in parts]) if parts else np.empty(0, dtype=np.int64)
    if not len(at):
        return result
    draws = [part.draws for part in parts if part.draws is not None]
    joined, uniforms = Draws.joined(draws, at.argsort()), rng.random(len(at))
    run = evidence(joined, uniforms)
    taken = int(run.reached(result.alpha))
    last = taken - 1 if taken else int(run.total.argmax())
    return dataclasses.replace(
        result,
        z=float(joined.z()),
        uniformity=uniformity(joined.transforms(uniforms)),
        evidence=run.highest_value,
        suspect=run.suspect(last),
        crossed=places[np.sort(at)[taken - 1]] if taken else None,
    )


def _unbet(failed: Counter[str]) -> str:
    if not failed:
        return ""
    error, times = failed.most_common(1)[0][0], failed.total()
    return (
        f"the logits processors failed {times} times after a text that a wrong engine would take "
        f"for the one before ({error}), and nothing was bet there; let them take any token ids"
    )


def _checked(sampling: Sampling, alpha: float) -> Sampling:
    check_alpha(alpha)
    return sampling.checked()
