"""Teacher forcing of MTP layers against naive oracles that look at one anchor or one token at a
time.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from helpers.architectures import ARCHITECTURES, VOCABULARY, WIDTH, publish
from helpers.costs import LargestTensor, operations
from helpers.support import edit_config
from transformers import DynamicCache
from transformers.cache_utils import MtpCache
from transformers.modeling_layers import MtpModel

from pytest_specdec.common.errors import RequestError
from pytest_specdec.decoding import mtp_forward
from pytest_specdec.decoding.cache_argument import cache_name
from pytest_specdec.decoding.loading import LoadedModel, load_model
from pytest_specdec.decoding.mtp_forward import project, teacher_forced_hidden

LENGTH = 14
CLOSE = {"rtol": 1e-4, "atol": 1e-4}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Checkpoints by name; two of them with every MTP layer on full attention where the published
    one slides.
    """
    root = tmp_path_factory.mktemp("heads")
    by_name = {}
    for name in (
        "llama",
        "deepseek_v3",
        "glm4_moe",
        "mellum",
        "mimo_v2_flash",
        "qwen3",
        "qwen3_next",
    ):
        publish(ARCHITECTURES[name], root / name, seed=7)
        by_name[name] = root / name
    publish(ARCHITECTURES["mellum"], root / "mellum-full", seed=7)
    by_name["mellum-full"] = edit_config(root / "mellum-full", mtp_layer_types=["full_attention"])
    return by_name


@pytest.fixture
def loaded(request: pytest.FixtureRequest, folders: dict[str, Path]) -> LoadedModel:
    return load_model(str(folders[request.param]), "cpu")


@torch.inference_mode()
def text_and_hidden(loaded: LoadedModel, rows: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    ids = torch.randint(0, VOCABULARY, (rows, LENGTH), generator=torch.Generator().manual_seed(11))
    return ids, loaded.model(ids, use_cache=False, output_hidden_states=True).hidden_states[-1]


def positions(begin: int, end: int) -> torch.Tensor:
    return torch.arange(begin, end)[None]


@pytest.mark.parametrize(
    "loaded",
    ["llama", "deepseek_v3", "glm4_moe", "mellum", "mimo_v2_flash", "qwen3", "qwen3_next"],
    indirect=True,
)
@torch.inference_mode()
def test_trained_layers_equal_running_them_token_by_token(loaded: LoadedModel) -> None:
    """Each layer on transformers' own MTP cache, one token a call."""
    ids, hidden = text_and_hidden(loaded)
    heads = loaded.heads
    cache = MtpCache(config=loaded.model.config.get_mtp_config())
    for index, states in enumerate(teacher_forced_hidden(heads, ids, hidden)):
        anchors = LENGTH - 1 - index
        assert states.shape == (2, anchors, hidden.shape[2])
        one_by_one = [
            heads.forward_layer(
                index,
                hidden[:, anchor : anchor + 1],
                positions(anchor + index + 1, anchor + index + 2),
                cache,
                input_ids=ids[:, anchor + index + 1 : anchor + index + 2],
            )
            for anchor in range(anchors)
        ]
        torch.testing.assert_close(states, torch.cat(one_by_one, dim=1), **CLOSE)
        hidden = states


@pytest.mark.parametrize(
    "loaded", ["llama", "deepseek_v3", "mimo_v2_flash", "qwen3_next"], indirect=True
)
@torch.inference_mode()
def test_trained_layers_equal_drafting_from_one_prefix_at_a_time(loaded: LoadedModel) -> None:
    """transformers' own forward pass drafts from each prefix; fed its own drafts, the text agrees
    as far as it does.
    """
    ids, hidden = text_and_hidden(loaded, rows=1)
    choices = [
        project(loaded.heads, states).argmax(-1)
        for states in teacher_forced_hidden(loaded.heads, ids, hidden)
    ]
    for anchor in range(LENGTH - 1):
        drafts, _, _ = loaded.heads(
            input_ids=ids[:, 1 : anchor + 2],
            last_hidden_states=hidden[:, : anchor + 1],
            attention_mask=None,
            position_ids=positions(1, anchor + 2),
            mtp_cache=None,
        )
        for step, choice in enumerate(choices):
            if anchor >= choice.shape[1]:
                break
            assert choice[0, anchor] == drafts[0, step]
            # The next layer reads this token at every position of its window: go on only while it
            # is the text's own.
            if anchor + step + 2 >= LENGTH or drafts[0, step] != ids[0, anchor + step + 2]:
                break


def naive_reuse(
    heads: MtpModel, ids: torch.Tensor, hidden: torch.Tensor, *, anchor: int, depth: int, steps: int
) -> list[torch.Tensor]:
    """Hidden states of one anchor's chain: true keys up to the anchor in a plain cache, then its
    own steps one by one.
    """
    chain = []
    for index in range(depth - 1):
        end = anchor + 2 + index
        hidden = heads.forward_layer(
            index,
            hidden[:, : anchor + 1],
            positions(index + 1, end),
            None,
            input_ids=ids[:, index + 1 : end],
        )
        chain.append(hidden[:, -1:])
    last, cache = depth - 1, DynamicCache()
    state = run_layer(
        heads, last, ids[:, last + 1 : anchor + 2 + last], hidden[:, : anchor + 1], last + 1, cache
    )[:, -1:]
    chain.append(state)
    for step in range(depth, min(steps, ids.shape[1] - 1 - anchor)):
        at = anchor + 1 + step
        state = run_layer(heads, last, ids[:, at : at + 1], state, at, cache)
        chain.append(state)
    return chain


def run_layer(
    heads: MtpModel,
    index: int,
    tokens: torch.Tensor,
    hidden: torch.Tensor,
    begin: int,
    cache: DynamicCache,
) -> torch.Tensor:
    """Without a mask, attention is causal over a first call and sees the whole cache at a later
    single token.
    """
    embeds = heads.embed_tokens(tokens)
    at = positions(begin, begin + tokens.shape[1])
    kind = {"layer_type": "full_attention"} if heads.has_per_layer_rope else {}
    layer = heads.layers[index]
    state: torch.Tensor = layer(
        embeds,
        hidden,
        position_embeddings=heads.rotary_emb(embeds, position_ids=at, **kind),
        attention_mask=None,
        position_ids=at,
        **{cache_name(type(layer).forward): cache},
    )
    return state


@pytest.mark.parametrize("steps", [1, 2, 3, 6])
@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("loaded", ["deepseek_v3", "glm4_moe", "qwen3"], indirect=True)
@torch.inference_mode()
def test_reuse_of_the_last_layer_equals_one_chain_at_a_time(
    loaded: LoadedModel, depth: int, steps: int
) -> None:
    assert_reuse_is_naive(loaded, depth, max(depth, steps))


@pytest.mark.parametrize("loaded", ["mellum-full"], indirect=True)
@torch.inference_mode()
def test_reuse_rotates_by_the_layers_own_frequency(loaded: LoadedModel) -> None:
    assert loaded.heads.has_per_layer_rope
    assert_reuse_is_naive(loaded, 1, 6)


@pytest.mark.parametrize("part", [1, 4, 5])
@pytest.mark.parametrize(
    "loaded", ["deepseek_v3", "glm4_moe", "qwen3", "mellum-full"], indirect=True
)
@torch.inference_mode()
def test_anchors_taken_a_few_at_a_time_are_the_same(
    loaded: LoadedModel, part: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mtp_forward, "_ANCHORS", {"cpu": (0, part)})
    assert_reuse_is_naive(loaded, 1, 6)


@pytest.mark.parametrize("loaded", ["qwen3"], indirect=True)
@torch.inference_mode()
def test_reuse_needs_no_tensor_of_the_length_squared(loaded: LoadedModel) -> None:
    length, steps = 600, 6
    ids, hidden = torch.ones(1, length, dtype=torch.long), torch.ones(1, length, WIDTH)
    with LargestTensor() as largest:
        assert len(list(teacher_forced_hidden(loaded.heads, ids, hidden, 1, steps))) == steps
    assert largest.numbers < length**2 / 4 < steps * length**2


@pytest.mark.parametrize("loaded", ["qwen3"], indirect=True)
@torch.inference_mode()
def test_operations_grow_with_the_steps_and_with_the_square_of_the_length(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mtp_forward, "_ANCHORS", {"cpu": (0, 4)})
    # Operations of eager attention are matrix products, which are counted.
    loaded.heads.config._attn_implementation = "eager"

    def cost(length: int, steps: int) -> int:
        ids, hidden = torch.ones(1, length, dtype=torch.long), torch.ones(1, length, WIDTH)
        return operations(lambda: list(teacher_forced_hidden(loaded.heads, ids, hidden, 1, steps)))

    assert cost(96, 8) < 6 * cost(96, 2)
    assert cost(192, 2) < 4.2 * cost(96, 2)


def assert_reuse_is_naive(loaded: LoadedModel, depth: int, steps: int) -> None:
    ids, hidden = text_and_hidden(loaded)
    states = list(teacher_forced_hidden(loaded.heads, ids, hidden, depth, steps))
    assert [state.shape[1] for state in states] == [LENGTH - 1 - step for step in range(steps)]
    for anchor in range(LENGTH - depth):
        chain = naive_reuse(loaded.heads, ids, hidden, anchor=anchor, depth=depth, steps=steps)
        for step, state in enumerate(chain):
            torch.testing.assert_close(states[step][:, anchor : anchor + 1], state, **CLOSE)


@pytest.mark.parametrize("loaded", ["llama"], indirect=True)
@torch.inference_mode()
def test_fewer_steps_than_layers_are_the_first_layers(loaded: LoadedModel) -> None:
    ids, hidden = text_and_hidden(loaded)
    all_steps = list(teacher_forced_hidden(loaded.heads, ids, hidden))
    for steps in (1, 2):
        fewer = list(teacher_forced_hidden(loaded.heads, ids, hidden, 3, steps))
        assert len(fewer) == steps
        assert all(torch.equal(few, of_all) for few, of_all in zip(fewer, all_steps, strict=False))


@pytest.mark.parametrize("loaded", ["llama"], indirect=True)
@torch.inference_mode()
def test_reuse_ends_with_the_text(loaded: LoadedModel) -> None:
    ids, hidden = text_and_hidden(loaded)
    states = list(teacher_forced_hidden(loaded.heads, ids[:, :4], hidden[:, :4], 1, 9))
    assert [state.shape[1] for state in states] == [3, 2, 1]


@pytest.mark.parametrize("loaded", ["mellum", "mimo_v2_flash"], indirect=True)
@torch.inference_mode()
def test_reuse_without_full_attention_is_refused(loaded: LoadedModel) -> None:
    ids, hidden = text_and_hidden(loaded)
    with pytest.raises(
        RequestError, match="sliding_attention cannot be reused past their number; lower k"
    ):
        list(teacher_forced_hidden(loaded.heads, ids, hidden, 1, 2))
