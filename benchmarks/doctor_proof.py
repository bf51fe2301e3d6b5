"""How often the doctor names what is wrong with a head, and how often it accuses a right one.

    python benchmarks/doctor_proof.py --into docs/doctor.md

Each copy with a defect (`tests/helpers/misread.py`) is examined on the texts of one seed, and each
embedded head as it is on those of `--seeds` seeds. Writes two Markdown tables between the page's
marks. Exits with 1 unless every defect is named and no right head accused.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

sys.path.append(str(Path(__file__).parent.parent / "tests"))

from helpers.misread import DEFECTS, HEADS, MODELS, Misread, misread_copy
from marked_page import marks_of, write_lines

from pytest_specdec.cases.case import Sampling
from pytest_specdec.cases.prompts import read_prompts
from pytest_specdec.cases.texts import Text, texts_of_prompts
from pytest_specdec.decoding.loading import LoadedModel, load_model
from pytest_specdec.decoding.sampling import encode_prompts, sample_new_tokens
from pytest_specdec.doctor.diagnosis import Diagnosis, DoctorOutcome, diagnose
from pytest_specdec.doctor.eagle3_patient import Eagle3Patient
from pytest_specdec.doctor.eagle3_reading import Eagle3Reading
from pytest_specdec.doctor.measure import PairedGain

PROMPTS = Path(__file__).parent.parent / "suites" / "text" / "prompts.jsonl"
TEXTS, NEW_TOKENS, K, SEEDS = 32, 64, 4, 20
MARKED = marks_of("doctor_proof.py")


@functools.cache
def model(name: str) -> LoadedModel:
    """An embedded target."""
    return load_model(str(MODELS / name), "cpu")


@functools.cache
def texts_of(target: str, seed: int, count: int, new_tokens: int) -> tuple[Text, ...]:
    """Texts of an embedded target, of another part of the prompts for each seed."""
    prompts = read_prompts(PROMPTS)
    first = seed * count % len(prompts)
    chosen = (*prompts[first:], *prompts[:first])[:count]
    ids = encode_prompts(model(target).tokenizer, chosen)
    keys = [prompt.key for prompt in chosen]
    new = sample_new_tokens(
        model(target), ids, new_tokens=new_tokens, sampling=Sampling(1.0), seed=seed, keys=keys
    )
    return texts_of_prompts(chosen, ids, new)


def examined(
    folder: Path,
    target: str,
    seed: int = 0,
    count: int = TEXTS,
    new_tokens: int = NEW_TOKENS,
    k: int = K,
) -> Diagnosis[Eagle3Reading]:
    """The diagnosis of a head's folder on the texts of a seed."""
    texts = texts_of(target, seed, count, new_tokens)
    patient = Eagle3Patient(model(target), folder, texts, Sampling(1.0), k)
    return diagnose(patient, patient.nothing)


def names_it(defect: Misread, diagnosis: Diagnosis[Eagle3Reading]) -> bool:
    """Whether the verdict is the right reading, and the correction the right one."""
    findings, patient = diagnosis.findings, diagnosis.patient
    right = dataclasses.replace(findings.written, **defect.found)
    outcome = DoctorOutcome.MISREAD if defect.found else DoctorOutcome.CONTRADICTORY
    cures = [*patient.cures(findings.best), *patient.faults]
    return (
        diagnosis.outcome is outcome
        and findings.best == right
        and any(defect.cure in cure for cure in cures)
    )


def defects_table() -> tuple[list[str], int]:
    """A row for each defect, and how many were named."""
    rows, named = (
        ["| head | defect | length as written, read right | named |", "|---|---|---|---|"],
        0,
    )
    for defect in DEFECTS:
        with tempfile.TemporaryDirectory() as folder:
            diagnosis = examined(
                misread_copy(defect, Path(folder) / defect.head), HEADS[defect.head]
            )
        findings, right = diagnosis.findings, names_it(defect, diagnosis)
        named += right
        lengths = f"{findings.length(findings.written):.2f}, {findings.length(findings.best):.2f}"
        rows.append(f"| {defect.head} | {defect.name} | {lengths} | {'yes' if right else 'NO'} |")
        print(rows[-1], "" if right else _missed(defect, diagnosis), file=sys.stderr)
    return rows, named


def _missed(defect: Misread, diagnosis: Diagnosis[Eagle3Reading]) -> str:
    """What was said in place of the right reading, and what that would have gained."""
    findings, patient = diagnosis.findings, diagnosis.patient
    right = dataclasses.replace(findings.written, **defect.found)
    read = findings.measured.get(right) or patient.measure(right)
    gain = PairedGain.of_chances(findings.measured[findings.best], read)
    low, high = gain.bounds(findings.level)
    return (
        f"{diagnosis.outcome.words}, best {patient.words(findings.best)}; the right one "
        f"{read.length:.3f}, {gain.amount:+.4f} ({low:+.4f} to {high:+.4f})"
    )


def right_table(seeds: Sequence[int]) -> tuple[list[str], int]:
    """A row for each head as it is, and how many samples accused it."""
    rows, accused = ["| head | length | samples | read as trained | undecided | accused |"], 0
    rows.append("|---|---|---|---|---|---|")
    for head, target in HEADS.items():
        seen: Counter[DoctorOutcome] = Counter()
        lengths = []
        for seed in seeds:
            diagnosis = examined(MODELS / head, target, seed)
            seen[diagnosis.outcome] += 1
            lengths.append(diagnosis.findings.length(diagnosis.findings.written))
        wrong = len(seeds) - seen[DoctorOutcome.RIGHT] - seen[DoctorOutcome.UNDECIDED]
        accused += wrong
        rows.append(
            f"| {head} | {sum(lengths) / len(lengths):.2f} | {len(seeds)} | {seen[DoctorOutcome.RIGHT]} "
            f"| {seen[DoctorOutcome.UNDECIDED]} | {wrong} |"
        )
        print(rows[-1], file=sys.stderr)
    return rows, accused


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--into", type=Path)
    arguments = parser.parse_args()
    defects, named = defects_table()
    heads, accused = right_table(range(arguments.seeds))
    page = "\n".join(
        [
            f"{named} of {len(DEFECTS)} defects were named, each with its correction, on {TEXTS} "
            f"texts of {NEW_TOKENS} new tokens at k {K}:",
            "",
            *defects,
            "",
            f"{accused} of {arguments.seeds * len(HEADS)} samples of {TEXTS} texts accused a head "
            "that is read as trained:",
            "",
            *heads,
        ]
    )
    print(page)
    if arguments.into is not None:
        write_lines(arguments.into, MARKED, page)
    return int(named < len(DEFECTS) or accused > 0)


if __name__ == "__main__":
    sys.exit(main())
