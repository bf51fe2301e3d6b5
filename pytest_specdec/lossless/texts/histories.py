"""What wrong engines take for the text before a token, where the rounds are known.

A logits processor that depends on the text before (a penalty, a no-repeat n-gram) must see the
prompt, the emitted tokens and the drafts before its row, each once. Engines keep that history in a
state of its own, and three defects of it are public: drafts that were rejected stay in it, accepted
ones enter it twice, or all rows of a round have that of the round's start. Nothing is forbidden, so
bets are laid on each of the three.

A bet may use all that is settled before its token is drawn. Rejection sampling draws each token
from p given the text before, the rounds that have ended, and that the drafts before it in its
round were accepted; so these bets have expectation one. The drafts of the token's own round are not
used, since they depend on it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import torch

from ...acceptance.rounds import Round
from ...cases.case import Sampling
from ...cases.texts import Text
from ...common.errors import RequestError
from ...decoding.distributions import filtered

REJECTED = "rejected drafts that count for logits processors"
TWICE = "accepted drafts that count twice for logits processors"
ROUNDS_START = "logits processors that see the text of the round's start"
HISTORIES = (REJECTED, TWICE, ROUNDS_START)

Drafts = Sequence[Sequence[int]]
"""Token ids of each round of a text."""


class RoundHistories:
    """The histories that wrong engines keep along one text; ask for its positions in their order.

    Without `drafts` those that were rejected are not known. The first one of a round may be drawn
    again (`draw`), from what the drafter proposes there beyond the target.
    """

    def __init__(self, text: Text, rounds: Sequence[Round], drafts: Drafts | None, seed: int):
        if drafts is not None and len(drafts) != len(rounds):
            raise RequestError(
                f"text {seed} has {len(rounds)} rounds and the drafts of {len(drafts)}; pass the "
                "drafts of each round, also of those without any"
            )
        self._ids, self.drafts_known = text.ids, drafts is not None
        known = drafts if drafts is not None else [()] * len(rounds)
        self._waiting = deque(
            (round_, tuple(tokens[round_.accepted : round_.drafted]))
            for round_, tokens in zip(rounds, known, strict=True)
        )
        self._twice = self._rejected = tuple(text.ids[: text.prompt_length])
        self._end = text.prompt_length
        self._generator = torch.Generator().manual_seed(seed)
        self._drawn: tuple[int, ...] = ()

    def before(self, position: int) -> dict[str, tuple[int, ...]]:
        """Token ids before a position, by what is wrong with them."""
        while self._waiting and self._last(self._waiting[0][0]) < position:
            self._pass_round(*self._waiting.popleft())
        begun = min(self._waiting[0][0].start, position) if self._waiting else position
        since = self._ids[self._end : position]
        return {
            REJECTED: (*self._rejected, *since),
            TWICE: (*self._twice, *since),
            ROUNDS_START: tuple(self._ids[:begun]),
        }

    def draw(
        self, position: int, logits: torch.Tensor, draft_logits: torch.Tensor, sampling: Sampling
    ) -> None:
        """Draw a draft that was rejected at a position, where one was and is not known, from
        max(q - p, 0).
        """
        if self.drafts_known or not self._waiting:
            return
        round_ = self._waiting[0][0]
        if round_.accepted == round_.drafted or self._last(round_) != position:
            return
        p, q = (filtered(row[None], sampling).softmax(-1)[0] for row in (logits, draft_logits))
        beyond = (q - p).clamp(min=0).cpu()
        if float(beyond.sum()) > 0:
            self._drawn = (int(torch.multinomial(beyond, 1, generator=self._generator)),)

    @staticmethod
    def _last(round_: Round) -> int:
        """Position of the token after the accepted drafts."""
        return round_.start + round_.accepted

    def _pass_round(self, round_: Round, rejected: tuple[int, ...]) -> None:
        last = self._last(round_)
        plain, accepted = self._ids[self._end : round_.start], self._ids[round_.start : last]
        ending = self._ids[last : last + 1]
        self._twice += (*plain, *accepted, *accepted, *ending)
        self._rejected += (*plain, *accepted, *(rejected or self._drawn), *ending)
        self._end, self._drawn = last + 1, ()


def histories_of(
    texts: Sequence[Text],
    rounds: Sequence[Sequence[Round]] | None,
    drafts: Sequence[Drafts] | None,
) -> list[RoundHistories] | None:
    """Of each text; None where the rounds are not known. Raises RequestError for drafts without
    rounds, and for another number of texts.
    """
    if rounds is None:
        if drafts is not None:
            raise RequestError("drafts need their rounds; pass rounds, too")
        return None
    for name, given in (("rounds", rounds), ("drafts", drafts)):
        if given is not None and len(given) != len(texts):
            raise RequestError(
                f"{name} of {len(given)} texts were passed for {len(texts)}; pass one list a text"
            )
    return [
        RoundHistories(text, rounds[row], None if drafts is None else drafts[row], row)
        for row, text in enumerate(texts)
    ]
