"""Speculative generation: at temperature 0 the text is plain greedy decoding's, whatever drafts and
verifies.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from agreement import inside
from helpers.architectures import ARCHITECTURES, VOCABULARY, WIDTH, publish
from helpers.embedded import Pair
from helpers.support import edit_config, llama
from helpers.tiers import crossed, exhaustive
from transformers import AutoModelForCausalLM, GenerationConfig, OPTConfig

from pytest_specdec.acceptance.renewal import sample_rounds
from pytest_specdec.cases.case import LOOKUP, OWN_HEADS, RULES, Sampling
from pytest_specdec.cases.texts import Text
from pytest_specdec.common.errors import MeasurementError, RequestError
from pytest_specdec.decoding.decode import decode
from pytest_specdec.decoding.loading import LoadedModel, load_model
from pytest_specdec.decoding.replay import DrafterPlan, text_scores

NEW = 24
DRAFTERS = [("draft", 0), ("draft", 1), ("draft", 3), (OWN_HEADS, 3), (OWN_HEADS, 1), (LOOKUP, 0)]
KS, BATCHES = (1, 3, 4, 8, 16), (1, 3, 16)
TIE = 1e-3
"""Logit gap below which two tokens count as a tie."""


@pytest.fixture(scope="module")
def prompts(pair: Pair) -> list[list[int]]:
    return pair.prompts[::5]


@pytest.fixture(scope="module")
def plain(pair: Pair, prompts: list[list[int]]) -> list[list[int]]:
    return [greedy(pair.target, prompt, NEW) for prompt in prompts]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    return load_model(
        str(llama(tmp_path_factory.mktemp("tiny") / "target", seed=1, context=64)), "cpu"
    )


def greedy(target: LoadedModel, prompt: list[int], new: int) -> list[int]:
    """Plain greedy decoding by transformers, without a drafter."""
    ids = torch.tensor([prompt])
    config = GenerationConfig(
        max_new_tokens=new, do_sample=False, pad_token_id=0, eos_token_id=None
    )
    return target.model.generate(
        ids, attention_mask=torch.ones_like(ids), generation_config=config
    )[0].tolist()


def grid() -> Iterator[tuple[str, int, str, int, int]]:
    """Every drafter with every k; rules and batch sizes in turn, so that all pairs of two settings
    occur.
    """
    for (row, (drafter, depth)), (column, k) in itertools.product(
        enumerate(DRAFTERS), enumerate(KS)
    ):
        yield drafter, depth, RULES[(row + column) % 5], k, BATCHES[(row + 2 * column) % 3]


def test_the_grid_pairs_every_setting_with_every_other() -> None:
    cells = [((drafter, depth), rule, k, batch) for drafter, depth, rule, k, batch in grid()]
    for (first, ours), (second, theirs) in itertools.combinations(
        enumerate([DRAFTERS, RULES, KS, BATCHES]), 2
    ):
        assert {(cell[first], cell[second]) for cell in cells} == set(
            itertools.product(ours, theirs)
        )


@pytest.mark.parametrize(("ks", "least"), [((4,), 1_500), exhaustive(KS, 8_000)])
def test_greedy_text_is_plain_greedy_decoding(
    pair: Pair, prompts: list[list[int]], plain: list[list[int]], ks: tuple[int, ...], least: int
) -> None:
    """Save at numerical ties, which are counted: another batch shape rounds differently."""
    ties = tokens = 0
    for drafter, depth, rule, k, batch in grid():
        if k not in ks:
            continue
        rows = range(len(prompts) if batch > 1 else 6)
        model = pair.draft if drafter == "draft" else drafter
        chosen = [prompts[row] for row in rows]
        decoded = decode(
            pair.target,
            model,
            chosen,
            k=k,
            depth=depth,
            rule=rule,
            temperature=0,
            new_tokens=NEW,
            batch_size=batch,
        )
        for text, row in zip(decoded.texts, rows, strict=True):
            tokens += NEW
            if list(text.ids) != plain[row]:
                gap = gap_at_first_difference(pair.target, list(text.ids), plain[row])
                assert gap < TIE, (
                    f"{drafter} {depth} {rule} k={k} batch={batch}: differs with a gap of {gap:.4f}"
                )
                ties += 1
    assert tokens > least
    assert ties <= tokens / 1000


def gap_at_first_difference(target: LoadedModel, tokens: list[int], other: list[int]) -> float:
    """The target's top-2 logit gap where two texts part."""
    at = next(at for at, (a, b) in enumerate(zip(tokens, other, strict=True)) if a != b)
    with torch.inference_mode():
        first, second = (
            target.model(torch.tensor([tokens[:at]])).logits[0, -1].topk(2).values.tolist()
        )
    return first - second


@crossed(drafting=DRAFTERS, k=[2, 8])
def test_greedy_rounds_are_replays(
    pair: Pair, prompts: list[list[int]], drafting: tuple[str, int], k: int
) -> None:
    drafter, depth = drafting
    model = pair.draft if drafter == "draft" else drafter
    decoded = decode(
        pair.target, model, prompts, k=k, depth=depth, temperature=0, new_tokens=48, batch_size=7
    )
    (scores,) = text_scores(pair.target, [DrafterPlan(model, depth, k)], decoded.texts, Sampling(0))
    replayed = sample_rounds(scores.field("greedy"), k, np.random.default_rng(0))
    counted = inside(decoded)
    assert counted == replayed
    assert sum(map(len, counted)) > 100


def test_rounds_tile_the_text(pair: Pair, prompts: list[list[int]]) -> None:
    decoded = decode(pair.target, pair.draft, prompts, k=3, new_tokens=40, seed=3)
    for text, rounds in zip(decoded.texts, decoded.rounds, strict=True):
        assert rounds[0].start == text.first_draft
        assert all(
            after.start == before.start + before.accepted + 1
            for before, after in itertools.pairwise(rounds)
        )
        assert rounds[-1].start < len(text.ids) <= rounds[-1].start + rounds[-1].accepted + 1
        left = [
            len(text.ids) - played.start for played in rounds
        ]  # near the end no more is drafted than can be emitted
        assert [played.drafted for played in rounds] == [
            3 if tokens >= 3 else tokens - 1 for tokens in left
        ]
        assert all(0 <= played.accepted <= played.drafted for played in rounds)
    assert len(decoded.draft_ms) == len(decoded.verify_ms) > 0
    assert min(decoded.draft_ms + decoded.verify_ms) > 0


def test_an_end_of_sequence_token_ends_a_text_and_is_kept(tmp_path: Path) -> None:
    free = load_model(str(llama(tmp_path / "free", seed=1)), "cpu")
    prompt = [0, 5, 9, 3]
    endless = greedy(free, prompt, 24)
    stop = endless[12]
    folder = llama(tmp_path / "stopped", seed=1)
    edit_config(folder, eos_token_id=stop)
    (folder / "generation_config.json").write_text(f'{{"bos_token_id": 0, "eos_token_id": {stop}}}')
    stopped = load_model(str(folder), "cpu")
    end = next(at for at in range(len(prompt), len(endless)) if endless[at] == stop) + 1
    for k in (1, 4, 8):
        decoded = decode(stopped, stopped, [prompt, [0, 7]], k=k, temperature=0, new_tokens=24)
        assert list(decoded.texts[0].ids) == endless[:end]
        assert all(played.start + k <= end for played in decoded.rounds[0][:-1])
        assert decoded.counts.rounds[0] == sum(
            played.start + k <= end for played in decoded.rounds[0]
        )


def test_one_new_token_has_no_round(tiny: LoadedModel) -> None:
    decoded = decode(tiny, tiny, [[0, 3], [0, 4, 5]], k=4, new_tokens=1)
    assert [len(text.ids) for text in decoded.texts] == [3, 4]
    assert decoded.rounds == ((), ())


def test_a_text_may_fill_the_context(tiny: LoadedModel) -> None:
    prompt = [0, 6, 7, 8]
    decoded = decode(tiny, OWN_HEADS, [prompt, [0, 2]], k=8, depth=2, temperature=0, new_tokens=60)
    assert list(decoded.texts[0].ids) == greedy(tiny, prompt, 60)


def opt(folder: Path, context: int) -> LoadedModel:
    """A model of learned positions, which has none past its context."""
    torch.manual_seed(3)
    config = OPTConfig(
        vocab_size=VOCABULARY,
        hidden_size=WIDTH,
        word_embed_proj_dim=WIDTH,
        ffn_dim=2 * WIDTH,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=context,
        init_std=0.5,
        pad_token_id=0,
        bos_token_id=None,
        eos_token_id=None,
    )
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return load_model(str(folder), "cpu")


@pytest.mark.parametrize("k", [1, 5, 16])
def test_drafts_past_the_last_learned_position_do_no_harm(tmp_path: Path, k: int) -> None:
    target = opt(tmp_path / "learned", context=32)
    prompts = [[1, 2, 3, 1, 2, 3, 1, 2], [4, 5, 4]]
    for drafter in (target, LOOKUP):
        texts = decode(target, drafter, prompts, k=k, temperature=0, new_tokens=24).texts
        assert [list(text.ids) for text in texts] == [
            greedy(target, prompt, 24) for prompt in prompts
        ]
    with pytest.raises(
        RequestError, match=r"of 33 tokens .*longer than the context .*learned \(32\)"
    ):
        decode(target, target, prompts, k=k, new_tokens=25)


def test_a_draft_model_of_a_smaller_context_is_refused(tmp_path: Path) -> None:
    target, draft = opt(tmp_path / "target", context=64), opt(tmp_path / "narrow", context=16)
    with pytest.raises(
        RequestError, match=r"of 17 tokens .*longer than the context .*narrow \(16\)"
    ):
        decode(target, draft, [[1, 2, 3, 4]], k=2, new_tokens=13)
    assert len(decode(target, draft, [[1, 2, 3, 4]], k=2, new_tokens=12).texts[0].ids) == 16


STATEFUL = ("qwen3_next", "qwen3_5_text", "bailing_hybrid")
"""Models with linear attention, whose states cannot take back a rejected draft."""
SLIDING_HEADS = ("mellum", "mimo_v2_flash")
"""Their MTP layers attend in a window and cannot be reused past their number."""


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], LoadedModel]:
    @functools.cache
    def get(name: str) -> LoadedModel:
        publish(
            ARCHITECTURES[name], (folder := tmp_path_factory.mktemp("published") / name), seed=3
        )
        return load_model(str(folder), "cpu")

    return get


@pytest.mark.parametrize("name", [name for name in ARCHITECTURES if name not in STATEFUL])
@pytest.mark.parametrize("batch", [3, exhaustive(1)])
def test_heads_of_every_architecture_decode_to_plain_greedy_text(
    published: Callable[[str], LoadedModel], name: str, batch: int
) -> None:
    """On the target or on a draft model, together or row by row; every round is replay's."""
    target, layers = published(name), ARCHITECTURES[name].mtp_layers
    prompts = [[7], [1, 2, 3, 4], [5, 6, 7, 8, 9, 10, 11, 3, 1]]
    expected = [greedy(target, prompt, 32) for prompt in prompts]
    outcomes = set()
    for drafter, k in itertools.product((OWN_HEADS, target), {layers, layers + 3}):
        if name in SLIDING_HEADS and drafter == OWN_HEADS:
            k = layers
        decoded = decode(
            target,
            drafter,
            prompts,
            k=k,
            depth=layers,
            temperature=0,
            new_tokens=32,
            batch_size=batch,
        )
        assert [list(text.ids) for text in decoded.texts] == expected
        (scores,) = text_scores(
            target, [DrafterPlan(drafter, layers, k)], decoded.texts, Sampling(0)
        )
        replayed = sample_rounds(scores.field("greedy"), k, np.random.default_rng(0))
        assert inside(decoded) == replayed
        outcomes |= {accepted for rounds in replayed for _, accepted in rounds}
    assert {0, 1} < outcomes


@pytest.mark.parametrize("name", STATEFUL)
def test_recurrent_states_are_refused_where_a_draft_is_rejected(
    published: Callable[[str], LoadedModel], name: str
) -> None:
    target = published(name)
    with pytest.raises(RequestError, match=r"recurrent states .*cannot take back rejected drafts"):
        decode(target, LOOKUP, [[1, 2, 3, 1, 2]], k=3, temperature=0, new_tokens=20)


def test_prompts_of_different_lengths_decode_as_each_alone(tiny: LoadedModel) -> None:
    prompts = [[0], [0, 4], [0, 9, 2, 8, 5, 3, 3], [0, *range(2, 20)]]
    for drafter, depth in ((tiny, 0), (tiny, 2), (OWN_HEADS, 2), (OWN_HEADS, 1), (LOOKUP, 0)):
        together = decode(tiny, drafter, prompts, k=5, depth=depth, temperature=0, new_tokens=30)
        assert [list(text.ids) for text in together.texts] == [
            greedy(tiny, prompt, 30) for prompt in prompts
        ]


def test_the_seed_decides_sampled_texts(tiny: LoadedModel) -> None:
    first, again, other = (
        decode(tiny, tiny, [[0, 3]] * 3, k=2, new_tokens=20, seed=seed) for seed in (1, 1, 2)
    )
    assert first.texts == again.texts
    assert first.rounds == again.rounds
    assert first.texts != other.texts


def test_strings_go_through_the_targets_tokenizer(tiny: LoadedModel) -> None:
    words = decode(tiny, tiny, ["an apple"], k=2, temperature=0, new_tokens=8)
    ids = decode(
        tiny, tiny, [tiny.tokenizer("an apple")["input_ids"]], k=2, temperature=0, new_tokens=8
    )
    assert words.texts == ids.texts
    assert isinstance(words.texts[0], Text)


def test_progress_counts_prompts(tiny: LoadedModel) -> None:
    seen: list[tuple[int, int]] = []
    decode(
        tiny,
        tiny,
        [[0, 3]] * 5,
        k=2,
        new_tokens=4,
        batch_size=2,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert seen == [(2, 5), (4, 5), (5, 5)]


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"prompts": []}, "needs prompts of at least one token"),
        ({"prompts": [[0], []]}, "needs prompts of at least one token"),
        ({"new_tokens": 0}, "ask for at least one"),
        (
            {"new_tokens": 100},
            r"\(100 of them new\) is longer than the context .*; shorten the prompt or ask for fewer new tokens",
        ),
        ({"rule": "greedy"}, "rule 'greedy' does not go with temperature 1"),
        ({"rule": "best"}, "verification rule 'best' is unknown; choose among rejection"),
        ({"drafter": LOOKUP, "depth": 1}, "prompt lookup has no MTP layers"),
        ({"drafter": OWN_HEADS}, "the target's own heads draft with at least one layer"),
        ({"depth": 7}, "depth 7 needs 7 MTP layers"),
    ],
)
def test_what_cannot_be_decoded_is_refused(
    tiny: LoadedModel, options: dict[str, object], complaint: str
) -> None:
    wanted = {"drafter": tiny, "prompts": [[0, 3]], "k": 2, "new_tokens": 8} | options
    with pytest.raises(RequestError, match=complaint):
        decode(tiny, **wanted)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("drafter", ["model", OWN_HEADS])
def test_a_target_that_returns_nan_accepts_nothing(
    tiny_target: Path, tiny: LoadedModel, temperature: float, drafter: str
) -> None:
    broken = load_model(str(tiny_target), "cpu")
    broken.model.model.norm.weight.data.fill_(torch.nan)
    model = tiny if drafter == "model" else OWN_HEADS
    with pytest.raises(MeasurementError, match="returns NaN or infinite logits"):
        decode(
            broken,
            model,
            [[0, 3]],
            k=2,
            depth=int(drafter == OWN_HEADS),
            temperature=temperature,
            new_tokens=8,
        )
