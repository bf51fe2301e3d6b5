"""Draft models with another tokenizer against their definition, token by token, and against
transformers' own translation of vocabularies.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from pathlib import Path

import pytest
import torch
from helpers.other_tokenizer import other_tokenizer, target_tokenizer
from helpers.serial_drafting import (
    PROMPTS,
    Steps,
    check_greedy_rounds,
    check_probabilities,
    check_sampled_rounds,
)
from helpers.support import add_noise, edit_config, llama
from transformers.generation.candidate_generator import AssistantToTargetTranslator

from pytest_specdec import decode
from pytest_specdec.common.errors import MeasurementError, RequestError
from pytest_specdec.decoding.drafters.tli import Translation, shared_tokens
from pytest_specdec.decoding.loading import LoadedModel, load_model

pytestmark = pytest.mark.slow

K = 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = llama(tmp_path_factory.mktemp("models") / "target", seed=3, mtp_layers=0)
    target_tokenizer().save_pretrained(made)
    return made


@pytest.fixture(scope="module")
def draft(folder: Path) -> Path:
    made = llama(folder.parent / "draft", seed=9, mtp_layers=0, vocabulary=30)
    other_tokenizer().save_pretrained(made)
    return made


@pytest.fixture(scope="module")
def double(folder: Path) -> LoadedModel:
    return load_model(str(folder), "cpu", dtype="float64")


def translated(draft: Path) -> Steps:
    """The draft model over the whole text in its own tokens, at each step anew."""
    model = load_model(str(draft), "cpu", dtype="float64").model
    theirs, ours = target_tokenizer(), other_tokenizer()
    target, own = theirs.get_vocab(), ours.get_vocab()
    shared = {target[token]: own[token] for token in own if token in target}

    def own_tokens(token: int) -> list[int]:
        if token in shared:
            return [shared[token]]
        text = theirs.decode([token], skip_special_tokens=True)
        return ours(text, add_special_tokens=False)["input_ids"]

    def steps(ids: Sequence[int]) -> Generator[torch.Tensor, int, None]:
        read, tokens = [], list(ids)
        for _ in range(K):
            read = [own for token in tokens if token > 1 for own in own_tokens(token)]
            with torch.no_grad():
                logits = model(torch.tensor([read])).logits[0, -1]
            whole = torch.full((32,), -torch.inf, dtype=logits.dtype)
            for their_id, our_id in shared.items():
                whole[their_id] = logits[our_id]
            tokens.append((yield whole))

    return steps


def test_shared_tokens_are_those_that_transformers_finds(folder: Path, draft: Path) -> None:
    target, own = target_tokenizer(), other_tokenizer()
    translator = AssistantToTargetTranslator(target, own, 32)
    found = shared_tokens(target, own)
    assert found == translator.target_to_assistant_input_ids
    assert len(found) == 26


def test_every_acceptance_probability_is_that_of_the_definition(
    double: LoadedModel, draft: Path
) -> None:
    check_probabilities(double, f"tli:{draft}", translated(draft), K)


def test_greedy_rounds_are_serial_ones(double: LoadedModel, draft: Path) -> None:
    check_greedy_rounds(double, f"tli:{draft}", translated(draft), K)


@pytest.mark.parametrize("rule", ["rejection", "sample-match"])
def test_sampled_rounds_are_those_that_replay_expects(folder: Path, draft: Path, rule: str) -> None:
    target = load_model(str(folder), "cpu")
    check_sampled_rounds(target, f"tli:{draft}", 3, texts=120, rule=rule, temperature=1.5)


def test_tokens_without_a_twin_are_read_as_their_text(folder: Path, draft: Path) -> None:
    translation = Translation(load_model(str(folder), "cpu"), load_model(str(draft), "cpu"))
    vocabulary = target_tokenizer().get_vocab()
    assert translation.token(vocabulary["e"]) == [0]
    assert translation.token(vocabulary["<s>"]) == []
    assert translation.token(vocabulary["a"]) == [24]
    with pytest.raises(MeasurementError, match=r"has no text that the tokenizer of .* knows"):
        translation.prompt([0])


def test_pairs_that_it_is_not_for_are_refused(folder: Path, draft: Path, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="has the target's own tokenizer; name it as an ordin"):
        decode(str(folder), f"tli:{folder}", PROMPTS, k=2, new_tokens=4)
    with pytest.raises(RequestError, match="drafts without MTP layers"):
        decode(str(folder), f"tli:{draft}", PROMPTS, k=2, depth=1, new_tokens=4)
    with pytest.raises(RequestError, match="name its folder: tli:FOLDER"):
        decode(str(folder), "tli", PROMPTS, k=2, new_tokens=4)
    bare = llama(tmp_path / "bare", seed=1, mtp_layers=0)
    for path in bare.glob("tokenizer*"):
        path.unlink()
    with pytest.raises(RequestError, match="has no tokenizer, so its tokens cannot be compared"):
        decode(str(folder), f"tli:{bare}", PROMPTS, k=2, new_tokens=4)
    short = edit_config(add_noise(draft, tmp_path / "short", 0.0), max_position_embeddings=8)
    with pytest.raises(MeasurementError, match="whose context is 8; use shorter prompts or fewer"):
        decode(str(folder), f"tli:{short}", PROMPTS, k=2, new_tokens=12)
