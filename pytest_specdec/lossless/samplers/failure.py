"""What is wrong with a sampler, and in which round, described in a few lines."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from ...common.errors import RequestError
from ..enumeration.paths import NotEnumerableError
from .exact import DistributionGap, PathFollower, RoundInput
from .exact_batch import BatchInput, RowDependence, RowDistributionGap
from .prefix_tree import Prefix
from .sampler import ContractError, Sampler


@dataclasses.dataclass(frozen=True)
class SamplerFailure:
    """One way in which a sampler is not lossless."""

    text: str
    prefix: Prefix = ()
    """The tokens along which the distributions are shown."""
    how: str = ""
    """`contract` for what is wrong whatever the distribution is."""
    cause: Exception | None = None
    example: str = ""
    """Drafts that lead there."""
    row: int = 0
    """Of a batch, the one that is wrong."""

    @classmethod
    def of_distribution(cls, error: DistributionGap) -> SamplerFailure:
        return cls(_described(error), error.prefix)

    @classmethod
    def of_batch(
        cls, error: RowDistributionGap | RowDependence, given: BatchInput
    ) -> SamplerFailure:
        if isinstance(error, RowDistributionGap):
            return cls(
                f"{given}, row {error.row}: {_described(error.error)}",
                error.error.prefix,
                row=error.row,
            )
        tokens = " and ".join(str(list(prefix)) for prefix in error.tokens)
        return cls(
            f"{given}, these emit {tokens} together with probability {error.got:.6g} where their "
            f"targets have {error.expected:.6g}, though each row alone follows its target; draw "
            "separate noise for each row"
        )

    def with_example(self, given: RoundInput, sampler: Sampler) -> SamplerFailure:
        """The same with drafts that lead there, where a distribution is wrong."""
        if not self.prefix:
            return self
        return dataclasses.replace(self, example=_example(self.prefix, given, sampler))

    def shown(self, given: RoundInput | BatchInput) -> str:
        """The distributions along the prefix, and the drafts."""
        if isinstance(given, RoundInput):
            return self._shown(given)
        rows = [
            dataclasses.replace(self, prefix=self.prefix * (at == self.row))._shown(row)
            for at, row in enumerate(given.rows)
        ]
        return "\n".join(f"  row {at}:{shown}" for at, shown in enumerate(rows))

    def _shown(self, given: RoundInput) -> str:
        along = (*self.prefix, *[0] * given.k)[: given.k]
        distributions = [
            (along[:at], given.target.row(along[:at]), given.draft.row(along[:at]))
            for at in range(given.k)
        ]
        distributions = distributions[: max(1, len(self.prefix))] if self.prefix else distributions
        lines = [f"  k = {given.k}{self.example}"]
        for prefix, p, q in distributions:
            lines.append(
                f"  p = {_distribution(p)}  q = "
                f"{_distribution(q)}{f'  after {list(prefix)}' if prefix else ''}"
            )
        if len(self.prefix) > given.k or not given.k:
            after = self.prefix[: given.k]
            lines.append(
                f"  p = {_distribution(given.target.row(after))}"
                + (f"  after {list(after)}" if after else "")
            )
        return "\n".join(lines)


def _described(error: DistributionGap) -> str:
    return (
        f"{list(error.prefix)} is emitted with probability {error.got:.6g} where the target has "
        f"{error.expected:.6g} "
        f"(total variation {error.total_variation:.2g})"
    )


def failure_of(check: Callable[[], SamplerFailure | None]) -> SamplerFailure | None:
    """What a check finds: what it returns, a broken contract, or whatever the sampler raises."""
    try:
        return check()
    except (NotEnumerableError, RequestError):
        raise
    except ContractError as broken:
        return SamplerFailure(str(broken), how="contract")
    except Exception as crash:
        return SamplerFailure(
            f"it raised {type(crash).__name__}: {str(crash).splitlines()[0] if str(crash) else ''}",
            how="contract",
            cause=crash,
        )


def _example(prefix: Prefix, given: RoundInput, sampler: Sampler) -> str:
    """The drafts that most often lead to a prefix which is emitted too often, or that should."""
    if sampler.drafts == "own":
        return ""
    chances = dict(given.drafted(sampler))
    with PathFollower(sampler, repeats=0) as following:
        shares = {
            drafts: _share(following.distribution(given, drafts), prefix) for drafts in chances
        }
    drafts = max(
        chances, key=lambda candidate: (chances[candidate] * shares[candidate], chances[candidate])
    )
    return (
        f", drafts {list(drafts or ())}: {list(prefix)} emitted with probability "
        f"{shares[drafts]:.6g}"
    )


def _share(distribution: dict[Prefix, float], prefix: Prefix) -> float:
    return sum(
        weight for emitted, weight in distribution.items() if emitted[: len(prefix)] == prefix
    )


def _distribution(distribution: Sequence[float]) -> str:
    return f"[{', '.join(f'{probability:.4g}' for probability in distribution)}]"
