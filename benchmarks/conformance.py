"""Conformance's promises, shown: false alarms of lossless engines, and tokens until a wrong one is
found.

    python benchmarks/conformance.py > docs/conformance.md

takes a few minutes on one thread. The seeds are fixed. The tables of the engine suite are read from
benchmarks/results, which engine_defects.py fills; every other number comes from this run. Near-ties
depend on the processor, so the page names it.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import engine_defects
import numpy as np
import torch
from scipy import stats

from pytest_specdec.baselines.store import load
from pytest_specdec.cases.case import OWN_HEADS, Sampling
from pytest_specdec.cases.prompts import read_prompts
from pytest_specdec.cases.texts import Text
from pytest_specdec.decoding import verification as rules
from pytest_specdec.decoding.decode import decode
from pytest_specdec.decoding.environment import environment
from pytest_specdec.decoding.loading import LoadedModel, load_model
from pytest_specdec.decoding.sampling import encode_prompts
from pytest_specdec.lossless.texts.conformance import Conformance, conformance
from pytest_specdec.lossless.texts.greedy_divergence import TOLERANCES
from pytest_specdec.lossless.texts.martingale import Draws, TextEvidence, evidence, uniformity
from pytest_specdec.lossless.texts.teacher_forcing import forced
from pytest_specdec.lossless.texts.token_scores import (
    ACCEPTED,
    DRAFTED,
    RESIDUAL,
    TokenDistributions,
)
from pytest_specdec.records.text_set import TextSet

ROOT = Path(__file__).parent.parent
PLAIN, FILTERED = Sampling(), Sampling(0.8, 50, 0.9)
ALPHA = 0.01
RUNS, TOKENS, VOCABULARY, BLOCK = 2000, 1000, 50, 50
THINNED = 50
"""Of so many transforms one goes into the test of uniformity."""
CONTEXTS, DRAWS, REPEATS = 4096, 24, 21
FURTHEST = {0.05: 40_000, 0.02: 120_000, 0.01: 300_000}
"""Total variation, and how many tokens are read at most to find it."""


@dataclasses.dataclass(frozen=True)
class Pair:
    """The embedded pair with the text suite's prompts."""

    target: LoadedModel
    draft: LoadedModel
    keys: list[str]
    prompts: list[list[int]]

    @classmethod
    def load(cls) -> Pair:
        target, draft = (
            load_model(str(ROOT / "suites" / "models" / f"text-{role}"), "cpu")
            for role in ("target", "draft")
        )
        prompts = read_prompts(ROOT / "suites" / "text" / "prompts.jsonl")
        return cls(
            target,
            draft,
            [prompt.key for prompt in prompts],
            encode_prompts(target.tokenizer, prompts),
        )

    def stored(self, temperature: int) -> list[Text]:
        path = ROOT / "baselines" / "text" / "texts" / f"t{temperature}-n128-s0.json"
        stored = load(path, TextSet)
        assert stored is not None, f"{path} is missing; make suites writes it"
        new = stored.texts
        return [
            Text(key, "all", (*ids, *new[key]), len(ids))
            for key, ids in zip(self.keys, self.prompts, strict=True)
        ]

    def decoded(
        self, drafter: str, depth: int, rule: str, sampling: Sampling, seed: int = 0
    ) -> tuple[Text, ...]:
        model = self.draft if drafter == "draft model" else drafter
        return decode(
            self.target,
            model,
            self.prompts,
            k=4,
            depth=depth,
            rule=rule,
            new_tokens=128,
            batch_size=80,
            seed=seed,
            temperature=sampling.temperature,
            top_k=sampling.top_k,
            top_p=sampling.top_p,
        ).texts

    def judged(
        self, texts: tuple[Text, ...] | list[Text], sampling: Sampling, *, drafter: bool = True
    ) -> Conformance:
        return conformance(
            self.target,
            texts,
            temperature=sampling.temperature,
            top_k=sampling.top_k,
            top_p=sampling.top_p,
            drafter=self.draft if drafter else None,
            alpha=ALPHA,
        )


def table(*columns: str) -> list[str]:
    return [f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]


def row(*cells: object) -> str:
    return f"| {' | '.join(map(str, cells))} |"


def simulated() -> Iterator[str]:
    """Runs of lossless engines on synthetic distributions, watched after every token."""
    highest, z, transforms = [], [], []
    for block in range(RUNS // BLOCK):
        rng = np.random.default_rng([1, block])
        draws = synthetic(rng, BLOCK * TOKENS)
        uniforms = rng.random((BLOCK, TOKENS))
        highest.append(evidence(draws, uniforms).highest)
        z.append(draws.z())
        transforms.append(draws.transforms(uniforms).ravel()[::THINNED])
    reached, scores = np.concatenate(highest), np.concatenate(z)
    yield from table("alpha", "runs", "ever reached 1 / alpha", "share", "95 % interval")
    for alpha in (0.05, 0.01):
        count = int((reached >= -math.log(alpha)).sum())
        low, high = stats.binomtest(count, RUNS).proportion_ci()
        yield row(f"{alpha:.0%}", RUNS, count, f"{count / RUNS:.2%}", f"{low:.2%} to {high:.2%}")
    yield ""
    normal, uniform = stats.kstest(scores, "norm").pvalue, uniformity(np.concatenate(transforms))
    yield (
        f"The surprisal's z has mean {scores.mean():+.3f} and standard deviation "
        f"{scores.std():.3f} over the runs; it is normal"
    )
    yield (
        f"at p = {normal:.2f}, and every {THINNED}th transform uniform at p = {uniform:.2f} "
        "(Kolmogorov-Smirnov)."
    )


def synthetic(rng: np.random.Generator, count: int) -> Draws:
    """Draws (runs, tokens) from distributions that are anything between flat and certain, with a
    drafter's distribution for each.
    """
    logits = rng.normal(size=(count, VOCABULARY)) * rng.uniform(0.2, 5, (count, 1))
    log_p = torch.log_softmax(torch.from_numpy(logits), -1)
    log_q = torch.log_softmax(torch.from_numpy(logits + rng.normal(size=logits.shape)), -1)
    drawn = TokenDistributions(log_p, log_q).draws(
        (log_p + torch.from_numpy(rng.gumbel(size=logits.shape))).argmax(-1)
    )
    return arranged(drawn, lambda values: values.reshape(BLOCK, TOKENS))


def arranged(draws: Draws, change: Callable[[np.ndarray], np.ndarray]) -> Draws:
    """The same change of all arrays."""
    own = {
        name: change(getattr(draws, name)) for name in ("surprisal", "entropy", "variance", "below")
    }
    tilted = {name: [change(bet) for bet in bets] for name, bets in draws.tilted.items()}
    return Draws(
        **own, tilted=tilted, mixed={name: change(odds) for name, odds in draws.mixed.items()}
    )


def lossless(pair: Pair) -> Iterator[str]:
    """Texts of this project's decoder under every lossless rule, and the stored ones."""
    yield from table("texts", "rule", "sampling", "tokens", "z", "evidence", "verdict")
    decoders = [
        ("draft model", 0, "rejection", PLAIN),
        ("draft model", 0, "block", PLAIN),
        ("draft model", 0, "sample-match", PLAIN),
        ("draft model", 0, "rejection", FILTERED),
        ("draft model", 3, "rejection", PLAIN),
        (OWN_HEADS, 3, "block", FILTERED),
        (OWN_HEADS, 3, "rejection", PLAIN),
        ("prompt-lookup", 0, "rejection", PLAIN),
        ("draft model", 0, "greedy", Sampling(0)),
    ]
    for seed, (drafter, depth, rule, sampling) in enumerate(decoders):
        found = pair.judged(pair.decoded(drafter, depth, rule, sampling, seed), sampling)
        yield outcome(f"{drafter}, depth {depth}", rule, found)
    for temperature in (1, 0):
        yield outcome(
            "stored with the baselines",
            "none",
            pair.judged(pair.stored(temperature), Sampling(temperature)),
        )


def outcome(texts: str, rule: str, found: Conformance) -> str:
    sampled = found.sampling.temperature > 0
    z, value = (
        (f"{found.z:+.2f}", f"{found.e_value:.2f}")
        if sampled
        else ("", f"{len(found.divergences)} divergences")
    )
    return row(texts, rule, found.sampling.suffix, found.tokens, z, value, found.verdict)


Distribution = Callable[[float], torch.Tensor]
"""Of wrong engines in each context, by how wrong they are."""


class Contexts:
    """Distributions p and q, (contexts, vocabulary), and engines' distributions that are not p."""

    def __init__(
        self,
        log_p: torch.Tensor,
        log_q: torch.Tensor,
        kind: type[TokenDistributions] = TokenDistributions,
    ) -> None:
        """Both normalised natural logarithms, float64; `kind` scores the draws."""
        self.log_p = log_p
        self.distributions = kind(self.log_p, log_q)
        p, q = self.p, self.q = self.log_p.exp(), log_q.exp()
        overlap = torch.minimum(p, q).sum(-1, keepdim=True)
        self.recovered = torch.minimum(p, q) + (1 - overlap) * p
        self.flat = torch.full_like(p, 1 / p.shape[-1])

    @classmethod
    def of(cls, pair: Pair) -> Contexts:
        """Those of some new tokens of the stored texts."""
        with torch.inference_mode():
            parts = [*forced(pair.target, pair.draft, pair.stored(1))]
            drafted = [part.draft_logits for part in parts if part.draft_logits is not None]
            logits = torch.cat([part.logits for part in parts]), torch.cat(drafted)
        chosen = torch.randperm(len(logits[0]), generator=torch.Generator().manual_seed(0))[
            :CONTEXTS
        ]
        return cls(*(torch.log_softmax(one[chosen].double(), -1) for one in logits))

    def variation(self, distribution: torch.Tensor) -> float:
        """Total variation from p, the mean over contexts."""
        return float((distribution - self.p).abs().sum(-1).mean() / 2)

    def information(self, distribution: torch.Tensor) -> float:
        """Relative entropy of p to a distribution, nats, the mean over contexts."""
        gain = torch.special.xlogy(distribution, distribution) - torch.where(
            distribution > 0, distribution * self.log_p, 0.0
        )
        return float(gain.sum(-1).mean())

    def narrowed(self, left_out: float) -> torch.Tensor:
        """Top-p of 1 - left_out."""
        ordered, order = self._ordered
        kept = torch.where(ordered.cumsum(-1) - ordered < 1 - left_out, ordered, 0.0)
        return torch.zeros_like(self.p).scatter(-1, order, kept / kept.sum(-1, keepdim=True))

    @functools.cached_property
    def _ordered(self) -> tuple[torch.Tensor, torch.Tensor]:
        ordered, order = self.p.sort(-1, descending=True)
        return ordered, order

    def heated(self, temperature: float) -> torch.Tensor:
        return torch.softmax(self.log_p / temperature, -1)

    def wrong(self) -> dict[str, tuple[Distribution, float, float]]:
        """Wrong engines, how wrong each is at least, where it is right, and at most."""

        def mixed(other: torch.Tensor) -> Distribution:
            return lambda share: self.p + (other - self.p) * share

        return {
            "a higher temperature": (self.heated, 1, 4),
            "a lower temperature": (lambda cold: self.heated(1 / cold), 1, 8),
            "a narrower top-p": (self.narrowed, 0, 0.5),
            "some drafts accepted always (q mixed in)": (mixed(self.q), 0, 1),
            "some recovered tokens drawn from p": (mixed(self.recovered), 0, 1),
            "some tokens uniform": (mixed(self.flat), 0, 1),
        }

    def engines(self, variation: float) -> dict[str, torch.Tensor]:
        """Each as wrong as makes the total variation."""
        return {
            name: distribution(searched(self.variation, distribution, low, high, variation))
            for name, (distribution, low, high) in self.wrong().items()
        }


def searched(
    variation_of: Callable[[torch.Tensor], float],
    distribution: Distribution,
    low: float,
    high: float,
    variation: float,
) -> float:
    """How wrong an engine is whose total variation, rising from low to high, is the one asked for."""
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (
            (middle, high) if variation_of(distribution(middle)) < variation else (low, middle)
        )
    return high


def power(pair: Pair) -> Iterator[str]:
    """Tokens until the evidence reaches 1 / alpha, with and without the drafter."""
    contexts = Contexts.of(pair)
    yield from table(
        "total variation",
        "engine's distribution",
        "text alone",
        "with the drafter",
        "knowing the distribution",
    )
    torch.manual_seed(0)
    for variation, furthest in FURTHEST.items():
        for name, distribution in contexts.engines(variation).items():
            tokens = torch.multinomial(distribution, DRAWS, replacement=True)
            pool = Draws.joined(
                [contexts.distributions.draws(own) for own in tokens.unbind(1)],
                np.arange(DRAWS * CONTEXTS),
            )
            oracle = math.ceil(math.log(1 / ALPHA) / contexts.information(distribution))
            alone, drafted = waiting(pool, furthest)
            yield row(
                variation, name, told(alone, furthest), told(drafted, furthest), f"{oracle:,}"
            )


def waiting(pool: Draws, furthest: int, repeats: int = REPEATS) -> tuple[float, float]:
    """Median tokens to 1 / alpha of runs drawn from a pool: from text alone, and with bets on the
    drafter too.
    """
    alone, drafted = [], []
    for repeat in range(repeats):
        rng = np.random.default_rng([2, repeat])
        order = rng.integers(len(pool.surprisal), size=furthest)
        seen = evidence(arranged(pool, lambda values: values[order]), rng.random(furthest))  # noqa: B023
        for found, into in ((without_drafter(seen), alone), (seen, drafted)):
            into.append(int(found.reached(ALPHA)) or math.inf)
    return float(np.median(alone)), float(np.median(drafted))


def without_drafter(seen: TextEvidence) -> TextEvidence:
    """What the bets on a text alone say of it."""
    families = {
        name: path
        for name, path in seen.families.items()
        if name not in (DRAFTED, ACCEPTED, RESIDUAL)
    }
    own = [*families.values()]
    return TextEvidence(np.logaddexp.reduce(own, axis=0) - math.log(len(own)), families)


def told(tokens: float, furthest: int) -> str:
    return f"more than {furthest:,}" if tokens == math.inf else f"{tokens:,.0f}"


def always(
    target: torch.Tensor, draft: torch.Tensor, tokens: torch.Tensor, generator: rules.Generator
) -> rules.Verified:
    accepted = torch.full_like(tokens[:, 0], tokens.shape[1])
    return accepted, rules.draw(rules._at(target, accepted), generator)


def from_p(
    target: torch.Tensor, draft: torch.Tensor, tokens: torch.Tensor, generator: rules.Generator
) -> rules.Verified:
    accepted, _ = rules.rejection(target, draft, tokens, generator)
    return accepted, rules.draw(rules._at(target, accepted), generator)


def inflated(
    target: torch.Tensor, draft: torch.Tensor, tokens: torch.Tensor, generator: rules.Generator
) -> rules.Verified:
    return rules.rejection(target, 0.9 * draft, tokens, generator)


def against_p(
    target: torch.Tensor, draft: torch.Tensor, tokens: torch.Tensor, generator: rules.Generator
) -> rules.Verified:
    coins = torch.rand(tokens.shape, generator=generator)
    accepted = rules._leading(coins < rules._of(target, tokens))
    return accepted, rules._draw_residual(
        rules._at(target, accepted), rules._at(draft, accepted), generator
    )


WRONG = {
    "every draft is accepted": always,
    "recovered tokens are drawn from p": from_p,
    "q is taken a tenth too small": inflated,
    "the coin is compared with p, not p / q": against_p,
    "typical acceptance": rules.typical,
}


def decoders(pair: Pair) -> Iterator[str]:
    """Texts of this project's decoder with a wrong rule in the place of the right one."""
    yield from table(
        "rule",
        "tokens of text",
        "found after, text alone",
        "found after, with the drafter",
        "most like",
    )
    right = rules.REJECTION
    for name, verify in WRONG.items():
        rules.REJECTION = dataclasses.replace(right, verify=verify)
        texts = pair.decoded("draft model", 0, "rejection", PLAIN)
        rules.REJECTION = right
        alone, drafted = (pair.judged(texts, PLAIN, drafter=drafter) for drafter in (False, True))
        yield row(
            name, drafted.tokens, crossing(texts, alone), crossing(texts, drafted), drafted.suspect
        )


def crossing(texts: tuple[Text, ...], found: Conformance) -> str:
    if found.crossed is None:
        return "not found"
    text, position = found.crossed
    before = sum(len(one.ids) - one.prompt_length for one in texts[:text])
    return f"{before + position + 1 - texts[text].prompt_length:,}"


def precision(pair: Pair) -> Iterator[str]:
    """Plain texts of the target in a coarser dtype, judged by the target in float32."""
    yield from table(
        "engine", "sampling", "tokens", "not the arg-max", "largest gap", "tolerance", "verdict"
    )
    for name in ("bfloat16", "float16"):
        dtype = getattr(torch, name)
        coarse = load_model(str(pair.target.checkpoint.folder), "cpu", name)
        for temperature in (0.0, 1.0):
            texts = decode(
                coarse,
                None,
                pair.prompts,
                k=0,
                temperature=temperature,
                new_tokens=128,
                batch_size=80,
            ).texts
            found = conformance(
                pair.target,
                texts,
                temperature=temperature,
                tolerance=TOLERANCES[dtype],
                alpha=ALPHA,
            )
            gaps = [one.gap for one in found.divergences]
            cells = (
                (len(gaps), f"{max(gaps, default=0):.3f}", TOLERANCES[dtype])
                if temperature == 0
                else ("", "", "")
            )
            yield row(name, found.sampling.suffix, found.tokens, *cells, found.verdict)


PAGE = """# Conformance: losslessness from an engine's text alone

Made by `make conformance` (`benchmarks/conformance.py`) from the embedded pair in float32.
Run on {machine}.

```python
from pytest_specdec import decode
from pytest_specdec.lossless import conformance

target, draft = "suites/models/text-target", "suites/models/text-draft"
texts = decode(target, draft, ["def read(path):", "The standard library"], k=4, new_tokens=48).texts
sequences, lengths = [text.ids for text in texts], [text.prompt_length for text in texts]

found = conformance(
    target, sequences, prompt_lengths=lengths, temperature=1.0, drafter=draft, alpha=0.01
)
assert found.conforms, found.message
assert found.report().startswith("conforms: 96 tokens of 2 texts at t1, evidence ")
```

`sequences` are token ids, prompt and new tokens together, as any engine returns them; `target` is
the model that the engine serves. One pass of the target over the texts gives the distribution p
that each new token should have been drawn from. Bets of expectation one are laid on the next token
(another temperature, a narrower top-p, tokens too unlikely, other ranks than the target's, draws
that depend on the one before; with a drafter also on what wrong verification rules emit), and their
mean value is the evidence. If the engine is lossless it ever reaches 1 / alpha with probability
alpha at most, so one may look after every text and stop at will, or add texts at the end and judge
all again.

A token that top-k or top-p leaves out is a violation by itself, unless the filter would keep it if the
gaps between logits changed by the tolerance: such ties are counted and reported. At temperature 0 each
token must be the target's arg-max; where it is not, the gap between the two logits distinguishes a tie
from a bug. The tolerance is that of the target's dtype, in logits {tolerances};
pass the engine's as `tolerance` where its dtype is coarser.

A text is read up to its first EOS token, which is a token like others, with bets of its own on texts that end too
early or too late; `new_tokens=` has the ends themselves judged: [when texts end](check-engine.md#when-texts-end).

Two conditions must hold. Sampled texts must be independent: give each request its own seed. And the target
must be scored here in the engine's precision, or it is a different target; how much that matters is at the
end of this page.

## False alarms: simulated lossless engines

{runs:,} runs of {tokens:,} tokens, vocabulary {vocabulary}, distributions between flat and certain, new ones at each
token; the evidence, bets on a drafter included, is looked at after every token.

{simulated}

## False alarms: the embedded pair

80 prompts, 128 new tokens each, k = 4; the evidence counts from 1 and violates at 100. The drafter of the bets is the
draft model, even where another drafter drafted.

{lossless}

## Power: tokens until a wrong distribution is found

The first column is the total variation between the engine's distribution and the target's, averaged
over {contexts:,} places in the stored texts of temperature 1. The numbers of tokens are medians of {repeats}
runs at alpha = 1 %. Each token is drawn from the engine's distribution at one of these places. *Knowing
the distribution* is log(1 / alpha) over the relative entropy, about what the best bet would need if the
engine's distribution were known beforehand.

{power}

A distribution that only speculative decoding can produce (recovered tokens from p) hardly shows in
the surprisal: name the drafter where there is one.

[The same on a real pair](real-model-claims.md#conformance), whose vocabulary has 49,152 tokens.

## Wrong rules in a real decoder

This project's decoder with a wrong rule in the place of rejection sampling, 80 prompts, 128 new tokens each, k = 4.

{decoders}

## What the oracle judges

`specdec_oracle` replays the texts that an engine emitted with the engine's own models. Given a
text, the rounds are a Markov chain over its positions, so a sum over them has a known distribution.
It is computed exactly, text by text, and convolved; no normal tail and no bound is taken. Judged
are

* the accepted tokens beyond what the models imply, over all positions (half of the error rate),
* each draft position by itself, so that too much at one and too little at another do not cancel (three tenths, shared),
* rejections that are impossible (two tenths): rejection sampling accepts every draft that q
  makes at least as likely as p, so a recovered token is always one that p makes likelier. One such
  round in 100,000 is put down to rounding.

Engines that report sums alone are judged by their rounds and, where they report them, their
positions. At temperature 0 every round is compared.

## The course of a run

Sums hide what happens in time. Where an engine reports its rounds and samples, `specdec_oracle.course` judges the order
of the requests, at an error rate of its own:

```python
import pytest


@pytest.mark.specdec(target="org/target-8b", drafter="org/draft-1b", k=3)
def test_engine_stays_as_it_begins(specdec_oracle):
    course = specdec_oracle.course
    assert course.steady, course.message
```

| found | by | for instance |
|---|---|---|
| first rounds of texts that accept more or less than later ones would | their exact distribution | states of the draft that were not handed over with the prompt |
| a change after some request, which is named | an e-value, the mean of bets on every request from which on acceptance differs | a cache that ages, a worker that was restarted with another adapter |
| a mixture of good and bad requests | their spread beside runs drawn from the models | one replica with other weights |

In 60 texts of some 15 rounds (`tests/engines/counting/test_time_course.py`) all three are found at 1 % where first rounds
keep 30 % of their conditional acceptance, where it falls by 30 % after request 40, and where a fifth of the requests keeps
25 %. A right engine is called unsteady in at most alpha of its runs: the models' distribution of each request is
exact. At temperature 0 every round is compared and `course` is None.

## Which cause is named

Where an engine reports its rounds, each token is an accepted draft, the recovered token after a
rejection, or the bonus token after full acceptance. Texts that violate are then explained:
conformance compares the likelihood of all tokens and roles under known defects, and names the one
that fits best, or *either ... or ...* where two fit within a factor of 100. It names none where a
right engine with other settings fits as well. `conformance(..., rounds=decoded.rounds)` does the
same for your own decoder. The verdict does not depend on it.

## What the default cases of suites/engines find

Every decoder defect of the first part of the [museum](museum.md), and six of sampling, were built into
this project's decoder and judged by the cases of `suites/engines` at the level of a whole session (1 %
for all cases together). Defects that show at temperature 0 were judged in the greedy cases, where one run decides;
those of sampling with {seeds} seeds. `eos/` are the cases of that folder. Only this project's own decoder
runs batches above 1 (16 rows); every other engine decodes one text at a time.

{cases}

*q a tenth too small* shows itself by rejections that are impossible, one to three in 20 prompts,
and two are needed: hence the 80 prompts of `TestTopK`, where conformance finds it too. Made by
`benchmarks/engine_defects.py`. A right engine, sets with seeds of their own:

{alarms}

## An engine in another precision

Texts of the target itself in a coarser dtype, judged by the target in float32.

{precision}

## What these numbers depend on

The seeds are fixed: the same code, versions and processor give the same page. The tables of
`suites/engines` are read from the results stored in `benchmarks/results`. The tables of power (down to a
total variation of 0.02) and of other precisions were the same with one thread and with two.

Another processor or instruction set rounds sums differently. That moves near-ties and single draws, and so
far no verdict. An earlier run of the same code in another environment found 376 (bfloat16) and 67 (float16)
tokens that are not the arg-max; a run with AVX2 in the place of AVX-512 (`ATEN_CPU_CAPABILITY=avx2`) found
377 and 62. Noise of 0.000001 on the log-probabilities moved waits of 3,370 and 3,680 tokens to 3,368 and
3,783. These numbers alone come from runs of their own.
"""


def machine() -> str:
    """What decides how sums are rounded: processor, instruction set, threads and versions."""
    here = environment(torch.device("cpu"), "float32")
    processor = torch.cpu.get_capabilities()["cpu_name"]
    threads = f"{here.threads} thread{'s' * (here.threads != 1)}"
    return f"{threads} of {processor} ({here.device}), torch {here.torch}, transformers {here.transformers}"


def main() -> None:
    pair = Pair.load()
    sections = {
        "simulated": simulated(),
        "lossless": lossless(pair),
        "power": power(pair),
        "decoders": decoders(pair),
        "precision": precision(pair),
    }
    texts = {name: "\n".join(lines) for name, lines in sections.items()}
    names = (
        (str(dtype).removeprefix("torch."), gap)
        for dtype, gap in TOLERANCES.items()
        if dtype != torch.float64
    )
    texts |= {
        "cases": engine_defects.table(),
        "alarms": engine_defects.alarms_table(),
        "seeds": engine_defects.REPEATS,
    }
    texts["tolerances"] = ", ".join(f"{gap:g} ({name})" for name, gap in names)
    print(
        PAGE.format(
            runs=RUNS,
            tokens=TOKENS,
            vocabulary=VOCABULARY,
            contexts=CONTEXTS,
            repeats=REPEATS,
            machine=machine(),
            **texts,
        ),
        end="",
    )


if __name__ == "__main__":
    main()
