"""The audio pair's stream of tokens, its prompts, and what the committed target says."""

from __future__ import annotations

import json
import re

import build_audio
import codec
import numpy as np
import pytest
import torch
from helpers.support import EMBEDDED, ROOT
from speech import Utterance

from pytest_specdec.decoding.loading import LoadedModel, load_model

PROMPTS = ROOT / "suites" / "audio" / "prompts.jsonl"
STREAM = re.compile(r"(?:[~ .a-z]<a\d+>)+")
"""Whole steps of a text token and an audio token."""
AUDIO = range(codec.FIRST_AUDIO, codec.FIRST_AUDIO + codec.CODES)


@pytest.fixture(scope="module")
def target() -> LoadedModel:
    return load_model(str(EMBEDDED / "audio-target"), "cpu")


@pytest.fixture(scope="module")
def texts(target: LoadedModel) -> list[list[int]]:
    """Eight texts of 128 new tokens at temperature 1, five seconds each with their prompts."""
    prompts = [target.tokenizer(prompt)["input_ids"] for prompt in read_prompts()[:8]]
    torch.manual_seed(1)
    out = []
    for prompt in prompts:
        ids = target.model.generate(
            torch.tensor([prompt]),
            max_new_tokens=128,
            do_sample=True,
            top_k=0,
            top_p=1.0,
            temperature=1.0,
            pad_token_id=1,
        )
        out.append(ids[0].tolist())
    return out


def read_prompts() -> list[str]:
    return [json.loads(line)["prompt"] for line in PROMPTS.read_text(encoding="utf-8").splitlines()]


def alternates(ids: list[int]) -> bool:
    """Whether text and audio tokens take turns after `<s>`."""
    return ids[0] == 0 and all(
        (token in AUDIO) == (at % 2 == 0) and token > 1 for at, token in enumerate(ids[1:], 1)
    )


def test_audio_tokens_are_the_last_ids() -> None:
    assert (codec.FIRST_AUDIO, AUDIO[-1]) == (31, 286)
    tokenizer = build_audio.new_tokenizer()
    assert len(tokenizer) == 287
    assert tokenizer.convert_tokens_to_ids(
        ["<s>", "</s>", "~", " ", ".", "a", "z", "<a0>", "<a255>"]
    ) == [
        0,
        1,
        2,
        3,
        4,
        5,
        30,
        31,
        286,
    ]


@pytest.mark.parametrize("folder", ["audio-target", "audio-draft"])
def test_the_tokenizer_gives_back_what_it_reads(folder: str) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(EMBEDDED / folder)
    written = "h<a12>~<a40> <a0>.<a255>t<a7>~<a77>"
    ids = tokenizer(written)["input_ids"]
    assert ids == [0, 12, 43, 2, 71, 3, 31, 4, 286, 24, 38, 2, 108]
    assert tokenizer.decode(ids, skip_special_tokens=True) == written
    assert tokenizer.decode(ids) == "<s>" + written
    assert tokenizer(tokenizer.decode(ids), add_special_tokens=False)["input_ids"] == ids


def test_a_letter_stands_where_it_begins_and_the_second_of_a_step_waits() -> None:
    utterance = Utterance("to be", np.zeros(7 * codec.TOKEN_SAMPLES), (0.0, 0.01, 0.05, 0.17, 0.18))
    assert "".join(codec.SYMBOLS[token] for token in build_audio.text_steps(utterance)) == "to ~be~"


def test_the_prompts_are_whole_steps_of_all_kinds() -> None:
    lines = [json.loads(line) for line in PROMPTS.read_text(encoding="utf-8").splitlines()]
    prompts = [line["prompt"] for line in lines]
    assert len(set(prompts)) == len(lines) == 1000
    assert PROMPTS.stat().st_size < 400_000
    assert len({line["category"] for line in lines[:64]}) == 5
    tokenizer = build_audio.new_tokenizer()
    for prompt, ids in zip(prompts, tokenizer(prompts)["input_ids"], strict=True):
        assert STREAM.fullmatch(prompt)
        assert 10 <= prompt.count("<a") <= 24
        assert alternates(ids)
        assert ids[2::2] == [31 + int(code) for code in re.findall(r"<a(\d+)>", prompt)]


def test_the_pair_is_small_and_only_the_draft_has_mtp_layers(target: LoadedModel) -> None:
    folders = [EMBEDDED / name for name in ("audio-target", "audio-draft", "audio-codec")]
    assert sum(path.stat().st_size for folder in folders for path in folder.iterdir()) < 10_000_000
    draft = load_model(str(EMBEDDED / "audio-draft"), "cpu")
    assert draft.heads.num_mtp_layers == 3
    sizes = [sum(tensor.numel() for tensor in each.model.parameters()) for each in (target, draft)]
    assert sizes[0] > 1.8 * sizes[1]
    assert target.model.config.vocab_size == draft.model.config.vocab_size == 287


def test_what_the_target_samples_alternates(texts: list[list[int]]) -> None:
    assert all(map(alternates, texts))


def test_what_the_target_samples_sounds_like_speech(texts: list[list[int]]) -> None:
    together = [token for ids in texts for token in ids]
    rate, samples = codec.speak(together)
    assert len(samples) == rate * codec.TOKEN_SAMPLES // codec.RATE * sum(
        (len(ids) - 1) // 2 for ids in texts
    )
    assert codec.speech_like(samples)


def test_what_the_target_samples_is_said_in_its_words(texts: list[list[int]]) -> None:
    words = [word for ids in texts for word in codec.text_of(ids).replace(".", " ").split()[1:-1]]
    assert len(words) > 20
    assert sum(word in known_words() for word in words) > 0.8 * len(words)


def known_words() -> set[str]:
    """All words of the sentences."""
    import sentences

    fixed = {
        word
        for kind in sentences._TEMPLATES.values()
        for template in kind
        for word in template.split()
    }
    return fixed | {word for filling in sentences._WORDS.values() for word in filling}
