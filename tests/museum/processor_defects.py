"""Decoders whose rounds handle logits processors wrongly, each beside a right one.

`Decoder` decodes on toy models by rejection sampling. A defect overrides one of its steps: the
scores that drafts are drawn from, those that verification reads, or what is kept after a round.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from transformers import LogitsProcessor, RepetitionPenaltyLogitsProcessor

from pytest_specdec.decoding.penalties import OutputPenalties
from pytest_specdec.decoding.processors import Processor, processors_of

Logits = Callable[[Sequence[int]], torch.Tensor]
REPETITION = RepetitionPenaltyLogitsProcessor(1.7)
OUTPUT = OutputPenalties(presence=0.6, frequency=0.9)


class NoTwice(LogitsProcessor):  # type: ignore[misc]
    """A grammar: no token twice in a row."""

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        return scores.scatter(1, input_ids[:, -1:], -torch.inf)


class Ended:
    """A grammar that token 2 ends: it alone may follow itself."""

    def for_prompt(self, prompt: Sequence[int]) -> Processor:
        def mask(input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
            if not bool((input_ids[:, len(prompt) :] == 2).any()):
                return scores
            return scores.masked_fill(torch.arange(scores.shape[1]) != 2, -torch.inf)

        return mask

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        return self.for_prompt(())(input_ids, scores)


class Decoder:
    """Rejection sampling, round by round, with the same processors on target and drafter."""

    def __init__(self, processor: Processor) -> None:
        self.processor = processor
        self.__name__ = type(self).__name__

    def __call__(
        self,
        target: Logits,
        draft: Logits,
        prompt: list[int],
        k: int,
        new_tokens: int,
        generator: Any = None,
    ) -> list[int]:
        processors = processors_of(self.processor)
        assert processors is not None
        self.apply, text = processors.for_text(prompt), list(prompt)
        self.reset(prompt)
        while len(text) - len(prompt) < new_tokens:
            emitted = self.round(target, draft, text, k, generator)
            text += emitted
        return text[len(prompt) :]

    def round(
        self, target: Logits, draft: Logits, text: list[int], k: int, generator: Any
    ) -> list[int]:
        drafts: list[int] = []
        q: list[torch.Tensor] = []
        for step in range(k):
            q.append(self.draft_scores(draft, text, drafts).softmax(-1))
            drafts.append(self.draw(self.drawn(q[step], draft, text, drafts), generator))
        drafts = self.kept(text, drafts)
        p = [
            self.target_scores(target, text, drafts[:step]).softmax(-1)
            for step in range(len(drafts) + 1)
        ]
        emitted: list[int] = []
        for step, token in enumerate(drafts):
            coin = torch.rand((), generator=generator)
            if bool(coin * q[step][token] < p[step][token]):
                emitted.append(token)
                continue
            residual = (self.residual_p(p[step], target, text, drafts[:step]) - q[step]).clamp(
                min=0
            )
            emitted.append(self.draw(residual if residual.sum() > 0 else p[step], generator))
            break
        else:
            emitted.append(self.draw(p[-1], generator))
        self.finished(text, drafts, emitted)
        return emitted

    @staticmethod
    def draw(weights: torch.Tensor, generator: Any) -> int:
        return int(torch.multinomial(weights, 1, generator=generator))

    def scores(self, logits: torch.Tensor, prefix: Sequence[int]) -> torch.Tensor:
        """Logits after the processor for a prefix, which a defect may have wrong."""
        return self.apply(torch.tensor(prefix, dtype=torch.long), logits)

    # What defects override.

    def reset(self, prompt: list[int]) -> None: ...

    def draft_scores(self, draft: Logits, text: list[int], drafts: list[int]) -> torch.Tensor:
        return self.scores(draft([*text, *drafts]), [*text, *drafts])

    def drawn(
        self, q: torch.Tensor, draft: Logits, text: list[int], drafts: list[int]
    ) -> torch.Tensor:
        return q

    def kept(self, text: list[int], drafts: list[int]) -> list[int]:
        return drafts

    def target_scores(self, target: Logits, text: list[int], drafts: list[int]) -> torch.Tensor:
        return self.scores(target([*text, *drafts]), [*text, *drafts])

    def residual_p(
        self, p: torch.Tensor, target: Logits, text: list[int], drafts: list[int]
    ) -> torch.Tensor:
        return p

    def finished(self, text: list[int], drafts: list[int], emitted: list[int]) -> None: ...


class PlainDrafts(Decoder):
    """Right: the drafter's logits are not processed; verification rejects what is forbidden."""

    def draft_scores(self, draft: Logits, text: list[int], drafts: list[int]) -> torch.Tensor:
        return draft([*text, *drafts])


class StaleDrafts(Decoder):
    """Right, and slow: drafts are penalised by the history of the round's start, and q says so."""

    def draft_scores(self, draft: Logits, text: list[int], drafts: list[int]) -> torch.Tensor:
        return self.scores(draft([*text, *drafts]), text)


class CutDrafts(Decoder):
    """Right: drafts that the mask forbids are cut, and q is masked, so that none is."""

    def kept(self, text: list[int], drafts: list[int]) -> list[int]:
        for step, token in enumerate(drafts):
            scores = self.scores(torch.zeros(3), [*text, *drafts[:step]])
            if scores[token] == -torch.inf:
                return drafts[:step]
        return drafts


class Ignored(Decoder):
    """The processor is dropped without a word when drafts are verified."""

    def target_scores(self, target: Logits, text: list[int], drafts: list[int]) -> torch.Tensor:
        return target([*text, *drafts])


class IgnoredForBonus(Decoder):
    """The row after the last draft is not processed (its index is -1)."""

    def target_scores(self, target: Logits, text: list[int], drafts: list[int]) -> torch.Tensor:
        last = len(drafts) == self.k
        return target([*text, *drafts]) if last else super().target_scores(target, text, drafts)

    def round(
        self, target: Logits, draft: Logits, text: list[int], k: int, generator: Any
    ) -> list[int]:
        self.k = k
        return super().round(target, draft, text, k, generator)


class OneRowLate(Decoder):
    """Each row is processed as the row before it: the mask or count lacks the newest draft."""

    def target_scores(self, target: Logits, text: list[int], drafts: list[int]) -> torch.Tensor:
        return self.scores(target([*text, *drafts]), [*text, *drafts[:-1]])


class AskedAfterStop(Decoder):
    """A matcher that has stopped within the round's drafts is asked for a mask, and allows all."""

    def target_scores(self, target: Logits, text: list[int], drafts: list[int]) -> torch.Tensor:
        stopped = 2 in drafts and 2 not in text
        return target([*text, *drafts]) if stopped else super().target_scores(target, text, drafts)


class HistoryOfTheRound(Decoder):
    """Every row is processed by the history of the round's start."""

    def target_scores(self, target: Logits, text: list[int], drafts: list[int]) -> torch.Tensor:
        return self.scores(target([*text, *drafts]), text)


class _Counting(Decoder):
    """The history is kept apart from the text, as an engine's counters are."""

    def reset(self, prompt: list[int]) -> None:
        self.history = list(prompt)

    def draft_scores(self, draft: Logits, text: list[int], drafts: list[int]) -> torch.Tensor:
        return self.scores(draft([*text, *drafts]), [*self.history, *drafts])

    def target_scores(self, target: Logits, text: list[int], drafts: list[int]) -> torch.Tensor:
        return self.scores(target([*text, *drafts]), [*self.history, *drafts])

    def finished(self, text: list[int], drafts: list[int], emitted: list[int]) -> None:
        self.history += emitted


class RejectedCount(_Counting):
    """Rejected drafts stay in the history."""

    def finished(self, text: list[int], drafts: list[int], emitted: list[int]) -> None:
        self.history += [*drafts, emitted[-1]]


class AcceptedCountTwice(_Counting):
    """Accepted drafts enter the history when they are verified, and again when they are emitted."""

    def finished(self, text: list[int], drafts: list[int], emitted: list[int]) -> None:
        self.history += [*emitted[:-1], *emitted]


class StaleReported(Decoder):
    """Drafts are drawn under the history of the round's start; the q that is reported has the right
    one.
    """

    def drawn(
        self, q: torch.Tensor, draft: Logits, text: list[int], drafts: list[int]
    ) -> torch.Tensor:
        return self.scores(draft([*text, *drafts]), text).softmax(-1)


class ResidualUnmasked(Decoder):
    """The recovered token is drawn from a residual of the unprocessed p."""

    def residual_p(
        self, p: torch.Tensor, target: Logits, text: list[int], drafts: list[int]
    ) -> torch.Tensor:
        return target([*text, *drafts]).softmax(-1)


class CutPlainDrafts(PlainDrafts):
    """Drafts are cut at the first that the mask forbids, though q is not masked: the token in its
    place is drawn from p, and allowed drafts are tested as if nothing had been cut.
    """

    kept = CutDrafts.kept


class PromptPenalised(Decoder):
    """Presence and frequency count the prompt's tokens, too."""

    def __call__(self, target: Logits, draft: Logits, prompt: list[int], *rest: Any) -> list[int]:
        assert isinstance(self.processor, OutputPenalties)
        whole = self.processor.for_prompt(())
        right, self.processor = self.processor, whole
        try:
            return super().__call__(target, draft, prompt, *rest)
        finally:
            self.processor = right


RIGHT: dict[str, tuple[type[Decoder], Any]] = {
    "repetition": (Decoder, REPETITION),
    "presence and frequency": (Decoder, OUTPUT),
    "grammar": (Decoder, NoTwice()),
    "grammar with an end": (Decoder, Ended()),
    "own counters": (_Counting, OUTPUT),
    "drafts not processed": (PlainDrafts, NoTwice()),
    "stale drafts with their own q": (StaleDrafts, OUTPUT),
    "masked drafts cut": (CutDrafts, NoTwice()),
}
WRONG: dict[str, tuple[type[Decoder], Any, str]] = {
    "repetition penalty ignored": (Ignored, REPETITION, "sgl-project/sglang#21258"),
    "bonus row unmasked": (IgnoredForBonus, NoTwice(), "vllm-project/vllm#44006"),
    "mask one row late": (OneRowLate, NoTwice(), ""),
    "matcher asked after the stop": (
        AskedAfterStop,
        Ended(),
        "openvinotoolkit/openvino.genai#4081",
    ),
    "history of the round's start": (HistoryOfTheRound, OUTPUT, ""),
    "rejected drafts count": (RejectedCount, OUTPUT, "osaurus-ai/vmlx-swift#357"),
    "accepted drafts count twice": (AcceptedCountTwice, OUTPUT, "osaurus-ai/vmlx-swift#361"),
    "stale drafts, fresh q": (StaleReported, OUTPUT, "ml-explore/mlx-lm#1175"),
    "residual of the unmasked p": (ResidualUnmasked, NoTwice(), ""),
    "plain drafts cut at the mask": (CutPlainDrafts, NoTwice(), ""),
    "prompt counted": (PromptPenalised, OUTPUT, ""),
}
"""Name: the decoder, its processor, and where a real engine had it."""
