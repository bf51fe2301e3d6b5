"""Texts sampled from a target: seeded, lossless, ended by EOS; prompts turned into tokens."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.support import LETTERS, letter_tokenizer, llama
from scipy import stats

from pytest_specdec.cases.case import Sampling
from pytest_specdec.cases.prompts import Prompt
from pytest_specdec.common.errors import MeasurementError, RequestError
from pytest_specdec.decoding.distributions import probabilities
from pytest_specdec.decoding.loading import LoadedModel, load_model
from pytest_specdec.decoding.sampling import encode_prompts, sample_new_tokens

PROMPTS = [[0, 5, 9], [0, 3, 4, 5, 6, 7, 8, 20], [0], [0, 11, 12, 13, 14]]
TEMPLATE = (
    "{% for message in messages %}{{ message['content'] }},{% endfor %}{% if add_generation_prompt "
    "%} {% endif %}"
)


@pytest.fixture(scope="module")
def target(tiny_target: Path) -> LoadedModel:
    return load_model(str(tiny_target), "cpu")


def greedy_alone(target: LoadedModel, prompt: list[int], new_tokens: int) -> tuple[int, ...]:
    """transformers' greedy text of one prompt without padding."""
    ids = torch.tensor([prompt])
    out = target.model.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=new_tokens, do_sample=False
    )
    return tuple(out[0, len(prompt) :].tolist())


def with_eos(folder: Path, copy: Path, eos: int | list[int]) -> LoadedModel:
    shutil.copytree(folder, copy)
    (copy / "generation_config.json").write_text(
        json.dumps({"bos_token_id": 0, "eos_token_id": eos})
    )
    return load_model(str(copy), "cpu")


def ids_of(text: str) -> list[int]:
    return [2 + LETTERS.index(letter) for letter in text]


def test_same_seed_gives_the_same_texts(target: LoadedModel) -> None:
    first = sample_new_tokens(target, PROMPTS, new_tokens=20, sampling=Sampling(1.0), seed=4)
    torch.rand(7)  # the state of torch's own generator does not matter
    assert (
        sample_new_tokens(target, PROMPTS, new_tokens=20, sampling=Sampling(1.0), seed=4) == first
    )


def test_another_seed_gives_other_texts(target: LoadedModel) -> None:
    first = sample_new_tokens(target, PROMPTS, new_tokens=20, sampling=Sampling(1.0), seed=4)
    other = sample_new_tokens(target, PROMPTS, new_tokens=20, sampling=Sampling(1.0), seed=5)
    assert all(text != another for text, another in zip(first, other, strict=True))


def test_sampling_leaves_torchs_generator_alone(target: LoadedModel) -> None:
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    sample_new_tokens(target, PROMPTS, new_tokens=2, sampling=Sampling(1.0), seed=4)
    assert torch.equal(torch.rand(3), expected)


def test_greedy_texts_of_a_padded_batch_equal_single_unpadded_ones(target: LoadedModel) -> None:
    texts = sample_new_tokens(target, PROMPTS, new_tokens=24, sampling=Sampling(0.0), seed=0)
    assert texts == [greedy_alone(target, prompt, 24) for prompt in PROMPTS]
    assert {len(text) for text in texts} == {24}


def test_a_prompt_without_room_for_new_tokens_is_refused_before_sampling(
    target: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = target.checkpoint.context
    assert context is not None
    monkeypatch.setattr(target.model, "forward", None)  # would be called
    message = (
        rf"a text of {context + 1} tokens \(8 of them new\) is longer than the context of .*; "
    )
    with pytest.raises(RequestError, match=message + "shorten the prompt or lower"):
        sample_new_tokens(
            target, [[1], [1] * (context - 7)], new_tokens=8, sampling=Sampling(), seed=0
        )


def test_more_prompts_than_a_batch_keep_their_order(target: LoadedModel) -> None:
    prompts = [PROMPTS[row % len(PROMPTS)] for row in range(70)]
    progress: list[tuple[int, int]] = []
    texts = sample_new_tokens(
        target,
        prompts,
        new_tokens=6,
        sampling=Sampling(0.0),
        seed=0,
        progress=lambda done, total: progress.append((done, total)),
    )
    alone = [greedy_alone(target, prompt, 6) for prompt in PROMPTS]
    assert texts == [alone[row % len(PROMPTS)] for row in range(70)]
    assert progress == [(0, 70), (32, 70), (64, 70), (70, 70)]


@pytest.mark.parametrize("as_list", [False, True])
def test_eos_ends_a_text_and_is_kept(
    tiny_target: Path, target: LoadedModel, tmp_path: Path, as_list: bool
) -> None:
    whole = sample_new_tokens(target, PROMPTS, new_tokens=24, sampling=Sampling(0.0), seed=0)
    eos = whole[0][3]
    assert any(
        eos not in text for text in whole
    )  # so that one text continues while another has ended
    ended = with_eos(tiny_target, tmp_path / "model", [eos, 31] if as_list else eos)
    texts = sample_new_tokens(ended, PROMPTS, new_tokens=24, sampling=Sampling(0.0), seed=0)
    stop = {eos, 31} if as_list else {eos}
    for text, full in zip(texts, whole, strict=True):
        end = next((at + 1 for at, token in enumerate(full) if token in stop), len(full))
        assert text == full[:end]
    assert min(map(len, texts)) <= 4


SAMPLINGS = [
    Sampling(1.0),
    Sampling(0.5),
    Sampling(1.6, 4),
    Sampling(1.0, 0, 0.7),
    Sampling(0.8, 8, 0.9),
]


@pytest.mark.parametrize("sampling", SAMPLINGS, ids=lambda sampling: sampling.suffix)
def test_tokens_follow_the_exact_distribution(target: LoadedModel, sampling: Sampling) -> None:
    """Chi-square of the first two new tokens together, over keys of one prompt beside a longer one,
    which pads it.
    """
    rows, prompt = 4000, PROMPTS[0]
    prompts, keys = [prompt] * rows + [PROMPTS[1]], [f"p{row}" for row in range(rows + 1)]
    texts = sample_new_tokens(target, prompts, new_tokens=2, sampling=sampling, seed=17, keys=keys)
    assert goodness_of_two(target, prompt, texts[:rows], sampling) > 1e-4


def test_tokens_follow_the_exact_distribution_over_seeds(target: LoadedModel) -> None:
    """What repeats and accumulated runs sample."""
    sampling, keys = Sampling(0.8, 8, 0.9), [f"p{row}" for row in range(32)]
    texts = [
        text
        for seed in range(40)
        for text in sample_new_tokens(
            target, PROMPTS[:1] * 32, new_tokens=2, sampling=sampling, seed=seed, keys=keys
        )
    ]
    assert goodness_of_two(target, PROMPTS[0], texts, sampling) > 1e-4


def test_the_goodness_of_fit_sees_a_wrong_distribution(target: LoadedModel) -> None:
    """Else the tests above could not fail: texts of temperature 0.8, or of top-p 0.9, filed under
    temperature 1.
    """
    for other in (Sampling(0.8), Sampling(1.0, 0, 0.9)):
        texts = sample_new_tokens(target, PROMPTS[:1] * 4000, new_tokens=2, sampling=other, seed=17)
        assert goodness_of_two(target, PROMPTS[0], texts, Sampling(1.0)) < 1e-4


def goodness_of_two(
    target: LoadedModel, prompt: list[int], texts: list[tuple[int, ...]], sampling: Sampling
) -> float:
    """p-value of the first two new tokens of many texts of one prompt against their exact joint
    distribution.
    """
    with torch.inference_mode():
        first = probabilities(
            target.model(torch.tensor([prompt]), use_cache=False).logits[0, -1].double(), sampling
        ).double()
        longer = torch.tensor([[*prompt, token] for token in range(len(first))])
        second = probabilities(
            target.model(longer, use_cache=False).logits[:, -1].double(), sampling
        ).double()
    joint = (first[:, None] * second).flatten().numpy()
    counts = np.bincount(
        [first_token * len(first) + second_token for first_token, second_token in texts],
        minlength=len(joint),
    )
    assert counts[joint == 0].sum() == 0
    frequent = joint * len(texts) >= 5
    observed = np.append(counts[frequent], counts[~frequent].sum())
    expected = np.append(joint[frequent], joint[~frequent].sum()) * len(texts)
    kept = expected > 0
    assert frequent.sum() > 3
    return float(
        stats.chisquare(observed[kept], expected[kept] * observed.sum() / expected.sum()).pvalue
    )


def test_no_token_is_filtered_out(tmp_path: Path) -> None:
    """transformers keeps the 50 likeliest tokens where nobody says otherwise; here the checkpoint's
    own file says 3.
    """
    folder = llama(tmp_path / "model", seed=3, vocabulary=128, mtp_layers=0)
    defaults = {"bos_token_id": 0, "do_sample": True, "top_k": 3, "top_p": 0.5, "temperature": 0.1}
    (folder / "generation_config.json").write_text(json.dumps(defaults))
    target = load_model(str(folder), "cpu")
    texts = sample_new_tokens(
        target, [PROMPTS[0]] * 640, new_tokens=1, sampling=Sampling(20.0), seed=1
    )
    assert len(set(texts)) > 100


@pytest.mark.parametrize(
    "penalty", [{"repetition_penalty": 1.5}, {"min_p": 0.3}, {"no_repeat_ngram_size": 2}], ids=str
)
def test_penalties_of_the_checkpoints_own_file_are_not_applied(
    tmp_path: Path, penalty: dict[str, float]
) -> None:
    """Such texts would be no samples of the target, and replay needs samples of the target."""
    folder = llama(tmp_path / "plain", seed=3, mtp_layers=0)
    plain = load_model(str(folder), "cpu")
    copy = shutil.copytree(folder, tmp_path / "penalised")
    (copy / "generation_config.json").write_text(
        json.dumps({"bos_token_id": 0, "do_sample": True, **penalty})
    )
    penalised = load_model(str(copy), "cpu")
    texts = [
        sample_new_tokens(model, PROMPTS, new_tokens=32, sampling=Sampling(1.0), seed=1)
        for model in (plain, penalised)
    ]
    assert texts[0] == texts[1]


def test_text_prompts_go_through_the_tokenizer() -> None:
    prompts = [Prompt("a", "plain", text="abc"), Prompt("b", "plain", text="z")]
    assert encode_prompts(letter_tokenizer(), prompts) == [[0, *ids_of("abc")], [0, *ids_of("z")]]


def test_messages_go_through_the_chat_template() -> None:
    tokenizer = letter_tokenizer()
    tokenizer.chat_template = TEMPLATE
    messages = ((("content", "hi"), ("role", "user")), (("content", "yes"), ("role", "assistant")))
    (ids,) = encode_prompts(tokenizer, [Prompt("a", "chat", messages=messages)])
    assert ids == ids_of("hi,yes, ")


def test_messages_without_a_template_are_refused() -> None:
    prompt = Prompt("a", "chat", messages=((("content", "hi"), ("role", "user")),))
    with pytest.raises(RequestError, match="no chat template; write it as plain `prompt` text"):
        encode_prompts(letter_tokenizer(), [prompt])


def test_messages_that_render_to_nothing_are_refused() -> None:
    tokenizer = letter_tokenizer()
    tokenizer.chat_template = "{# nothing #}"
    with pytest.raises(RequestError, match="becomes no token; write a longer one"):
        encode_prompts(
            tokenizer, [Prompt("a", "chat", messages=((("content", "hi"), ("role", "user")),))]
        )


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_target_that_returns_nan_emits_no_text(tiny_target: Path, temperature: float) -> None:
    broken = load_model(str(tiny_target), "cpu")
    broken.model.model.norm.weight.data.fill_(torch.nan)
    with pytest.raises(MeasurementError, match="returns NaN or infinite logits"):
        sample_new_tokens(broken, PROMPTS, new_tokens=4, sampling=Sampling(temperature), seed=0)
