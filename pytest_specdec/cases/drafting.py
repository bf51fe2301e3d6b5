"""How drafts are drawn from a drafter's logits, where that is not as the target's tokens are.

Engines differ here, and each way gives another acceptance: most draft the arg-max, some draw from
logits without the target's top-k and top-p, some at a temperature of their own. Every one of them
is lossless as long as q in the acceptance ratio is what the drafts were drawn from.
"""

from __future__ import annotations

import dataclasses

from ..common.errors import RequestError
from .sampling import Sampling

_ARGMAX, _UNFILTERED, _TEMPERATURE = "argmax", "unfiltered", "temperature"
_LONGER = "longer-blocks"
_AS_TARGET = "as-target"
_FORMS = (
    f"{_ARGMAX}, {_UNFILTERED}, {_TEMPERATURE}=T with T above 0, or {_TEMPERATURE}=T,{_UNFILTERED}"
    f"; {_LONGER} alone or after one of them; {_AS_TARGET}"
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class DraftSampling:
    """How drafts are drawn. Without arguments they are drawn as the target's tokens are."""

    argmax: bool = False
    """The likeliest token is drafted, and q has all mass on it."""
    filtered: bool = True
    """Whether top-k and top-p of the target leave out draft tokens, too."""
    temperature: float | None = None
    """Of the drafts; None is the target's."""
    longer_blocks: bool = False
    """Whether a drafter of blocks may draft more tokens a round than it was trained for, as engines
    let it.
    """

    @property
    def as_target(self) -> bool:
        """Whether drafts are drawn as the target's tokens are."""
        return self == DraftSampling()

    def sampling(self, target: Sampling) -> Sampling:
        """What drafts are drawn by where the target's tokens are drawn by `target`.

        >>> DraftSampling(temperature=0.5, filtered=False).sampling(Sampling(1.0, 20, 0.9))
        Sampling(temperature=0.5, top_k=0, top_p=1.0)
        """
        if target.temperature == 0:
            return target  # where every draft is an arg-max
        if self.argmax:
            return Sampling(0.0)
        temperature = target.temperature if self.temperature is None else self.temperature
        if self.filtered:
            return Sampling(temperature, target.top_k, target.top_p)
        return Sampling(temperature)

    @property
    def name(self) -> str:
        """For file names: `argmax`, `unfiltered`, `draftt0.7`; empty where it is as the target."""
        parts = [_ARGMAX] * self.argmax + [_UNFILTERED] * (not self.filtered)
        if self.temperature is not None:
            parts.append(f"draftt{self.temperature:g}")
        return "-".join(parts + ["longer"] * self.longer_blocks)

    def __str__(self) -> str:
        """As it is given: `argmax`, `temperature=0.7,unfiltered`."""
        parts = [_ARGMAX] * self.argmax
        if self.temperature is not None:
            parts.append(f"{_TEMPERATURE}={self.temperature:g}")
        return ",".join(
            parts + [_UNFILTERED] * (not self.filtered) + [_LONGER] * self.longer_blocks
        )


AS_TARGET = DraftSampling()


def parse_drafting(given: str) -> DraftSampling:
    """How drafts are drawn, from one of its forms. Raises RequestError for another.

    >>> parse_drafting("temperature=0.7,unfiltered").name
    'unfiltered-draftt0.7'
    """
    if given.strip() == _AS_TARGET:
        return AS_TARGET
    parts = [part.strip() for part in given.split(",")]
    longer = parts[-1] == _LONGER
    parts = parts[:-1] if longer else parts
    if parts == [_ARGMAX] or not parts:
        return DraftSampling(argmax=bool(parts), longer_blocks=longer)
    named = dict(part.partition("=")[::2] for part in parts)
    wrong = len(named) < len(parts) or not named.keys() <= {_UNFILTERED, _TEMPERATURE}
    temperature: float | None = None
    if not wrong and _TEMPERATURE in named:
        try:
            temperature = float(named[_TEMPERATURE])
        except ValueError:
            wrong = True
        wrong = wrong or not 0 < (temperature or 0) < 1e3
    if wrong or named.get(_UNFILTERED):
        raise RequestError(f"drafts cannot be drawn by {given[:60]!r}; use {_FORMS}")
    return DraftSampling(
        filtered=_UNFILTERED not in named, temperature=temperature, longer_blocks=longer
    )


def drafting_of(given: DraftSampling | str | None) -> DraftSampling:
    """How drafts are drawn, as callers give it; None is as the target's tokens are."""
    if given is None:
        return AS_TARGET
    return parse_drafting(given) if isinstance(given, str) else given


def effective(drafting: DraftSampling, sampling: Sampling) -> DraftSampling:
    """The drafting, or `AS_TARGET` where it changes nothing beside the target's `sampling`: at
    temperature 0, without filters that could be left out, or at the target's own temperature.
    """
    if drafting.sampling(sampling) != sampling:
        return drafting
    return DraftSampling(longer_blocks=True) if drafting.longer_blocks else AS_TARGET
