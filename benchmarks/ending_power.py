"""When texts end: false alarms of conformance's bets on EOS, and how long a wrong hazard stays unseen.

    python benchmarks/ending_power.py --into docs/check-engine.md

Lossless engines are simulated on synthetic distributions, all bets included, and looked at after
every token. Hazards of the second table are those of the embedded target, whose EOS token is the
full stop. Exits with 1 where more runs alarm than alpha allows beyond chance.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from conformance import CONTEXTS, Pair, arranged, row, table
from marked_page import marks_of, write_lines
from scipy import stats

from pytest_specdec.lossless.texts.martingale import Draws, evidence
from pytest_specdec.lossless.texts.teacher_forcing import forced
from pytest_specdec.lossless.texts.token_scores import EARLY, LATE, TokenDistributions

MARKED = marks_of("ending_power.py")
RUNS, TOKENS, VOCABULARY, BLOCK, ALPHAS = 2000, 500, 16, 100, (0.05, 0.01)
EOS = 15
REPEATS, CHUNK, FURTHEST = 21, 50_000, 6_000_000


def synthetic(rng: np.random.Generator) -> Draws:
    """Draws (runs, tokens) of lossless engines; token 0 ends a text, with a hazard between nearly 0
    and nearly 1.
    """
    count = BLOCK * TOKENS
    logits = rng.normal(size=(count, VOCABULARY)) * rng.uniform(0.2, 5, (count, 1))
    log_p = torch.log_softmax(torch.from_numpy(logits), -1)
    tokens = (log_p + torch.from_numpy(rng.gumbel(size=logits.shape))).argmax(-1)
    drawn = TokenDistributions(log_p, ends=[0]).draws(tokens)
    return arranged(drawn, lambda values: values.reshape(BLOCK, TOKENS))


def alarms() -> tuple[list[str], bool, int]:
    """The table, whether every level is kept, and the number of families of bets."""
    highest, of_ends, families = [], [], 0
    for block in range(RUNS // BLOCK):
        rng = np.random.default_rng([3, block])
        found = evidence(synthetic(rng), rng.random((BLOCK, TOKENS)))
        highest.append(found.highest)
        pair = [found.families[name] for name in (EARLY, LATE)]
        of_ends.append((np.logaddexp(*pair) - math.log(2)).max(-1))
        families = len(found.families)
    lines, kept = table("bets", "alpha", "runs", "ever reached 1 / alpha", "95 % interval"), True
    for name, reached in {"all": highest, "on ends alone": of_ends}.items():
        for alpha in ALPHAS:
            count = int((np.concatenate(reached) >= -math.log(alpha)).sum())
            low, high = stats.binomtest(count, RUNS).proportion_ci()
            kept &= stats.binomtest(count, RUNS, alpha, alternative="greater").pvalue > 0.001
            share = f"{count} ({count / RUNS:.2%})"
            lines.append(row(name, f"{alpha:.0%}", RUNS, share, f"{low:.2%} to {high:.2%}"))
    return lines, kept, families


def hazards() -> np.ndarray:
    """(contexts,): the embedded target's probability of EOS at places of its stored texts."""
    pair = Pair.load()
    with torch.inference_mode():
        logits = torch.cat([part.logits for part in forced(pair.target, None, pair.stored(1))])
    chosen = torch.randperm(len(logits), generator=torch.Generator().manual_seed(0))[:CONTEXTS]
    values: np.ndarray = torch.softmax(logits[chosen].double(), -1)[:, EOS].numpy()
    return values


def of_odds(c: float) -> Callable[[np.ndarray], np.ndarray]:
    """Odds of ending that are c times the target's."""
    return lambda h: c * h / (1 + (c - 1) * h)


ENGINES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "odds of ending 5 % too high": of_odds(1.05),
    "odds of ending 5 % too low": of_odds(0.95),
    "odds of ending 25 % too high": of_odds(1.25),
    "odds of ending 20 % too low": of_odds(0.8),
    "odds of ending doubled": of_odds(2.0),
    "odds of ending halved": of_odds(0.5),
    "5 % of EOS tokens end nothing": lambda h: 0.95 * h,
    "ends at one token in 20, whatever p": lambda h: h + 0.05 * (1 - h),
    "ends at one token in 1,000, whatever p": lambda h: h + 0.001 * (1 - h),
}


def power(h: np.ndarray, families: int) -> Iterator[str]:
    yield from table(
        "engine",
        "texts of mean length",
        "tokens until found",
        "texts until found",
        "knowing the engine",
    )
    for name, engine in ENGINES.items():
        wrong = engine(h)
        gain = wrong * np.log(wrong / h) + (1 - wrong) * np.log((1 - wrong) / (1 - h))
        waits = np.median([waiting(h, wrong, families, repeat) for repeat in range(REPEATS)])
        tokens = f"more than {FURTHEST:,}" if waits == math.inf else f"{waits:,.0f}"
        texts = "" if waits == math.inf else f"{waits * wrong.mean():,.0f}"
        yield row(
            name,
            f"{1 / wrong.mean():.0f} for {1 / h.mean():.0f}",
            tokens,
            texts,
            f"{math.log(1 / ALPHAS[-1]) / gain.mean():,.0f}",
        )


def waiting(h: np.ndarray, wrong: np.ndarray, families: int, repeat: int) -> float:
    """Tokens until the evidence reaches 1 / alpha, with all other bets taken as worth nothing."""
    rng = np.random.default_rng([4, repeat])
    sums: dict[str, np.ndarray] = {name: np.zeros(1) for name in (EARLY, LATE)}
    for begin in range(0, FURTHEST, CHUNK):
        at = rng.integers(len(h), size=CHUNK)
        ends = torch.from_numpy((rng.random(CHUNK) < wrong[at]).astype(np.int64))
        log_p = torch.from_numpy(np.log(np.stack([1 - h[at], h[at]], -1)))
        tilted = TokenDistributions(log_p, ends=[1]).draws(ends).tilted
        paths = {
            name: np.cumsum(np.stack(tilted[name]), -1) + sums[name][..., None] for name in sums
        }
        of_families = [
            np.logaddexp.reduce(path, axis=0) - math.log(len(path)) for path in paths.values()
        ]
        total = np.logaddexp(*of_families) - math.log(families)
        above = total >= -math.log(ALPHAS[-1])
        if above.any():
            return begin + int(above.argmax()) + 1
        sums = {name: path[:, -1] for name, path in paths.items()}
    return math.inf


PAGE = """
False alarms: {runs:,} lossless engines, {tokens} tokens each, vocabulary {vocabulary}, a new distribution at each token
with a hazard anywhere between 0 and 1; looked at after every token (`make ending-power`).

{alarms}

Tokens until a wrong hazard is found at alpha = 1 %, medians of {repeats} runs. The target's hazards are those of
`text-target-eos` at {contexts:,} places; all bets but those on ends are taken as worth nothing, so these are upper
bounds. *Knowing the engine* is log(1 / alpha) over the relative entropy. A hazard that is 5 % off needs many texts,
whoever looks: a thousand texts have their number of tokens to 3 %.

{power}
"""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--into", type=Path, required=True)
    into = parser.parse_args().into
    lines, kept, families = alarms()
    text = PAGE.format(
        runs=RUNS,
        tokens=TOKENS,
        vocabulary=VOCABULARY,
        repeats=REPEATS,
        contexts=CONTEXTS,
        alarms="\n".join(lines),
        power="\n".join(power(hazards(), families)),
    )
    print(text)
    write_lines(into, MARKED, text.strip("\n"))
    raise SystemExit(0 if kept else 1)


if __name__ == "__main__":
    main()
