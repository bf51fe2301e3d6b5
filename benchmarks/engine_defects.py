"""The default cases of suites/engines: what they find, and how often they accuse a right engine.

    python benchmarks/engine_defects.py found     # every decoder defect in every case (10 minutes)
    python benchmarks/engine_defects.py alarms    # 200 seeds of a right engine (40 minutes)

Both append to their file in benchmarks/results/ and go on where they were stopped; delete the file
to begin anew. benchmarks/conformance.py puts the tables into docs/conformance.md.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"
sys.path.insert(0, str(ROOT / "tests"))

from helpers.engine_cases import Judgements, decoder_defects, default_cases, judged, level  # noqa: E402
from museum.exhibits import EXHIBITS  # noqa: E402

from pytest_specdec.cases.case import Case  # noqa: E402
from pytest_specdec.cases.prompts import read_prompts  # noqa: E402
from pytest_specdec.decoding.sampling import encode_prompts  # noqa: E402
from pytest_specdec.engines.model_checks import conformance, oracle  # noqa: E402
from pytest_specdec.engines.models import ModelPool  # noqa: E402
from pytest_specdec.engines.own.decode_engine import DecodeEngine, _DecodedTexts  # noqa: E402

SEEDS, CHUNK, BATCH = 200, 5, 400
REPEATS = 3
"""Seeds of a sampled case with a defect."""


def found(path: Path) -> None:
    """Judge every defect in every case in which it can show."""
    named, done = default_cases(), {(row["defect"], row["case"], row["seed"]) for row in rows(path)}
    for name, defect in decoder_defects().items():
        for label, case in named.items():
            if not can_show(name, case):
                continue
            for seed in range(REPEATS if case.temperature > 0 else 1):
                if (name, label, seed) not in done:
                    one = judged(case, level(named), defect, seed)
                    keep(path, defect=name, case=label, seed=seed, **told(one))


def can_show(name: str, case: Case) -> bool:
    """Defects of sampling change nothing at temperature 0, those of heads nothing without any;
    others are judged greedily.
    """
    setting = {one.name: one.setting for one in EXHIBITS}.get(name)
    if setting is None or setting.temperature > 0:
        return case.temperature > 0
    return case.temperature == 0 and case.uses_own_heads == (setting.depth > 0)


def alarms(path: Path) -> None:
    """Judge a right engine: greedy cases once, for nothing in them is random; sampled ones with
    every seed.
    """
    named, done = default_cases(), {(row["case"], row["seed"]) for row in rows(path)}
    for label, case in named.items():
        if case.temperature == 0:
            if (label, 0) not in done:
                keep(path, case=label, seed=0, **told(judged(case, level(named))))
            continue
        for begin in range(0, SEEDS, CHUNK):
            seeds = [seed for seed in range(begin, begin + CHUNK) if (label, seed) not in done]
            for seed, one in right(case, seeds, level(named)) if seeds else ():
                keep(path, case=label, seed=seed, **told(one))


def right(case: Case, seeds: list[int], alpha: float) -> Iterator[tuple[int, Judgements]]:
    """Runs of our own decoder, all seeds in the same batches."""
    engine = DecodeEngine(ModelPool("cpu"))
    prompts = read_prompts(case.texts.prompts, case.texts.prompt_limit)
    ids = encode_prompts(engine.models.model(case.target).tokenizer, prompts)
    many = engine.models.decode(case, ids * len(seeds), batch_size=BATCH, seed=1000 + seeds[0])
    for number, seed in enumerate(seeds):
        own = dataclasses.replace(case, texts=dataclasses.replace(case.texts, seed=seed))
        part = slice(number * len(ids), (number + 1) * len(ids))
        texts = [
            dataclasses.replace(text, key=prompt.key, category=prompt.category)
            for text, prompt in zip(many.texts[part], prompts, strict=True)
        ]
        decoded = dataclasses.replace(many, texts=many.texts[part], rounds=many.rounds[part])
        engine._latest[own] = _DecodedTexts(prompts, texts, decoded, 1.0)
        yield seed, Judgements(oracle(engine, own, alpha), conformance(engine, own, alpha), texts)
        del engine._latest[own]


def told(one: Judgements) -> dict[str, object]:
    return {
        "finders": one.finders,
        "p": float(f"{one.oracle.p_value:.3g}"),
        "e": float(f"{min(one.conformance.e_value, 1e300):.3g}"),
        "z": round(one.oracle.z, 2),
    }


def rows(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def keep(path: Path, **row: object) -> None:
    with path.open("a") as file:
        file.write(json.dumps(row) + "\n")


def table() -> str:
    """Which case finds which defect, in Markdown."""
    return "\n".join(found_table(default_cases(), rows(RESULTS / "engine-found.jsonl")))


def alarms_table() -> str:
    """How often a right engine is accused, in Markdown."""
    return "\n".join(alarm_lines(default_cases(), rows(RESULTS / "engine-alarms.jsonl")))


def found_table(named: dict[str, Case], every: list[dict]) -> Iterator[str]:
    """By defect: the cases that find it, those that find it in most runs first."""
    yield from ("| defect | found by | not by |", "|---|---|---|")
    for name in decoder_defects():
        hits: list[tuple[float, str]] = []
        missed: list[str] = []
        for label, case in named.items():
            if not can_show(name, case):
                continue
            runs = [
                row["finders"] for row in every if (row["defect"], row["case"]) == (name, label)
            ]
            share = sum(map(bool, runs)) / max(len(runs), 1)
            judges = " and ".join(
                judge for judge in ("oracle", "conformance") if any(judge in own for own in runs)
            )
            times = f", {sum(map(bool, runs))} of {len(runs)} runs" if len(runs) > 1 else ""
            if share:
                hits.append((-share, f"{label} ({judges}{times})"))
            elif runs:
                missed.append(label)
        yield (
            f"| {name} | {', '.join(text for _, text in sorted(hits)) or 'nothing'} | "
            f"{', '.join(missed)} |"
        )


def alarm_lines(named: dict[str, Case], every: list[dict]) -> Iterator[str]:
    """How many complete sets accuse a right engine, and each sampled case by itself."""
    sampled = [label for label, case in named.items() if case.temperature > 0]
    by_case = {
        label: {row["seed"]: row for row in every if row["case"] == label} for label in named
    }
    sets = set.intersection(*[set(by_case[label]) for label in sampled])
    wrong = {seed for seed in sets if any(by_case[label][seed]["finders"] for label in sampled)}
    wrong |= sets if any(row["finders"] for row in every if row["case"] not in sampled) else set()
    yield f"{len(wrong)} of {len(sets)} complete sets alarm at 1 %."
    yield from (
        "",
        "| sampled case | runs | oracle alarms | conformance alarms | smallest p | largest "
        "evidence |",
        "|---" * 6 + "|",
    )
    for label in sampled:
        if not (own := list(by_case[label].values())):
            continue
        counts = [
            sum(judge in row["finders"] for row in own) for judge in ("oracle", "conformance")
        ]
        extremes = f"{min(row['p'] for row in own):.2g} | {max(row['e'] for row in own):.3g}"
        yield f"| {label} | {len(own)} | {counts[0]} | {counts[1]} | {extremes} |"


if __name__ == "__main__":
    {"found": found, "alarms": alarms}[sys.argv[1]](RESULTS / f"engine-{sys.argv[1]}.jsonl")
