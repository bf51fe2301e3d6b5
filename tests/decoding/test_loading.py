"""MTP heads of real layouts, loaded as a user's checkpoint would be, and what loading refuses."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import numpy as np
import pytest
import torch
import transformers
from helpers.architectures import ARCHITECTURES, VOCABULARY, publish
from helpers.support import edit_config, export_heads, llama
from helpers.tiers import some
from safetensors.torch import load_file, save_file
from transformers import GenerationMixin
from transformers.modeling_layers import MtpModel

from pytest_specdec.acceptance.renewal import sample_rounds
from pytest_specdec.cases.case import OWN_HEADS, Sampling
from pytest_specdec.cases.texts import texts_from_ids
from pytest_specdec.common.errors import RequestError
from pytest_specdec.decoding.loading import LoadedModel, load_model
from pytest_specdec.decoding.replay import DrafterPlan, text_scores

Rounds = list[tuple[int, int]]
"""(start, accepted) of each round."""

STATEFUL = ("qwen3_next", "qwen3_5_text", "bailing_hybrid")
"""Models with linear attention: transformers refuses all assisted generation for them, MTP
included.
"""
NEW_TOKENS = 32
PROMPTS = 6


@pytest.fixture(scope="module")
def published(
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[str], tuple[LoadedModel, dict[str, torch.Tensor]]]:
    """The loaded checkpoint of an architecture, and its MTP tensors as written."""
    known: dict[str, tuple[LoadedModel, dict[str, torch.Tensor]]] = {}

    def get(name: str) -> tuple[LoadedModel, dict[str, torch.Tensor]]:
        if name not in known:
            folder = tmp_path_factory.mktemp("published") / name
            expected = publish(ARCHITECTURES[name], folder, seed=3)
            known[name] = load_model(str(folder), "cpu"), expected
        return known[name]

    return get


@pytest.fixture
def serial_rounds(monkeypatch: pytest.MonkeyPatch) -> Rounds:
    """Every round of transformers' assisted decoding, as its candidate generator hears of it."""
    rounds: Rounds = []
    original = GenerationMixin._get_candidate_generator

    def hooked(self: Any, *arguments: Any, **options: Any) -> Any:
        generator = original(self, *arguments, **options)
        update = generator.update_candidate_strategy

        def report(input_ids: torch.Tensor, scores: torch.Tensor, num_matches: int) -> Any:
            if scores.shape[1] > 1:  # the first iteration is the prefill: it proposes nothing
                accepted = int(num_matches)
                rounds.append((input_ids.shape[1] - accepted - 1, accepted))
            return update(input_ids, scores, num_matches)

        generator.update_candidate_strategy = report
        return generator

    monkeypatch.setattr(GenerationMixin, "_get_candidate_generator", hooked)
    return rounds


def prompts() -> list[torch.Tensor]:
    return [
        torch.randint(0, VOCABULARY, (1, 3 + row), generator=torch.Generator().manual_seed(row))
        for row in range(PROMPTS)
    ]


def generate(loaded: LoadedModel, prompt: torch.Tensor, *, use_mtp: bool) -> list[int]:
    out = loaded.model.generate(
        prompt,
        attention_mask=torch.ones_like(prompt),
        max_new_tokens=NEW_TOKENS,
        do_sample=False,
        use_mtp=use_mtp,
        eos_token_id=None,
        pad_token_id=0,
    )
    ids: list[int] = out[0].tolist()
    return ids


def replayed_rounds(loaded: LoadedModel, ids: list[list[int]], k: int) -> list[Rounds]:
    texts = texts_from_ids(ids, [prompt.shape[1] for prompt in prompts()])
    (scores,) = text_scores(loaded, [DrafterPlan(OWN_HEADS, k, k)], texts, Sampling(0))
    field = scores.field("greedy")
    return sample_rounds(field, k, np.random.default_rng(0), end="clip")


def without_last_token(rounds: Rounds, length: int) -> Rounds:
    """transformers verifies a round that may emit the last token only; with nothing to accept it is
    no round of ours.
    """
    return [(start, accepted) for start, accepted in rounds if start < length - 1]


@torch.inference_mode()
def naive_rounds(loaded: LoadedModel, ids: list[int], prompt_length: int) -> Rounds:
    """Serial decoding without any cache: each round drafts with transformers' own MTP forward pass
    over its whole prefix.
    """
    text = torch.tensor([ids])
    hidden = loaded.model(text, use_cache=False, output_hidden_states=True).hidden_states[-1]
    rounds: Rounds = []
    start = prompt_length + 1
    while start < len(ids) - 1:
        drafts, _, _ = loaded.heads(
            input_ids=text[:, 1:start],
            last_hidden_states=hidden[:, : start - 1],
            attention_mask=None,
            position_ids=torch.arange(1, start)[None],
            mtp_cache=None,
        )
        proposed = drafts[0, : len(ids) - 1 - start].tolist()
        accepted = 0
        while accepted < len(proposed) and proposed[accepted] == ids[start + accepted]:
            accepted += 1
        rounds.append((start, accepted))
        start += accepted + 1
    return rounds


def assert_some_accepted_and_some_rejected(rounds: list[Rounds]) -> None:
    accepted = [count for text_rounds in rounds for _, count in text_rounds]
    assert min(accepted) == 0
    assert max(accepted) > 0


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_heads_hold_the_tensors_of_the_checkpoint(name: str, published: Any) -> None:
    loaded, expected = published(name)
    held = {
        key: tensor
        for key, tensor in loaded.heads.state_dict().items()
        if key.startswith("layers.")
    }
    assert (
        len(loaded.heads.layers) == ARCHITECTURES[name].mtp_layers == loaded.checkpoint.mtp_layers
    )
    assert held.keys() == expected.keys()
    assert [key for key in held if not torch.equal(held[key], expected[key])] == []


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_heads_share_embedding_and_head_with_the_model(name: str, published: Any) -> None:
    loaded, _ = published(name)
    assert loaded.heads.embed_tokens.weight is loaded.model.get_input_embeddings().weight
    assert loaded.heads.shared_head.weight is loaded.model.lm_head.weight


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_mtp_tensors_are_distinguished_from_the_models(name: str, published: Any) -> None:
    loaded, _ = published(name)
    tensors = loaded.checkpoint.tensors
    model_keys = [key for key in tensors if not loaded.checkpoint.is_mtp_tensor(key)]
    assert loaded.checkpoint.has_mtp_tensors
    assert sum(np.prod(tensors[key].shape) for key in model_keys) == sum(
        value.numel() for value in loaded.model.state_dict().values()
    )


@pytest.mark.parametrize("name", some([name for name in ARCHITECTURES if name not in STATEFUL], 2))
def test_replay_equals_greedy_generate_round_for_round(
    name: str, published: Any, serial_rounds: Rounds
) -> None:
    loaded, _ = published(name)
    assert loaded.heads  # loading announces the layers, which generate(use_mtp=True) needs
    texts, serial = [], []
    for prompt in prompts():
        serial_rounds.clear()
        texts.append(generate(loaded, prompt, use_mtp=True))
        serial.append(without_last_token(serial_rounds, len(texts[-1])))
    assert replayed_rounds(loaded, texts, ARCHITECTURES[name].mtp_layers) == serial
    assert_some_accepted_and_some_rejected(serial)


@pytest.mark.parametrize("name", ["deepseek_v3", "mellum", *STATEFUL])
def test_replay_equals_naive_serial_decoding_round_for_round(name: str, published: Any) -> None:
    loaded, _ = published(name)
    texts = [generate(loaded, prompt, use_mtp=False) for prompt in prompts()]
    serial = [
        naive_rounds(loaded, ids, prompt.shape[1])
        for ids, prompt in zip(texts, prompts(), strict=True)
    ]
    assert replayed_rounds(loaded, texts, ARCHITECTURES[name].mtp_layers) == serial
    assert_some_accepted_and_some_rejected(serial)


@pytest.mark.parametrize("name", STATEFUL)
def test_transformers_itself_decodes_no_drafts_with_linear_attention(
    name: str, published: Any
) -> None:
    """The day that this fails, move the architecture to the test against transformers' own
    rounds.
    """
    loaded, _ = published(name)
    assert loaded.heads
    with pytest.raises(ValueError, match="stateful"):
        generate(loaded, prompts()[0], use_mtp=True)


def test_one_checkpoint_in_several_files_loads_its_heads(published: Any, tmp_path: Path) -> None:
    loaded, expected = published("deepseek_v3")
    folder = shutil.copytree(loaded.checkpoint.folder, tmp_path / "sharded")
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(weights)
    parts = {
        "model-00001-of-00002.safetensors": names[::2],
        "model-00002-of-00002.safetensors": names[1::2],
    }
    for file, tensor_names in parts.items():
        save_file(
            {name: weights[name] for name in tensor_names}, folder / file, metadata={"format": "pt"}
        )
    index = {
        "metadata": {"total_size": 0},
        "weight_map": {name: file for file, tensor_names in parts.items() for name in tensor_names},
    }
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    held = load_model(str(folder), "cpu").heads.state_dict()
    assert [key for key in expected if not torch.equal(held[key], expected[key])] == []


def test_llama_heads_exported_by_hand_are_loaded(tmp_path: Path) -> None:
    folder = llama(tmp_path / "model", seed=5, mtp_layers=0)
    edit_config(folder, num_mtp_layers=2)
    model = load_model(str(folder), "cpu").model
    heads = MtpModel(model, 2)
    export_heads(heads, folder, 2)
    loaded = load_model(str(folder), "cpu").heads
    assert all(
        torch.equal(tensor, loaded.state_dict()[name])
        for name, tensor in heads.state_dict().items()
    )


def test_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"no checkpoint folder at .*; check the path"):
        load_model(str(tmp_path / "nowhere"))


def test_unreachable_hub_id_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(
        RequestError,
        match=r"'nobody/nothing' is not a folder here, and the model hub .*check the name",
    ):
        load_model("nobody/nothing")


def test_name_that_is_no_hub_id_is_refused() -> None:
    with pytest.raises(RequestError, match=r"is not a folder here.*check the name"):
        load_model("not/a/hub/id")


def test_pickled_weights_are_refused_unopened(tiny_target: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_target, tmp_path / "pickled")
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"no pickle at all")
    with pytest.raises(RequestError, match=r"pickled weights only.*model\.save_pretrained"):
        load_model(str(folder))


def test_model_without_a_tensor_is_refused(tiny_target: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_target, tmp_path / "partial")
    remove_tensors(folder, "model.layers.0.mlp")
    with pytest.raises(
        RequestError, match=r"lacks the weights model\.layers\.0\.mlp.*save the whole model"
    ):
        load_model(str(folder))


def test_heads_without_a_tensor_are_refused(tiny_target: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_target, tmp_path / "partial")
    remove_tensors(folder, "model.layers.3.eh_proj")
    loaded = load_model(str(folder))
    with pytest.raises(
        RequestError,
        match=r"cannot load MTP layers from .*layers\.1\.eh_proj\.weight.*check the checkpoint",
    ):
        _ = loaded.heads


def test_announced_heads_without_tensors_are_refused(tmp_path: Path) -> None:
    folder = edit_config(llama(tmp_path / "headless", seed=1, mtp_layers=0), num_mtp_layers=2)
    with pytest.raises(
        RequestError, match="announces 2 MTP layers and its safetensors hold none; save"
    ):
        _ = load_model(str(folder)).heads


def test_heads_that_no_config_announces_are_refused(tiny_target: Path, tmp_path: Path) -> None:
    folder = edit_config(shutil.copytree(tiny_target, tmp_path / "silent"), num_mtp_layers=None)
    with pytest.raises(RequestError, match="announces no MTP layers; add num_mtp_layers"):
        _ = load_model(str(folder)).heads


def test_mtp_layers_of_unknown_type_are_refused(tmp_path: Path) -> None:
    publish(ARCHITECTURES["exaone_moe"], tmp_path / "mixed", seed=1)
    folder = edit_config(tmp_path / "mixed", mtp_layer_types=None)
    with pytest.raises(
        RequestError, match=r"full_attention, sliding_attention.*add mtp_layer_types"
    ):
        _ = load_model(str(folder)).heads


def test_unknown_architecture_is_refused(tiny_target: Path, tmp_path: Path) -> None:
    folder = edit_config(
        shutil.copytree(tiny_target, tmp_path / "foreign"), model_type="no-such-model"
    )
    with pytest.raises(RequestError, match=r"transformers cannot load .*no-such-model"):
        load_model(str(folder))


def test_cuda_without_a_gpu_is_refused(tiny_target: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU, so cuda is a fair request")
    with pytest.raises(
        RequestError, match=r"torch sees no GPU; install .* or use --specdec-device=cpu"
    ):
        load_model(str(tiny_target), "cuda")


def remove_tensors(folder: Path, prefix: str) -> None:
    weights = load_file(folder / "model.safetensors")
    kept = {name: tensor for name, tensor in weights.items() if not name.startswith(prefix)}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})


def test_a_missing_tokenizer_is_refused(tiny_target: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(tiny_target, tmp_path / "wordless"))
    for path in copy.glob("tokenizer*"):
        path.unlink()
    with pytest.raises(
        RequestError, match=r"transformers finds no tokenizer in .*wordless .*; save it there, too"
    ):
        _ = load_model(str(copy), "cpu").tokenizer


def hub_kernels_forbidden(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever looks for code on the model hub, or opens a connection, fails the test."""

    def refuse(*arguments: Any, **options: Any) -> Any:
        raise AssertionError(f"looked for {arguments}")

    monkeypatch.setattr("transformers.integrations.hub_kernels.get_kernel", refuse)
    monkeypatch.setattr("transformers.modeling_utils.lazy_import_flash_attention", refuse)
    monkeypatch.setattr("socket.socket.connect", refuse)


KERNEL = "someone/kernel"


@pytest.mark.parametrize(
    ("fields", "used"),
    [
        ({"attn_implementation": KERNEL}, "sdpa"),
        ({"_attn_implementation": KERNEL}, "sdpa"),
        ({"_attn_implementation_internal": KERNEL}, "sdpa"),
        ({"attn_implementation": "kernels-community/flash-attn2"}, "sdpa"),
        ({"attn_implementation": "flash_attention_2"}, "sdpa"),
        ({"attn_implementation": "sdpa", "experts_implementation": "sonicmoe"}, "sdpa"),
        ({"use_kernels": True, "kernel_config": {"RMSNorm": f"{KERNEL}:Norm"}}, "sdpa"),
        ({"attn_implementation": "eager"}, "eager"),
    ],
)
def test_kernels_that_a_configuration_names_are_never_looked_for(
    tiny_target: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fields: dict[str, Any],
    used: str,
) -> None:
    hub_kernels_forbidden(monkeypatch)
    folder = edit_config(Path(shutil.copytree(tiny_target, tmp_path / "pinned")), **fields)
    model = load_model(str(folder), "cpu")
    assert model.model.config._attn_implementation == used
    assert model.heads
    ids = torch.arange(2, 20)[None]
    expected = load_model(str(tiny_target), "cpu").model(ids).logits
    torch.testing.assert_close(
        model.model(ids).logits, expected, rtol=0, atol=0 if used == "sdpa" else 1e-5
    )


def test_code_in_a_folder_is_never_run(
    tiny_target: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub_kernels_forbidden(monkeypatch)
    auto_map = {
        "AutoConfig": "own.Config",
        "AutoModelForCausalLM": "own.Model",
        "AutoTokenizer": ["own.Tokenizer", None],
    }
    folder = edit_config(Path(shutil.copytree(tiny_target, tmp_path / "own")), auto_map=auto_map)
    code = (
        f"open({str(tmp_path / 'ran')!r}, 'w').close()\ndef generate(model, *a, **k): raise "
        "SystemExit\n"
    )
    (folder / "own.py").write_text(code)
    (folder / "custom_generate").mkdir()
    (folder / "custom_generate" / "generate.py").write_text(code)
    tokenizer = json.loads((folder / "tokenizer_config.json").read_text()) | {"auto_map": auto_map}
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer))
    model = load_model(str(folder), "cpu")
    assert model.tokenizer("abc")["input_ids"]
    assert model.model.generate(torch.tensor([[0, 3]]), max_new_tokens=2).shape == (1, 4)
    edit_config(folder, model_type="own")
    with pytest.raises(RequestError, match=r"transformers cannot load .*check the checkpoint"):
        load_model(str(folder), "cpu")
    assert not (tmp_path / "ran").exists()


def test_a_folder_is_loaded_without_the_network(
    tiny_target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[dict[str, Any]] = []

    def loads(real: Any) -> Any:
        def spy(*arguments: Any, **options: Any) -> Any:
            seen.append(options)
            return real(*arguments, **options)

        return spy

    for name in ("AutoConfig", "AutoModelForCausalLM", "AutoTokenizer"):
        kind = getattr(transformers, name)
        monkeypatch.setattr(kind, "from_pretrained", loads(kind.from_pretrained))
    hub_kernels_forbidden(monkeypatch)
    assert load_model(str(tiny_target), "cpu").tokenizer
    assert len(seen) >= 3
    assert all(
        call_options["local_files_only"] and call_options["trust_remote_code"] is False
        for call_options in seen[:3]
    )


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"intermediate_size": 96},
            r"model\.layers\.0\.mlp\..*_proj\.weight has the shape .* and config\.json implies",
        ),
        ({"num_attention_heads": 3}, "cannot load"),
        ({"hidden_act": "no-such-function"}, "cannot load"),
        ({"rope_parameters": [1]}, "cannot load"),
    ],
)
def test_what_transformers_cannot_load_is_one_line(
    tiny_target: Path, tmp_path: Path, fields: dict[str, Any], message: str
) -> None:
    folder = edit_config(Path(shutil.copytree(tiny_target, tmp_path / "odd")), **fields)
    with pytest.raises(RequestError, match=message) as caught:
        load_model(str(folder), "cpu")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "content", ['{"tokenizer_class": "AutoModel"}', '{"tokenizer_class": 3}', "[" * 9_000, "[]"]
)
def test_a_strange_tokenizer_configuration_is_refused(
    tiny_target: Path, tmp_path: Path, content: str
) -> None:
    folder = Path(shutil.copytree(tiny_target, tmp_path / "odd"))
    (folder / "tokenizer_config.json").write_text(content)
    with pytest.raises(RequestError, match=r"tokenizer_config\.json.*; save the tokenizer again"):
        _ = load_model(str(folder), "cpu").tokenizer


@pytest.mark.parametrize("token", [-1, 32, 10**6])
def test_texts_with_tokens_that_a_model_does_not_have_are_refused(
    tiny_target: Path, token: int
) -> None:
    model = load_model(str(tiny_target), "cpu")
    texts = texts_from_ids([[0, 3, 4, 5, token, 7]], [2])
    with pytest.raises(
        RequestError, match=rf"a text holds the token {token} and .* knows 32 tokens; use texts"
    ):
        text_scores(model, [DrafterPlan(OWN_HEADS, 1, 2)], texts, Sampling(1.0))
