"""Counted decoding of the embedded pair, run many times over and kept, to compare rules on it.

    python benchmarks/field_recording.py

decodes 200 prompts of the corpus generator in eight runs each way, k = 3, 256 tokens a text, and
keeps how many tokens each round accepted in `benchmarks/results/field-rules.npz` (about 10 minutes
of one core). *Sampled* runs have temperature 1 and a seed each. *Greedy* runs have temperature 0,
and each a target with noise of 0.2 % on its weights: their texts part at near-ties, as those of an
engine that rounds differently. On one machine and one version greedy runs of this decoder are
equal.
"""

from __future__ import annotations

import contextlib
import dataclasses
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import optimize

from pytest_specdec.acceptance.counts import Counts

FILE = Path(__file__).parent / "results" / "field-rules.npz"
PROMPTS, RUNS, K, NEW_TOKENS = 200, 8, 3, 256
TEMPERATURES = {"sampled": 1.0, "greedy": 0.0}
NOISE = "noise 0.2 %"
ENDED = -1
"""In place of accepted tokens, after the last round of a text."""


@dataclasses.dataclass(frozen=True)
class Recording:
    """Runs of one decoder on the same prompts."""

    accepted: NDArray[np.int8]
    """(runs, prompts, rounds): tokens accepted in each round, 0 to K."""

    @classmethod
    def load(cls, kind: str, path: Path = FILE) -> Recording:
        """The kept runs of a kind, `sampled` or `greedy`."""
        return cls(np.load(path)[kind])

    def shortened(self, tokens: int) -> Recording:
        """The rounds of each text's first tokens alone."""
        emitted = np.cumsum(self.accepted + 1, axis=-1, dtype=int)
        return Recording(np.where(emitted <= tokens, self.accepted, ENDED).astype(np.int8))

    def lost_share(self, drop: float) -> float:
        """The share of accepted tokens to lose, one by one, for a relative drop of the acceptance
        length; a round ends at the first one lost.
        """
        if drop == 0:
            return 0.0
        pooled = counts_of(self.accepted.reshape(-1, self.accepted.shape[-1]))
        steps = np.arange(1, K + 1)

        def excess(share: float) -> float:
            length = 1 + float(pooled.survival @ (1 - share) ** steps)
            return length - (1 - drop) * pooled.acceptance_length

        return float(optimize.brentq(excess, 0.0, 1.0))

    def comparison(
        self,
        rng: np.random.Generator,
        *,
        prompts: int,
        lost: float = 0.0,
        attempts: int = 1,
        texts: int = 1,
    ) -> tuple[Counts, list[Counts]]:
        """A reference run of some prompts, and later runs of the same prompts, at random.

        Prompts are drawn with replacement, and each has a recorded run of its own for the reference
        and for every attempt. Attempts lose a share `lost` of their accepted tokens. With several
        `texts` of each prompt these are drawn with replacement. Keys differ from call to call, as
        the gate's labellings follow from them.
        """
        runs, known, _ = self.accepted.shape
        rows = np.repeat(rng.integers(known, size=prompts), texts)
        if texts == 1:
            shuffled = rng.permuted(np.tile(np.arange(runs), (prompts, 1)), axis=1)
            picks = shuffled[:, : 1 + attempts].T
        else:
            picks = rng.integers(runs, size=(1 + attempts, len(rows)))
        before, *now = self.accepted[picks, rows]
        name = f"{rng.integers(2**63):x}"
        return counts_of(before, name), [counts_of(thinned(rng, run, lost), name) for run in now]


def thinned(rng: np.random.Generator, accepted: NDArray[np.int8], share: float) -> NDArray[np.int8]:
    """Rounds of a drafter whose accepted tokens are each lost with the same probability."""
    if share == 0:
        return accepted
    kept = np.minimum(rng.geometric(share, size=accepted.shape) - 1, K)
    return np.minimum(accepted, kept).astype(np.int8)


def counts_of(accepted: NDArray[np.int8], name: str = "p") -> Counts:
    """The counts of (texts, rounds); keys begin with `name`."""
    rounds = (accepted != ENDED).sum(-1).astype(float)
    reached = np.stack([(accepted >= step).sum(-1) for step in range(1, K + 1)], axis=-1)
    return Counts(
        prompts=tuple(f"{name}-{row}" for row in range(len(rounds))),
        categories=("all",) * len(rounds),
        rounds=rounds,
        drafted=np.repeat(rounds[:, None], K, axis=1),
        accepted=reached.astype(float),
    )


def record(temperature: float) -> Recording:
    """Decode all runs."""
    root = Path(__file__).parent.parent
    sys.path[:0] = [str(root / "tests"), str(root / "suites" / "models")]
    from changed_target import prompts
    from helpers.embedded import Pair
    from weight_changes import CHANGES, changed

    from pytest_specdec import decode

    pair = Pair.load()
    ids = prompts(PROMPTS, pair)
    accepted = np.full((RUNS, PROMPTS, NEW_TOKENS), ENDED, dtype=np.int8)
    for run in range(RUNS):
        other_rounding = changed(pair.target, CHANGES[NOISE], run)
        with other_rounding if temperature == 0 else contextlib.nullcontext():
            decoded = decode(
                pair.target,
                pair.draft,
                ids,
                k=K,
                temperature=temperature,
                new_tokens=NEW_TOKENS,
                batch_size=100,
                seed=run,
            )
        for row, (text, rounds) in enumerate(zip(decoded.texts, decoded.rounds, strict=True)):
            whole = [each.accepted for each in rounds if each.start + K <= len(text.ids)]
            accepted[run, row, : len(whole)] = whole
        print(f"run {run + 1} of {RUNS} at temperature {temperature:g}", file=sys.stderr)
    longest = int((accepted != ENDED).sum(-1).max())
    return Recording(accepted[..., :longest])


def main() -> None:
    recordings = {kind: record(temperature) for kind, temperature in TEMPERATURES.items()}
    np.savez_compressed(FILE, **{kind: each.accepted for kind, each in recordings.items()})  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
