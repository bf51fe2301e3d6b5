"""Which tokens of a text are judged, and how the text ends: up to its first EOS token, to the first
token that the target cannot read, or to its limit.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator, Sequence

from ...cases.case import Sampling
from ...cases.texts import Text

FORBIDDEN = (
    "which the logits processors forbid after the text before it; check that the engine applies "
    "them to every verified token, each after its own prefix with the drafts before it"
)
"""Why a token with a logit of -inf cannot be emitted."""


@dataclasses.dataclass(frozen=True)
class Violation:
    """A token that a lossless engine cannot emit."""

    text: int
    position: int
    """Index in the sequence, prompt included."""
    token: int
    reason: str
    """Why it cannot, and what to do."""

    @property
    def place(self) -> tuple[int, int]:
        """Text and position, in the order in which texts are read."""
        return self.text, self.position


def outside(sampling: Sampling) -> str:
    """Why a token beyond top-k or top-p cannot be emitted."""
    named = [f"top-k {sampling.top_k}"] * (sampling.top_k > 0) + [f"top-p {sampling.top_p:g}"] * (
        sampling.top_p < 1
    )
    return (
        f"which the target's {' and '.join(named)} filter leaves out; check that the engine "
        "filters every verified token and not only the bonus token, and that its settings are "
        "those passed here"
    )


def readable(
    texts: Sequence[Text], stop: Collection[int], width: int
) -> tuple[list[Text], tuple[Violation, ...]]:
    """Texts up to their first new EOS token, kept, or the first token that the target cannot read,
    a violation. `width` is the size of the target's vocabulary.
    """
    kept: list[Text] = []
    violations: list[Violation] = []
    for row, text in enumerate(texts):
        new = range(text.prompt_length, len(text.ids))
        end = next(
            (at for at in new if text.ids[at] in stop or not 0 <= text.ids[at] < width),
            len(text.ids) - 1,
        )
        if end in new and not 0 <= text.ids[end] < width:
            reason = f"beyond the target's vocabulary of {width}; check the sampler's range"
            violations.append(Violation(row, end, text.ids[end], reason))
            end -= 1
        kept.append(dataclasses.replace(text, ids=text.ids[: end + 1]))
    return kept, tuple(violations)


def wrong_ends(
    texts: Sequence[Text], read: Sequence[Text], stop: Collection[int], limit: int
) -> Iterator[Violation]:
    """Texts that do not end as `limit` new tokens and the EOS tokens `stop` make them, one
    violation each. `read` are the texts as `readable` keeps them.
    """
    for row, (text, kept) in enumerate(zip(texts, read, strict=True)):
        last, beyond = len(kept.ids) - 1, text.prompt_length + limit
        ended = len(kept.ids) > kept.prompt_length and kept.ids[last] in stop
        if ended and len(text.ids) > len(kept.ids):
            reason = (
                f"after token {kept.ids[last]}, which ends a text, at position {last}; let the "
                "engine end its texts there"
            )
            yield Violation(row, last + 1, text.ids[last + 1], reason)
        elif len(text.ids) > beyond:
            reason = f"beyond the limit of {limit} new tokens; set the engine's limit"
            yield Violation(row, beyond, text.ids[beyond], reason)
        elif not ended and len(text.ids) < beyond and len(text.ids) == len(kept.ids):
            ends = ", ".join(map(str, sorted(stop))) or "none"
            reason = (
                f"the last of {len(text.ids) - text.prompt_length} where {limit} new tokens were "
                f"asked for, and no EOS token ({ends}); look for what cut the text off"
            )
            yield Violation(row, last, text.ids[last], reason)
