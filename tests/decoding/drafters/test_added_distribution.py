"""A drafter of another package that has a distribution q of its own: the second example of
docs/add-a-drafter.md.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from acceptance.test_interleaved import brute_force
from decoding.test_sampled_distribution import (
    FLOOR,
    PLAIN,
    emitted_first,
    exact_distribution,
    p_value,
)
from helpers.packages import example, installed
from helpers.support import LETTERS, llama
from helpers.tiers import exhaustive
from safetensors.torch import save_file
from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from pytest_specdec import replay
from pytest_specdec.acceptance.counts import Counts
from pytest_specdec.acceptance.rounds import Round
from pytest_specdec.cases.case import Sampling
from pytest_specdec.cases.drafter import DRAFTER_TYPES, RegisteredSpec, parse_drafter
from pytest_specdec.checkpoints.drafter_folders import recognised
from pytest_specdec.common.errors import RequestError
from pytest_specdec.decoding.decode import decode
from pytest_specdec.decoding.loading import LoadedModel, load_model

SOURCE = example("add-a-drafter.md", 1)
POINTS = {DRAFTER_TYPES.group: "bigrams = bigrams"}
PROMPTS = [[0, 2, 3, 4], [0, 5, 6], [0, 7, 8, 9, 10], [0, 11]]
K, NEW = 3, 40
FILTERED = Sampling(0.8, 12, 0.9)


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    return load_model(str(llama(tmp_path_factory.mktemp("bigrams") / "target", seed=3)), "cpu")


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    """A target of 7 tokens, for distributions of whole texts."""
    folder = tmp_path_factory.mktemp("narrow") / "target"
    return load_model(
        str(llama(folder, seed=5, vocabulary=7, width=16, layers=1, context=32)), "cpu"
    )


@pytest.fixture
def package(tmp_path: Path) -> Iterator[None]:
    with installed(tmp_path / "site", "bigrams", SOURCE, POINTS):
        yield


def counted_pairs(target: LoadedModel) -> torch.Tensor:
    """How often a token follows another in the target's own texts; no two counts are equal."""
    size = target.checkpoint.vocabulary
    assert size is not None
    counts = torch.rand(size, size, generator=torch.Generator().manual_seed(0)) / 10
    prompts = [[0, first % size] for first in range(40)]
    for text in decode(target, None, prompts, k=0, new_tokens=28, seed=9).texts:
        for before, token in zip(text.ids, text.ids[1:], strict=False):
            counts[before, token] += 1
    return counts


def folder_of(folder: Path, counts: torch.Tensor) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text('{"drafter": "bigrams"}')
    save_file({"counts": counts}, folder / "bigrams.safetensors")
    return folder


@pytest.fixture(scope="module")
def pairs(target: LoadedModel) -> torch.Tensor:
    return counted_pairs(target)


@pytest.fixture
def bigrams(package: None, pairs: torch.Tensor, tmp_path: Path) -> str:
    """The drafter's folder."""
    return str(folder_of(tmp_path / "counted", pairs))


def test_its_folder_is_recognised(bigrams: str) -> None:
    assert recognised(parse_drafter(bigrams)) == RegisteredSpec("bigrams", Path(bigrams))


def serial_rounds(
    target: LoadedModel, pairs: torch.Tensor, prompt: list[int]
) -> tuple[list[int], list[Round]]:
    """Greedy speculative decoding of one text, token by token, with whole passes of the target."""

    def choices(ids: list[int]) -> list[int]:
        with torch.inference_mode():
            return target.model(torch.tensor([ids])).logits[0].argmax(-1).tolist()

    ids, limit, rounds = [*prompt, choices(prompt)[-1]], len(prompt) + NEW, []
    while (left := limit - len(ids)) > 0:
        drafts: list[int] = []
        while len(drafts) < (K if left >= K else left - 1):
            drafts.append(int(pairs[[*ids, *drafts][-1]].argmax()))
        verified = choices([*ids, *drafts])[len(ids) - 1 :]
        accepted = 0
        while accepted < len(drafts) and drafts[accepted] == verified[accepted]:
            accepted += 1
        rounds.append(Round(len(ids), len(drafts), accepted))
        ids += verified[: accepted + 1]
    return ids[:limit], rounds


@pytest.mark.parametrize("batch_size", [1, 4])
def test_at_temperature_0_decode_and_replay_are_serial_decoding(
    target: LoadedModel, bigrams: str, pairs: torch.Tensor, batch_size: int
) -> None:
    decoded = decode(
        target, bigrams, PROMPTS, k=K, new_tokens=NEW, temperature=0, batch_size=batch_size
    )
    for text, rounds, prompt in zip(decoded.texts, decoded.rounds, PROMPTS, strict=True):
        assert (list(text.ids), list(rounds)) == serial_rounds(target, pairs, prompt)
    counts = replay(target, bigrams, decoded.texts, k=K, temperature=0)
    assert 1.2 < counts.acceptance_length < 1 + K
    for name in ("rounds", "drafted", "accepted"):
        assert np.array_equal(getattr(counts, name), getattr(decoded.counts, name)), name


def distributions(logits: torch.Tensor, sampling: Sampling) -> torch.Tensor:
    """Of logits (positions, vocabulary), by transformers' own filters."""
    none = torch.zeros(len(logits), 1, dtype=torch.long)
    logits = TemperatureLogitsWarper(sampling.temperature)(none, logits)
    if sampling.top_k:
        logits = TopKLogitsWarper(sampling.top_k)(none, logits)
    if sampling.top_p < 1:
        logits = TopPLogitsWarper(sampling.top_p)(none, logits)
    return logits.double().softmax(-1)


@pytest.mark.parametrize("sampling", [Sampling(1.0), FILTERED], ids=lambda given: given.suffix)
def test_replay_is_the_enumeration_of_all_rounds(
    target: LoadedModel, bigrams: str, pairs: torch.Tensor, sampling: Sampling
) -> None:
    """Each token is accepted with min(1, q/p), with p by a pass of transformers and q by hand."""
    options = {
        "temperature": sampling.temperature,
        "top_k": sampling.top_k,
        "top_p": sampling.top_p,
    }
    texts = decode(target, None, PROMPTS, k=0, new_tokens=NEW, **options).texts
    counts = replay(target, bigrams, texts, k=K, **options)
    for row, text in enumerate(texts):
        ids = torch.tensor(text.ids)
        with torch.inference_mode():
            logits = target.model(ids[None]).logits[0, :-1]
        p, q = (
            distributions(given, sampling).gather(1, ids[1:, None])[:, 0]
            for given in (logits, (pairs + 1).log()[ids[:-1]])
        )
        chance = (q / p).clamp(max=1)[text.prompt_length - 1 :].tolist()
        accept = {
            (start, step): chance[start + step]
            for start in range(NEW)
            for step in range(K)
            if start + step < NEW
        }
        rounds, accepted = brute_force(accept, NEW, K)
        assert counts.rounds[row] == pytest.approx(rounds, rel=1e-4)
        assert counts.accepted[row] == pytest.approx(accepted, rel=1e-4)
    assert 0 < counts.accepted.sum() < counts.drafted.sum()


def deviations(
    target: LoadedModel, drafter: str, sampling: Sampling, batch_size: int = 200
) -> np.ndarray:
    """(k,): accepted drafts that decode counts beyond what replay expects on its texts, in standard
    errors over the texts.
    """
    options = {
        "k": K,
        "temperature": sampling.temperature,
        "top_k": sampling.top_k,
        "top_p": sampling.top_p,
    }
    decoded = decode(
        target, drafter, PROMPTS * 50, new_tokens=NEW, batch_size=batch_size, **options
    )
    counted: Counts = decoded.counts
    expected = replay(target, drafter, decoded.texts, **options)
    apart = counted.accepted - expected.accepted
    found: np.ndarray = apart.sum(0) / np.sqrt((apart**2).sum(0))
    return found


@pytest.mark.parametrize("batch_size", [200, exhaustive(1)])
@pytest.mark.parametrize("sampling", [Sampling(1.0), FILTERED], ids=lambda given: given.suffix)
def test_sampled_rounds_are_those_that_replay_expects(
    target: LoadedModel, bigrams: str, sampling: Sampling, batch_size: int
) -> None:
    assert np.abs(deviations(target, bigrams, sampling, batch_size)).max() < 4


def variant(tmp_path: Path, before: str, after: str):
    """The example with one change."""
    assert before in SOURCE
    return installed(tmp_path / "site", "bigrams", SOURCE.replace(before, after), POINTS)


def test_a_score_of_another_distribution_than_the_drafts_is_seen(
    target: LoadedModel, pairs: torch.Tensor, tmp_path: Path
) -> None:
    folder = folder_of(tmp_path / "counted", pairs)
    with variant(tmp_path, "drafts.take(self", "drafts.take(3 * self"):
        assert np.abs(deviations(target, str(folder), Sampling(1.0))).max() > 6


@pytest.mark.parametrize("rule", ["rejection", "sample-match", "block"])
def test_decoding_with_it_is_lossless(
    narrow: LoadedModel, package: None, tmp_path: Path, rule: str
) -> None:
    drafter = str(folder_of(tmp_path / "counted", counted_pairs(narrow)))
    seen = emitted_first(narrow, drafter, 2, rule=rule)
    assert p_value(seen, exact_distribution(narrow, PLAIN)) > FLOOR


def test_with_a_wrong_q_it_is_not(narrow: LoadedModel, tmp_path: Path) -> None:
    """Drafts from a sharper distribution than the one that is reported."""
    folder = folder_of(tmp_path / "counted", counted_pairs(narrow))
    lines = (
        "proposal = drafts.proposal()",
        "q = proposal.distributions.sqrt_()",
        "q /= q.sum(-1, keepdim=True).clamp(min=1e-9)",
        "return proposal",
    )
    with variant(tmp_path, "return drafts.proposal()", "\n        ".join(lines)):
        seen = emitted_first(narrow, str(folder), 2)
        assert p_value(seen, exact_distribution(narrow, PLAIN)) < 1e-12


def test_counts_of_another_vocabulary_are_refused(
    target: LoadedModel, narrow: LoadedModel, package: None, tmp_path: Path
) -> None:
    folder = folder_of(tmp_path / "counted", counted_pairs(narrow))
    with pytest.raises(RequestError, match="counts other tokens than the target has"):
        decode(target, str(folder), PROMPTS, k=K)


SUITE = """
import pytest

@pytest.mark.specdec(target={target!r}, drafter={drafter!r}, k=[3], new_tokens=24)
def test_drafter(specdec_run, specdec_baseline, specdec_conformance):
    assert specdec_conformance.conforms, specdec_conformance.message
    assert specdec_run == specdec_baseline

@pytest.mark.specdec(target={target!r}, drafter={drafter!r}, k=[3], new_tokens=24)
def test_oracle(request, specdec_case):
    if specdec_case.engine == "decode":
        oracle = request.getfixturevalue("specdec_oracle")
        assert oracle.agrees, oracle.message
"""


@pytest.mark.parametrize("engine", ["replay", "decode"])
@pytest.mark.parametrize("temperature", [0, 1])
def test_a_session_gates_it(
    pytester: pytest.Pytester, target: LoadedModel, bigrams: str, engine: str, temperature: int
) -> None:
    suite = pytester.mkdir("suite")
    lines = [json.dumps({"category": "letters", "prompt": letter * 2}) for letter in LETTERS[:24]]
    (suite / "prompts.jsonl").write_text("\n".join(lines))
    folder = str(target.checkpoint.folder)
    (suite / "test_suite.py").write_text(SUITE.format(target=folder, drafter=bigrams))
    options = (f"--specdec-engine={engine}", f"--specdec-temperature={temperature}")
    pytester.runpytest(*options, "--specdec-update=new").assert_outcomes(passed=2)
    pytester.runpytest(*options).assert_outcomes(passed=2)
    (path,) = pytester.path.glob("baselines/suite/counted-*.json")
    stored = json.loads(path.read_text())
    assert stored["conditions"]["drafter"] == "bigrams"
    assert stored["fingerprints"]["drafter"].startswith("bigrams-")
