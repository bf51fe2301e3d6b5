"""Caches whose rows keep different numbers of tokens, against teacher forcing without any cache."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.architectures import ARCHITECTURES, VOCABULARY, WIDTH, publish
from helpers.tiers import exhaustive, some
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

from pytest_specdec.common.errors import RequestError
from pytest_specdec.decoding import ragged
from pytest_specdec.decoding.drafters.drafts import reach_of
from pytest_specdec.decoding.loading import LoadedModel, load_model
from pytest_specdec.decoding.ragged import CachedModel, Rows, Sequences, moved, padding_mask

K = 4
REACH = reach_of(K, 0)
CONTEXT = 128
WINDOW = 6
CLOSE = {"rtol": 1e-4, "atol": 1e-4}
PROPERTY = settings(deadline=None, max_examples=200)
ALTERNATING = ["sliding_attention", "full_attention", "sliding_attention"]


@dataclasses.dataclass(frozen=True)
class Tiny:
    """A random model of one of transformers' architectures."""

    model_type: str
    settings: Mapping[str, Any]
    attention: str = "eager"


TINY = {
    "full": Tiny("llama", {}),
    "full, sdpa": Tiny("llama", {}, "sdpa"),
    "sliding": Tiny("mistral", {"sliding_window": WINDOW}),
    "sliding, sdpa": Tiny("mistral", {"sliding_window": WINDOW}, "sdpa"),
    "hybrid": Tiny(
        "gemma3_text", {"sliding_window": WINDOW, "head_dim": 8, "layer_types": ALTERNATING}
    ),
    "hybrid, sdpa": Tiny("cohere2", {"sliding_window": WINDOW, "layer_types": ALTERNATING}, "sdpa"),
    # A kernel longer than the shortest row: what stands left of the row's first token counts.
    "convolutions": Tiny(
        "lfm2",
        {
            "layer_types": ["conv", "full_attention", "conv"],
            "conv_L_cache": 4,
            "block_auto_adjust_ff_dim": False,
        },
    ),
    "absolute positions, sdpa": Tiny(
        "gpt2", {"n_embd": WIDTH, "n_layer": 2, "n_head": 2, "n_positions": CONTEXT}, "sdpa"
    ),
    # Its indexer selects every key: with fewer, transformers' own cached logits are not its
    # uncached ones.
    "sparse, with an indexer": Tiny(
        "deepseek_v32",
        {
            "kv_lora_rank": 8,
            "qk_rope_head_dim": 8,
            "qk_nope_head_dim": 8,
            "v_head_dim": 8,
            "q_lora_rank": 8,
            "n_routed_experts": 4,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": WIDTH,
            "n_group": 1,
            "topk_group": 1,
            "first_k_dense_replace": 1,
            "index_topk": CONTEXT,
            "index_head_dim": 16,
            "index_n_heads": 2,
        },
    ),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ragged")


@pytest.fixture
def loaded(request: pytest.FixtureRequest, folder: Path) -> LoadedModel:
    """The model named by the parameter; weights so large that a wrong key shows in every logit."""
    tiny = TINY[request.param]
    path = folder / tiny.model_type
    if not path.exists():
        plain = {
            "vocab_size": VOCABULARY,
            "hidden_size": WIDTH,
            "intermediate_size": 2 * WIDTH,
            "num_hidden_layers": 3,
            "num_attention_heads": 2,
            "num_key_value_heads": 2,
            "max_position_embeddings": CONTEXT,
            "initializer_range": 0.5,
            "bos_token_id": None,
            "eos_token_id": None,
            "pad_token_id": 0,
        }
        torch.manual_seed(4)
        config = CONFIG_MAPPING[tiny.model_type](**plain, **tiny.settings)
        AutoModelForCausalLM.from_config(config).save_pretrained(path)
    model = load_model(str(path), "cpu")
    model.model.set_attn_implementation(tiny.attention)
    return model


def forced(loaded: LoadedModel, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits and last hidden states of one text alone, without a cache."""
    outputs = loaded.model(
        tokens[None],
        attention_mask=torch.ones_like(tokens)[None],
        use_cache=False,
        output_hidden_states=True,
    )
    return outputs.logits[0], outputs.hidden_states[-1][0]


def forced_rows(
    loaded: LoadedModel, ids: torch.Tensor, ends: Rows
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """The same for the first `ends` tokens of each row, in one pass: causal models do not look at
    what stands right of them.
    """
    tokens = ids[:, : int(ends.max())]
    outputs = loaded.model(
        tokens,
        attention_mask=torch.ones_like(tokens),
        use_cache=False,
        output_hidden_states=True,
    )
    rows = zip(outputs.logits, outputs.hidden_states[-1], ends.tolist(), strict=True)
    return [(logits[:end], hidden[:end]) for logits, hidden, end in rows]


def sequences_of(prompts: list[list[int]]) -> Sequences:
    return Sequences(prompts, CONTEXT - 9, torch.device("cpu"))


class Feeds(RuleBasedStateMachine):
    """Rounds of a decoder in any pattern: rows accept, reject, forget and leave as hypothesis
    pleases.
    """

    def __init__(self, loaded: LoadedModel) -> None:
        super().__init__()
        self.loaded = loaded

    @initialize(
        data=st.data(),
        lengths=st.lists(st.integers(1, 9), min_size=1, max_size=4),
        seed=st.integers(0, 1 << 32),
    )
    def prompt(self, data: st.DataObject, lengths: list[int], seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)
        self.sequences = sequences_of([self.some(length).tolist() for length in lengths])
        self.cached = CachedModel(self.loaded, REACH, keeps_hidden=True)
        self.forgot = False
        self.feed(self.sequences.lengths, data.draw(st.integers(1, max(lengths))), None)
        self.emit(np.zeros(len(lengths), dtype=np.int64))

    @rule(data=st.data(), k=st.integers(1, K))
    def verify(self, data: st.DataObject, k: int) -> None:
        """As a target does: the newest token and k drafts in one pass."""
        for step in range(k):
            self.sequences.put(step, self.some(len(self.sequences.lengths)))
        self.feed(self.sequences.lengths + k, k + 1, self.sequences.agreed)
        self.emit(self.numbers(data, 0, k))

    @rule(data=st.data(), k=st.integers(1, K), step=st.integers(1, 3))
    def draft(self, data: st.DataObject, k: int, step: int) -> None:
        """As a draft model does: one pass for each `step` drafts, on its own drafts."""
        for first in range(0, k, step):
            ends = self.sequences.lengths + first
            self.feed(ends, 1, ends if first else self.sequences.agreed)
            for offset in range(first, first + step):
                self.sequences.put(offset, self.some(len(ends)))
        self.emit(self.numbers(data, 0, k))

    @precondition(lambda self: not self.forgot)
    @rule(data=st.data())
    def forget(self, data: st.DataObject) -> None:
        """Take back any number of positions of each row, as few as one being left of it."""
        drop = np.minimum(self.numbers(data, 0, K), self.cached.cached - 1)
        lengths = np.minimum(self.cached.cached - drop, self.sequences.agreed)
        self.cached.keep(lengths)
        self.forgot = True  # twice in a row is more than `reach`
        rows = forced_rows(self.loaded, self.sequences.ids, lengths)
        for row, (_, hidden) in enumerate(rows):
            count = min(len(hidden), 3)
            torch.testing.assert_close(self.cached.hidden[row, -count:], hidden[-count:], **CLOSE)

    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        count = len(self.sequences.lengths)
        rows = np.array(
            data.draw(
                st.lists(st.integers(0, count - 1), min_size=1, max_size=count, unique=True).map(
                    sorted
                )
            )
        )
        self.sequences.select(rows)
        self.cached.select(rows)

    @invariant()
    def no_hole_stays_in_the_cache(self) -> None:
        longest = int(self.cached.cached.max())
        assert self.cached.cache.get_seq_length() == longest
        for layer in self.cached.cache.layers:
            if (
                getattr(layer, "keys", None) is not None
                and getattr(layer, "sliding_window", None) is None
            ):
                assert layer.keys.shape[2] == longest

    def feed(self, ends: Rows, logits: int, agreed: Rows | None) -> None:
        out = self.cached.feed(self.sequences, ends, logits, agreed)
        self.forgot = False
        assert out.shape == (len(ends), logits, VOCABULARY)
        rows = forced_rows(self.loaded, self.sequences.ids, ends)
        for row, (expected, hidden) in enumerate(rows):
            count = min(logits, len(expected))
            torch.testing.assert_close(out[row, -count:], expected[-count:], **CLOSE)
            torch.testing.assert_close(self.cached.hidden[row, -count:], hidden[-count:], **CLOSE)

    def emit(self, accepted: Rows) -> None:
        self.sequences.put(accepted, self.some(len(accepted)))
        self.sequences.lengths = self.sequences.lengths + accepted + 1

    def some(self, count: int) -> torch.Tensor:
        return torch.randint(0, VOCABULARY, (count,), generator=self.generator)

    def numbers(self, data: st.DataObject, least: int, most: int) -> Rows:
        """A number for each row."""
        count = len(self.sequences.lengths)
        return np.array(
            data.draw(st.lists(st.integers(least, most), min_size=count, max_size=count))
        )


@pytest.mark.parametrize("examples", [8, exhaustive(40)])
@pytest.mark.parametrize("loaded", some(TINY, 2), indirect=True)
def test_cached_logits_are_the_uncached_ones_whatever_the_rows_do(
    loaded: LoadedModel, examples: int
) -> None:
    steps = settings(
        deadline=None,
        max_examples=examples,
        stateful_step_count=14,
        suppress_health_check=list(HealthCheck),
    )
    with torch.inference_mode():
        run_state_machine_as_test(lambda: Feeds(loaded), settings=steps)


def agree(cached: CachedModel, sequences: Sequences, out: torch.Tensor, ends: Rows) -> None:
    """The last logits of every row are those of its text alone."""
    for row, end in enumerate(ends.tolist()):
        expected, _ = forced(cached.model, sequences.ids[row, :end])
        torch.testing.assert_close(out[row], expected[-out.shape[1] :], **CLOSE)


@pytest.mark.parametrize("loaded", TINY, indirect=True)
@torch.inference_mode()
def test_rows_that_stay_when_the_longest_leaves_do_not_see_its_columns(loaded: LoadedModel) -> None:
    """Nothing is taken back here that would put the cache right."""
    sequences, cached = sequences_of([[7, 8], [1, 2, 3, 4, 5, 6]]), CachedModel(loaded, REACH)
    cached.feed(sequences, sequences.lengths, 1)
    for part in (sequences, cached):
        part.select(np.array([0]))
    sequences.put(0, torch.tensor([9]))
    ends = sequences.lengths + 1
    agree(cached, sequences, cached.feed(sequences, ends, 1), ends)


@pytest.mark.parametrize("loaded", TINY, indirect=True)
@torch.inference_mode()
def test_a_row_taken_back_to_its_first_token_sees_nothing_left_of_it(loaded: LoadedModel) -> None:
    sequences, cached = sequences_of([[7, 8, 9, 1], [1, 2, 3, 4]]), CachedModel(loaded, REACH)
    cached.feed(sequences, sequences.lengths, 1)
    cached.keep(np.array([1, 3]))
    agree(cached, sequences, cached.feed(sequences, np.array([3, 5]), 2), np.array([3, 5]))


@pytest.mark.parametrize("loaded", ["sliding", "hybrid", "convolutions"], indirect=True)
@torch.inference_mode()
def test_layers_hold_no_more_columns_than_they_look_back_at(loaded: LoadedModel) -> None:
    """However many ragged rounds: full attention as many as the longest row has tokens, the others
    a bounded number.
    """
    rng = np.random.default_rng(5)
    sequences, cached = (
        sequences_of([[1, 2, 3], [4], [5, 6, 7, 8, 9, 1, 2]]),
        CachedModel(loaded, REACH, keeps_hidden=True),
    )
    cached.feed(sequences, sequences.lengths, 1)
    sequences.lengths = sequences.lengths + 1
    held = K + 1 + REACH
    for _ in range(30):
        cached.feed(sequences, sequences.lengths + K, K + 1, sequences.agreed)
        sequences.lengths = sequences.lengths + rng.integers(1, K + 1, 3)
        cached.keep(np.minimum(sequences.agreed, cached.cached))
        for layer in cached.cache.layers:
            if hasattr(layer, "conv_states"):
                assert layer.conv_states[0].shape[2] <= layer.conv_kernel_size[0] + held
            elif (window := getattr(layer, "sliding_window", None)) is not None:
                assert layer.keys.shape[2] == layer.values.shape[2] <= window - 1 + held
            else:
                assert layer.keys.shape[2] == layer.values.shape[2] == cached.cached.max()
        assert cached.hidden.shape[1] <= held
    assert sequences.lengths.min() > 2 * (WINDOW + held)


@pytest.fixture(scope="module")
def recurrent(folder: Path) -> LoadedModel:
    publish(ARCHITECTURES["qwen3_next"], folder / "recurrent", seed=2)
    return load_model(str(folder / "recurrent"), "cpu")


@torch.inference_mode()
def test_recurrent_states_are_fed_but_not_taken_back(recurrent: LoadedModel) -> None:
    sequences, cached = sequences_of([[3, 1, 4, 1, 5]]), CachedModel(recurrent, REACH)
    for token in (9, 2, 6):
        out = cached.feed(sequences, sequences.lengths, 1)
        torch.testing.assert_close(
            out[0], forced(recurrent, sequences.ids[0, : sequences.lengths[0]])[0][-1:], **CLOSE
        )
        sequences.put(0, torch.tensor([token]))
        sequences.lengths = sequences.lengths + 1
    with pytest.raises(
        RequestError,
        match=r"recurrent states .* cannot take back rejected drafts; .*--specdec-engine=replay",
    ):
        cached.feed(sequences, sequences.lengths, 1, agreed=sequences.lengths - 2)


@st.composite
def ragged_states(draw: st.DrawFn) -> tuple[torch.Tensor, Rows, int, int]:
    """States (rows, ..., columns, ...) with a number in each place, what to drop of each row, the
    axis, the most to keep.
    """
    rows, columns, axis = (
        draw(st.integers(1, 4)),
        draw(st.integers(1, 9)),
        draw(st.sampled_from([1, 2, -2])),
    )
    shape = (
        [rows, 2, columns, 3]
        if axis == -2
        else [rows, columns, 2]
        if axis == 1
        else [rows, 2, columns]
    )
    states = torch.arange(int(np.prod(shape))).reshape(shape).float()
    if draw(st.booleans()):  # narrowed before, as rows that drop the same are
        states = torch.cat([states, states], axis).narrow(axis, columns // 2, columns)
    drop = np.array(draw(st.lists(st.integers(0, columns), min_size=rows, max_size=rows)))
    return states, drop, 2 if axis == -2 else axis, draw(st.integers(0, 10))


@PROPERTY
@given(ragged_states())
def test_moved_rows_end_together_with_their_newest_columns(
    case: tuple[torch.Tensor, Rows, int, int],
) -> None:
    states, drop, axis, most = case
    before = states.clone()
    out = moved(states, drop, axis, most)
    columns = states.shape[axis]
    width = min(most, columns - int(drop.min()))
    assert out.shape[axis] == width
    for row, dropped in enumerate(drop.tolist()):
        left = min(width, columns - dropped)
        kept = states[row].narrow(axis - 1, columns - dropped - left, left)
        assert torch.equal(out[row].narrow(axis - 1, width - left, left), kept)
    assert torch.equal(states, before)


@PROPERTY
@given(ragged_states(), st.sampled_from([torch.float32, torch.bfloat16, torch.float64]))
def test_large_rows_are_moved_as_small_ones_are(
    case: tuple[torch.Tensor, Rows, int, int], dtype: torch.dtype
) -> None:
    """Padding included, which has to be finite."""
    states, drop, axis, most = case
    small, large = (
        moved_with(states.to(dtype), drop, axis, most, large_row) for large_row in (1 << 30, 0)
    )
    assert torch.equal(small, large)


def moved_with(
    states: torch.Tensor, drop: Rows, axis: int, most: int, large_row: int
) -> torch.Tensor:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ragged, "_LARGE_ROW", large_row)
        return moved(states, drop, axis, most)


@PROPERTY
@given(st.lists(st.integers(0, 9), min_size=1, max_size=5), st.integers(0, 9))
def test_padding_masks_leave_each_row_its_last_columns(lengths: list[int], width: int) -> None:
    mask = padding_mask(np.array(lengths), width, torch.device("cpu"))
    expected = [[column >= width - length for column in range(width)] for length in lengths]
    assert mask is None if all(map(all, expected)) else mask.tolist() == expected


@PROPERTY
@given(
    st.lists(st.lists(st.integers(0, 99), min_size=1, max_size=7), min_size=1, max_size=4),
    st.data(),
)
def test_windows_end_where_requested_and_repeat_a_rows_first_token_left_of_it(
    prompts: list[list[int]], data: st.DataObject
) -> None:
    """Also for the column just written, which is answered from memory."""
    sequences = sequences_of(prompts)
    rows = len(prompts)

    def numbers(most: int) -> Rows:
        return np.array(data.draw(st.lists(st.integers(0, most), min_size=rows, max_size=rows)))

    written = [[*prompt, *([0] * 5)] for prompt in prompts]
    for _ in range(3):
        offset = data.draw(st.one_of(st.integers(0, 3), st.just(None)))
        offset = numbers(3) if offset is None else offset
        tokens = 100 + numbers(9)
        sequences.put(offset, torch.from_numpy(tokens))
        for row, at in enumerate(np.broadcast_to(sequences.lengths + offset, rows)):
            written[row][at] = int(tokens[row])
        newest = sequences.lengths + offset + 1
        ends = newest if data.draw(st.booleans()) else 1 + numbers(3)
        width = data.draw(st.integers(1, 4))
        ids, positions = sequences.window(ends, width)
        expected = [[max(end - width + at, 0) for at in range(width)] for end in ends.tolist()]
        assert positions.tolist() == expected
        assert ids.tolist() == [
            [written[row][at] for at in places] for row, places in enumerate(expected)
        ]
    stay = np.array(sorted(data.draw(st.sets(st.integers(0, rows - 1), min_size=1))))
    sequences.select(stay)
    assert sequences.lengths.tolist() == [len(prompts[row]) for row in stay]
    assert sequences.ids[:, : min(map(len, written))].tolist() == [
        written[row][: min(map(len, written))] for row in stay
    ]
