"""Conformance's promises on a real pretrained pair, beside the embedded pair's: texts of the target
itself, and tokens until a wrong engine is found.

    OMP_NUM_THREADS=1 python benchmarks/conformance_real_pair.py [--into docs/real-model-claims.md]

Target, draft model and prompts are those of suites/smollm2 unless others are named; the texts are those
stored with its baselines, of others the target samples them, in batches. Three parts: `level` judges the
target's texts, each alone and all together; `power` draws from wrong distributions at places in these texts;
`rules` decodes with wrong verification rules. Rows are kept in the file of `--results`, and what is there is
not measured again.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from conformance import (
    ALPHA,
    FURTHEST,
    WRONG,
    Contexts,
    arranged,
    told,
    waiting,
    without_drafter,
)
from marked_page import marks_of, write_lines

from pytest_specdec.baselines.store import load
from pytest_specdec.cases.case import Sampling
from pytest_specdec.cases.prompts import Prompt, read_prompts
from pytest_specdec.cases.texts import Text, texts_of_prompts
from pytest_specdec.decoding import verification as rules
from pytest_specdec.decoding.decode import decode
from pytest_specdec.decoding.loading import LoadedModel, load_model
from pytest_specdec.decoding.sampling import encode_prompts, eos_ids, sample_new_tokens
from pytest_specdec.lossless.texts.martingale import Draws, evidence
from pytest_specdec.lossless.texts.teacher_forcing import forced
from pytest_specdec.lossless.texts.token_scores import TokenDistributions
from pytest_specdec.records.text_set import TextSet

ROOT = Path(__file__).parent.parent
SUITE = ROOT / "suites" / "smollm2"
STORED = ROOT / "baselines" / "smollm2" / "texts" / "t1-n64-s0.json"
RESULTS = ROOT / "benchmarks" / "results" / "conformance-smollm2.jsonl"
TOY = ROOT / "docs" / "conformance.md"
MARK = "conformance_real_pair.py"
PLAIN = Sampling()
NEW_TOKENS, PART = 64, 64
CONTEXTS, DRAWS, REPEATS = 768, 128, 11
STEPS = 12
"""How wrong an engine is follows from its total variation at so many steps."""
DECODED = 12
"""Prompts that are decoded with wrong rules."""


class RankedDistributions(TokenDistributions):
    """Distributions whose tokens are put into order once, for many draws from each."""

    @functools.cached_property
    def _before(self) -> torch.Tensor:
        """(distributions, vocabulary): mass of the tokens before each."""
        ordered, order = self.log_p.exp().sort(stable=True, dim=-1, descending=True)
        return torch.zeros_like(ordered).scatter(-1, order, ordered.cumsum(-1) - ordered)

    def _below(self, tokens: torch.Tensor) -> torch.Tensor:
        return self._before.gather(-1, tokens[:, None])[:, 0]


class Results:
    """Rows that are kept, one JSON object a line."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows = (
            [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        )

    def add(self, **row: object) -> None:
        self.rows.append(row)
        with self.path.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(json.dumps(row), flush=True)

    def of(self, part: str) -> list[dict]:
        return [row for row in self.rows if row["part"] == part]


@dataclasses.dataclass(frozen=True)
class RealPair:
    """A pair, prompts and texts of its target."""

    target: LoadedModel
    draft: LoadedModel
    prompts: list[Prompt]
    ids: list[list[int]]

    def texts(self, stored: Path | None) -> list[Text]:
        """Those stored with baselines, or new ones."""
        if stored is None:
            new = sample_new_tokens(
                self.target, self.ids, new_tokens=NEW_TOKENS, sampling=PLAIN, seed=0
            )
            return [*texts_of_prompts(self.prompts, self.ids, new)]
        kept = load(stored, TextSet)
        assert kept is not None, f"{stored} is missing; make smollm2 writes it"
        return [
            Text(prompt.key, "all", (*ids, *kept.texts[prompt.key]), len(ids))
            for prompt, ids in zip(self.prompts, self.ids, strict=True)
        ]


@dataclasses.dataclass(frozen=True)
class Scored:
    """The draws of all new tokens, in the order of the texts, and log p and log q at some of them."""

    draws: Draws
    log_p: torch.Tensor
    """(places, vocabulary), float32."""
    log_q: torch.Tensor

    def parts(self) -> Iterator[Contexts]:
        """The places, a few at a time."""
        for begin in range(0, len(self.log_p), PART):
            rows = slice(begin, begin + PART)
            logits = [torch.log_softmax(one[rows].double(), -1) for one in (self.log_p, self.log_q)]
            yield Contexts(*logits, RankedDistributions)


@torch.inference_mode()
def scored(pair: RealPair, texts: Sequence[Text], places: int) -> Scored:
    """One pass of both models over texts; `places` of their new tokens are chosen at random."""
    count = sum(len(text.ids) - text.prompt_length for text in texts)
    chosen = np.zeros(count, dtype=bool)
    chosen[np.random.default_rng(0).permutation(count)[:places]] = True
    draws, at, kept = [], [], []
    for part in forced(pair.target, pair.draft, texts):
        assert part.draft_logits is not None
        logits = [torch.log_softmax(one.double(), -1) for one in (part.logits, part.draft_logits)]
        distributions = TokenDistributions(*logits, eos_ids(pair.target))
        draws.append(distributions.draws(part.tokens))
        at.append(part.at)
        own = torch.from_numpy(chosen[part.at])
        kept.append([one[own].float() for one in logits])
    log_p, log_q = (torch.cat(own) for own in zip(*kept, strict=True))
    return Scored(Draws.joined(draws, np.concatenate(at).argsort()), log_p, log_q)


def level(texts: Sequence[Text], draws: Draws, results: Results) -> None:
    """The target's own texts, each alone and all together."""
    rng, begin, highest = np.random.default_rng(0), 0, []
    for text in texts:
        rows = slice(begin, begin + len(text.ids) - text.prompt_length)
        begin = rows.stop
        own = arranged(draws, lambda values: values[rows])  # noqa: B023
        highest.append(float(evidence(own, rng.random(len(own.surprisal))).highest))
    together = evidence(draws, rng.random(begin))
    results.add(
        part="level",
        texts=len(texts),
        tokens=begin,
        violating=sum(one >= -math.log(ALPHA) for one in highest),
        largest=round(math.exp(max(highest)), 2),
        together=round(together.highest_value, 2),
        alone=round(without_drafter(together).highest_value, 2),
        z=round(float(draws.z()), 2),
    )


def power(places: Scored, results: Results) -> None:
    """Tokens until wrong engines are found."""
    done = {(row["variation"], row["engine"]) for row in results.of("power")}
    strengths = strengths_of(places)
    wanted = {
        (variation, name): strength_at(variation, name, *strengths[name])
        for variation in FURTHEST
        for name in strengths
        if (variation, name) not in done
    }
    for (variation, name), engine in drawn(places, wanted).items():
        alone, drafted = soonest(engine.pool, FURTHEST[variation])
        results.add(
            part="power",
            variation=variation,
            engine=name,
            found=round(engine.variation, 4),
            alone=told(alone, FURTHEST[variation]),
            drafted=told(drafted, FURTHEST[variation]),
            known=math.ceil(math.log(1 / ALPHA) / engine.information),
        )


def strengths_of(places: Scored) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """How wrong each engine may be, and its total variation then; mixtures vary in a line."""
    grids: dict[str, np.ndarray] = {}
    sums: dict[str, np.ndarray] = {}
    for contexts in places.parts():
        for name, (distribution, low, high) in contexts.wrong().items():
            steps = 2 if high == 1 else STEPS
            grids[name] = low + np.geomspace(1e-3, 1, steps) * (high - low)
            own = np.array([contexts.variation(distribution(one)) for one in grids[name]])
            sums[name] = sums.get(name, 0) + own * len(contexts.p)
    return {name: (grids[name], sums[name] / len(places.log_p)) for name in grids}


def strength_at(variation: float, name: str, grid: np.ndarray, found: np.ndarray) -> float:
    """How wrong an engine is at a total variation, interpolated between logarithms."""
    right = 1.0 if name.endswith("temperature") else 0.0
    logarithm = np.interp(math.log(variation), np.log(found), np.log(grid - right))
    return right + math.exp(float(logarithm))


@dataclasses.dataclass
class Drawn:
    """Draws of a wrong engine at all places."""

    pool: Draws
    variation: float
    """Total variation from p."""
    information: float
    """Relative entropy, nats."""


def drawn(
    places: Scored, strengths: dict[tuple[float, str], float]
) -> dict[tuple[float, str], Drawn]:
    """Of engines by total variation and name, each so wrong."""
    pools: dict[tuple[float, str], list[Draws]] = {key: [] for key in strengths}
    sums = {key: np.zeros(2) for key in strengths}
    torch.manual_seed(0)
    for contexts in places.parts():
        engines = contexts.wrong()
        for key, strength in strengths.items():
            distribution = engines[key[1]][0](strength)
            found = contexts.variation(distribution), contexts.information(distribution)
            sums[key] += np.array(found) * len(contexts.p) / len(places.log_p)
            tokens = torch.multinomial(distribution, DRAWS, replacement=True)
            pools[key] += [contexts.distributions.draws(own) for own in tokens.unbind(1)]
    order = np.arange(DRAWS * len(places.log_p))
    return {key: Drawn(Draws.joined(pools[key], order), *map(float, sums[key])) for key in pools}


def soonest(pool: Draws, furthest: int) -> tuple[float, float]:
    """`waiting`, with no more tokens than needed."""
    for part in (furthest // 20, furthest // 4, furthest):
        alone, drafted = waiting(pool, part, REPEATS)
        if max(alone, drafted) < math.inf:
            break
    return alone, drafted


def wrong_rules(pair: RealPair, coarse: RealPair, results: Results) -> None:
    """Texts of this project's decoder, run in bfloat16, with a wrong rule in the place of the right one
    and with the right one.
    """
    done = {row["rule"] for row in results.of("rules")}
    right = rules.REJECTION
    for name, verify in ({"rejection sampling": right.verify} | WRONG).items():
        if name in done:
            continue
        rules.REJECTION = dataclasses.replace(right, verify=verify)
        texts = decode(
            coarse.target,
            coarse.draft,
            pair.ids[:DECODED],
            k=4,
            rule="rejection",
            new_tokens=NEW_TOKENS,
            batch_size=DECODED,
            temperature=1.0,
        ).texts
        rules.REJECTION = right
        draws = scored(pair, texts, 1).draws
        seen = evidence(draws, np.random.default_rng(0).random(len(draws.surprisal)))
        alone = without_drafter(seen)
        results.add(
            part="rules",
            rule=name,
            tokens=len(draws.surprisal),
            alone=int(alone.reached(ALPHA)),
            drafted=int(seen.reached(ALPHA)),
            evidence=float(f"{min(seen.highest_value, 1e300):.3g}"),
        )


def tables(results: Results) -> Iterator[str]:
    """In Markdown, the embedded pair's numbers beside."""
    for row in results.of("level"):
        yield (
            f"Of {row['texts']} texts that the target itself wrote ({row['tokens']:,} tokens), "
            f"{row['violating']} reach evidence 100 when each is judged alone (the largest "
            f"{row['largest']:g}); all together reach {row['together']:g}, without the drafter "
            f"{row['alone']:g} (z {row['z']:+.2f})."
        )
        yield ""
    toy = toy_rows()
    yield (
        "| total variation | engine's distribution | text alone | with the drafter | knowing the "
        "distribution | toy: alone | toy: with the drafter | toy: knowing |"
    )
    yield "|---" * 8 + "|"
    for row in results.of("power"):
        cells = row["alone"], row["drafted"], f"{row['known']:,}"
        theirs = toy[str(row["variation"]), row["engine"]]
        yield f"| {row['variation']} | {row['engine']} | {' | '.join((*cells, *theirs))} |"
    if not results.of("rules"):
        return
    yield ""
    yield (
        "| rule | tokens of text | found after, text alone | found after, with the drafter | toy: "
        "tokens | toy: alone | toy: with the drafter |"
    )
    yield "|---" * 7 + "|"
    for row in results.of("rules"):
        theirs = toy.get((row["rule"],), ("", "", ""))[:3]
        yield (
            f"| {row['rule']} | {row['tokens']:,} | {after(row['alone'])} | {after(row['drafted'])} "
            f"| {' | '.join(theirs)} |"
        )


def after(tokens: int) -> str:
    return f"{tokens:,}" if tokens else "not found"


def toy_rows() -> dict[tuple[str, ...], tuple[str, ...]]:
    """Cells of docs/conformance.md, by total variation and engine, and by rule."""
    found: dict[tuple[str, ...], tuple[str, ...]] = {}
    for line in TOY.read_text().splitlines():
        cells = tuple(cell.strip() for cell in line.strip("|").split("|"))
        if len(cells) == 5 and line.startswith("| "):
            key = cells[:2] if cells[0].startswith("0.") else cells[:1]
            found[key] = cells[len(key) :]
    return found


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--target", default=str(SUITE / "models" / "target"))
    parser.add_argument("--drafter", default=str(SUITE / "models" / "exit-20"))
    parser.add_argument("--prompts", type=Path, default=SUITE / "prompts.jsonl")
    parser.add_argument("--stored", type=Path, help="texts of temperature 1; sampled unless given")
    parser.add_argument("--texts", type=int, default=64, help="prompts, the first ones")
    parser.add_argument("--parts", nargs="*", default=["level", "power", "rules"])
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--into", type=Path, help="a page with the marks of this script")
    given = parser.parse_args()
    if given.target == parser.get_default("target") and given.stored is None:
        given.stored = STORED
    return given


def main() -> None:
    given = options()
    results = Results(given.results)
    prompts = read_prompts(given.prompts, given.texts)
    wanted = [part for part in given.parts if not finished(results, part)]

    def loaded(dtype: str) -> RealPair:
        target, draft = (load_model(path, "cpu", dtype) for path in (given.target, given.drafter))
        return RealPair(target, draft, prompts, encode_prompts(target.tokenizer, prompts))

    if wanted:
        pair = loaded("float32")
        if {"level", "power"} & {*wanted}:
            texts = pair.texts(given.stored)
            found = scored(pair, texts, CONTEXTS)
            if "level" in wanted:
                level(texts, found.draws, results)
            if "power" in wanted:
                with torch.inference_mode():
                    power(found, results)
        if "rules" in wanted:
            wrong_rules(pair, loaded("bfloat16"), results)
    lines = "\n".join(tables(results))
    print(lines)
    if given.into:
        write_lines(given.into, marks_of(MARK), lines)


def finished(results: Results, part: str) -> bool:
    """Whether a part has all its rows."""
    rows = {"level": 1, "power": 6 * len(FURTHEST), "rules": 1 + len(WRONG)}
    return len(results.of(part)) >= rows[part]


if __name__ == "__main__":
    main()
