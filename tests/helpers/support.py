"""Small real checkpoints for the tests: random weights, transformers' own layout, saved and loaded
from disk.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from transformers.modeling_layers import MtpModel

from pytest_specdec.decoding.mtp_forward import checkpoint_tensors

LETTERS = "abcdefghijklmnopqrstuvwxyz .,"
ROOT = Path(__file__).parents[2]
EMBEDDED = ROOT / "suites" / "models"


def letter_tokenizer(first: str = "") -> PreTrainedTokenizerFast:
    """One token a letter, `<s>` in front; `first` moves some letters to the front of the
    numbering.
    """
    letters = first + "".join(letter for letter in LETTERS if letter not in first)
    vocabulary = {"<s>": 0, "</s>": 1, **{letter: index for index, letter in enumerate(letters, 2)}}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="</s>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 0)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="</s>"
    )


def export_heads(heads: MtpModel, folder: Path, layers: int) -> None:
    """Add MTP layers to a saved checkpoint as decoder layers past the last."""
    weights = load_file(folder / "model.safetensors") | checkpoint_tensors(heads, layers)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def llama(
    folder: Path,
    *,
    seed: int,
    mtp_layers: int = 2,
    width: int = 32,
    layers: int = 2,
    vocabulary: int = 32,
    context: int = 128,
    spread: float = 0.2,
) -> Path:
    """A tiny Llama with MTP layers and a letter tokenizer, saved to `folder`; `spread` is the
    deviation of its weights.
    """
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=layers,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=context,
        bos_token_id=0,
        eos_token_id=None,
        tie_word_embeddings=True,
        initializer_range=spread,
    )
    if mtp_layers:
        config.num_mtp_layers = mtp_layers
    model = LlamaForCausalLM(config)
    model.generation_config = GenerationConfig(bos_token_id=0, pad_token_id=1)
    model.save_pretrained(folder)
    if mtp_layers:
        export_heads(MtpModel(model, mtp_layers), folder, layers)
    letter_tokenizer().save_pretrained(folder)
    return folder


def add_noise(source: Path, folder: Path, share: float, *, seed: int = 0, only: str = "") -> Path:
    """A copy of a checkpoint with Gaussian noise of `share` of each tensor's standard deviation on
    its weights.
    """
    shutil.copytree(source, folder)
    generator = torch.Generator().manual_seed(seed)
    weights = load_file(folder / "model.safetensors")
    for name, tensor in weights.items():
        if only in name and tensor.numel() > 1:
            noise = torch.randn(tensor.shape, generator=generator)
            weights[name] = tensor + share * tensor.std() * noise
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def edit_config(folder: Path, **values: Any) -> Path:
    """Change fields of a checkpoint's config.json; None removes one."""
    path = folder / "config.json"
    config = {**json.loads(path.read_text()), **values}
    path.write_text(
        json.dumps({name: value for name, value in config.items() if value is not None})
    )
    return folder
