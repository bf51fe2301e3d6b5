"""The museum of distribution bugs as a page: how far off each is, and who else would have seen it.

    python tests/museum/losslessness.py > docs/museum-losslessness.md

Takes about 20 minutes, most of them for the tests of others. Seconds differ from run to run, all
else repeats.
"""

from __future__ import annotations

import functools
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from museum import rivals
from museum.mutants import MUTANTS, Mutant
from museum.ragged import RAGGED, Ragged
from museum.unusual import UNUSUAL, Unusual

from pytest_specdec.lossless import flat_batch
from pytest_specdec.lossless.enumeration.paths import NotEnumerableError
from pytest_specdec.lossless.samplers.check import LosslessResult, assert_lossless
from pytest_specdec.lossless.samplers.exact import Distribution, output_distribution
from pytest_specdec.lossless.samplers.sampler import ContractError
from pytest_specdec.lossless.samplers.strategies import RELATIONS

VOCAB_SIZE, K = 4, 3
COUNTED = 1_000_000
"""Rounds that are counted where the distribution cannot be enumerated."""
UNUSUAL_EXAMPLES = 1_000
"""Of every sampler that is right; the tests take fewer."""
Rows = list[np.ndarray]
HEADER = (
    "sampler",
    "source",
    "mechanism",
    "total variation",
    "caught by",
    "seconds",
    "vLLM",
    "TensorRT-LLM",
    "transformers",
)
HEAD = """# A museum of distribution bugs

{rows} samplers that emit another distribution than the target's, or break the contract of one: defects
of real engines, and rules that are lossy by design, each built as the smallest change to one clean
round. `assert_lossless` finds {caught}, in {seconds:.0f} s together. Of the distribution tests that engines
run today, vLLM's three would see {L2} (L2), {wide} (wide) and {narrow} (narrow), TensorRT-LLM's {tensorrt},
transformers' {transformers}; {nobody} are seen by none of them.
"""
FOOT = """
*total variation*: between the distribution of the first {length} tokens and the target's, the worst of
{examples} rounds with a vocabulary of {vocab_size} and {k} drafts; exact, but for *~*, which is counted over {counted:,}
rounds and two tokens. It is 0 where the distribution is right and the contract is broken in another
way. Where a mechanism says *here*, the report does not contain all that is needed to build it. The source is a paper where a rule is lossy by
design, or departs from the paper's without a report.
*caught by*: exact, the distribution of all its draws; sampled, the counts of many rounds; or the contract.
*seconds*: the wall clock of one run; all other cells repeat from run to run.

The other projects' tests are run with the sampler in place of theirs, with their sizes, distributions and
thresholds, and with one seed: vLLM's *L2* (V 10, k 2, 100,000 rounds), *wide* (V 4096, k 3, T 1, 40,960) and
*narrow* (V 16, k 3, 200,000); TensorRT-LLM's KL below 0.01 (V 500, k 1, 50,000); transformers' order of four
counts (V 10, k 3, 10,000). vLLM's give all positions the same distributions. All but *narrow* draw the
drafts themselves, so that they cannot meet a drafter's defect: where a name has a *\\**, they were given
the whole round, which is more than they see today. Their tests of seeds, ranges and greedy rows are not
counted.
"""
RAGGED_HEAD = """
## Ragged rows

{rows} samplers with flat rows, as vLLM's, given to `flat_batch`
([test-your-rejection-sampler.md](test-your-rejection-sampler.md)).
All but *rows of the next request* and *coins by position* are right while all requests have the same number of drafts;
{caught} are found.

| sampler | source | mechanism | caught by |
|---|---|---|---|"""
UNUSUAL_HEAD = """
## Unusual, and right

{rows} samplers that look wrong but keep the target's distribution. None of them is reported as lossy.

| sampler | what is odd about it | examples | result |
|---|---|---|---|"""
LAST = """
*transformers* is run without forced draws at the ends of their range: its `r <= p / q` accepts a
draft of probability 0 at a draw of exactly 0, as in
[sglang#35771](https://github.com/sgl-project/sglang/issues/35771). Made by
`python tests/museum/losslessness.py > docs/museum-losslessness.md`.
"""


def examples() -> Iterator[tuple[Rows, Rows]]:
    """p (k + 1 rows) and q (k rows) by position: unrelated, and related in each way, either from
    the other.
    """
    seeded = np.random.default_rng(0)
    for relation in (None, *RELATIONS.values()):
        distributions = [seeded.dirichlet(np.full(VOCAB_SIZE, 0.7)) for _ in range(2 * K + 1)]
        others = (
            distributions[K:]
            if relation is None
            else [
                np.array(relation(tuple(distribution))) for distribution in distributions[: K + 1]
            ]
        )
        yield distributions[: K + 1], others[:K]
        yield others[: K + 1], distributions[:K]


def exact_variation(mutant: Mutant) -> float:
    """The worst over the examples. Raises NotEnumerableError."""
    return max(
        joint_variation(
            output_distribution(
                mutant.sample, p, q, K, drafts=mutant.drafts, batched=mutant.batched
            ),
            p,
        )
        for p, q in examples()
    )


def joint_variation(distribution: Distribution, p: Rows) -> float:
    """Between the distributions of k + 1 tokens, where emitted ones are continued by the target."""
    wanted = functools.reduce(np.multiply.outer, p)
    got = np.zeros_like(wanted)
    for emitted, weight in distribution.items():
        got[emitted] += functools.reduce(np.multiply.outer, p[len(emitted) :], np.array(weight))
    return float(np.abs(got - wanted).sum() / 2)


def counted_variation(mutant: Mutant) -> float:
    """The same for the first two tokens, from counts."""
    seeded = torch.Generator().manual_seed(0)
    worst = 0.0
    for p, q in examples():
        target, draft = (torch.tensor(np.array(rows), dtype=torch.float32) for rows in (p, q))
        pairs = rivals.emitted(mutant, target, draft, COUNTED, seeded)[:, :2]
        following = torch.multinomial(target[1], COUNTED, replacement=True, generator=seeded)
        pairs[:, 1] = torch.where(pairs[:, 1] < 0, following, pairs[:, 1])
        got = (pairs @ torch.tensor([VOCAB_SIZE, 1])).bincount(minlength=VOCAB_SIZE**2) / COUNTED
        worst = max(
            worst, (got - torch.outer(target[0], target[1]).flatten()).abs().sum().item() / 2
        )
    return worst


def variation(mutant: Mutant) -> str:
    try:
        exact = exact_variation(mutant)
    except ContractError:
        return "-"
    except NotEnumerableError:
        return f"~{counted_variation(mutant):.3f}" if mutant.level == "distribution" else "0"
    return f"{exact:.2g}" if exact > 1e-5 else "0"


def caught(mutant: Mutant) -> tuple[str, float]:
    """What of assert_lossless sees it, and in how many seconds."""
    start = time.perf_counter()
    by = "nothing"
    try:
        assert_lossless(mutant.sample, drafts=mutant.drafts, batched=mutant.batched)
    except AssertionError as error:
        by = level(error)
    if by == "contract" and mutant.level != "distribution":
        by += f": {mutant.level}"
    return by, time.perf_counter() - start


def caught_ragged(sampler: Ragged) -> str:
    """What of assert_lossless sees it."""
    try:
        assert_lossless(flat_batch(sampler.sample))
    except AssertionError as error:
        return level(error)
    return "nothing"


def level(error: AssertionError) -> str:
    """`exact`, `sampled` or `contract`, from its message."""
    match = re.search(r"not lossless \((\w+)\)", str(error))
    return match[1] if match else str(error)


def seen_by_vllm(mutant: Mutant) -> list[str]:
    return [name for name, test in rivals.VLLM.items() if rivals.seen(test, mutant)]


def source(mutant: Mutant | Ragged) -> str:
    if mutant.source.startswith("arXiv:"):
        return f"[{mutant.source}](https://arxiv.org/abs/{mutant.source.removeprefix('arXiv:')})"
    repository, number = mutant.source.split("#")
    return f"[{repository.split('/')[1]}#{number}](https://github.com/{repository}/issues/{number})"


def passed(sampler: Unusual, examples: int) -> LosslessResult:
    return assert_lossless(
        sampler.sample,
        drafts=sampler.drafts,
        batched=sampler.batched,
        dtype=sampler.dtype,
        boundary=sampler.boundary,
        max_examples=examples,
    )


def table(cells: tuple[str, ...]) -> None:
    print(f"| {' | '.join(cells)} |")


def ragged_rows() -> None:
    """The section on rows with different numbers of drafts."""
    results = [(sampler, caught_ragged(sampler)) for sampler in RAGGED]
    ours = sum(by != "nothing" for _, by in results)
    print(RAGGED_HEAD.format(rows=len(RAGGED), caught="all" if ours == len(RAGGED) else ours))
    for sampler, by in results:
        table((sampler.name, source(sampler), sampler.mechanism, by))


def main() -> None:
    results = [(mutant, *caught(mutant)) for mutant in MUTANTS]
    ours = sum(by != "nothing" for _, by, _ in results)
    vllm = [seen_by_vllm(mutant) for mutant in MUTANTS]
    others = [
        [rivals.seen(test, mutant) for test in (rivals.tensorrt_llm, rivals.transformers)]
        for mutant in MUTANTS
    ]
    numbers = {
        "rows": len(MUTANTS),
        "caught": "all of them" if ours == len(MUTANTS) else f"{ours} of them",
        "seconds": sum(seconds for _, _, seconds in results),
        "tensorrt": sum(tensorrt for tensorrt, _ in others),
        "transformers": sum(transformers for _, transformers in others),
        "nobody": sum(
            not names and not any(rest) for names, rest in zip(vllm, others, strict=True)
        ),
    }
    print(
        HEAD.format(
            **numbers, **{name: sum(name in names for names in vllm) for name in rivals.VLLM}
        )
    )
    table(HEADER)
    print("|---" * len(HEADER) + "|")
    for (mutant, by, seconds), names, rest in zip(results, vllm, others, strict=True):
        cells = (
            mutant.name + r" \*" * (mutant.drafts == "own"),
            source(mutant),
            mutant.mechanism,
            variation(mutant),
            by,
            f"{seconds:.1f}",
            ", ".join(names) or "no",
            *("yes" if caught_it else "no" for caught_it in rest),
        )
        table(cells)
    sizes = {
        "length": K + 1,
        "examples": len(list(examples())),
        "vocab_size": VOCAB_SIZE,
        "k": K,
        "counted": COUNTED,
    }
    print(FOOT.format(**sizes), end="")
    ragged_rows()
    print(UNUSUAL_HEAD.format(rows=len(UNUSUAL)))
    for sampler in UNUSUAL:
        checked = passed(sampler, UNUSUAL_EXAMPLES)
        table((sampler.name, sampler.oddity, str(checked.examples), f"lossless, {checked.method}"))
    print(LAST, end="")


if __name__ == "__main__":
    main()
