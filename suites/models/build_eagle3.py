"""Train the embedded EAGLE-3 heads, and the deep target of three of them.

    python suites/models/build_eagle3.py                      # all of them, about 40 minutes
    python suites/models/build_eagle3.py --only text-eagle3   # one of them, about 10 minutes

`text-eagle3` drafts for `text-target`. `deep-target` has eight layers, and its heads differ in all
that a loader can read wrongly: packaging, how layers are numbered, norms, draft vocabulary. Each
trains on one thread, so the same seed, Python and torch give the same weights on any number of
cores. A training that was stopped goes on where it was last saved.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import itertools
import json
import shutil
from pathlib import Path
from typing import Any

import torch
from build import CONTEXT, HELD_OUT, HERE, SEED, Recipe, batches, encode, save, train
from corpus import documents
from eagle3_training import (
    Eagle3Training,
    HeadRecipe,
    drafted_tokens,
    target_rows,
    write_new_head,
)
from transformers import PreTrainedTokenizerFast

from pytest_specdec import replay
from pytest_specdec.decoding.decode import decode
from pytest_specdec.decoding.loading import LoadedModel, load_model

LENGTH = 144
"""Tokens of a training row: a prompt from the corpus and what the target writes after it."""
PROMPT = 16
ROWS = {1.0: 3000, 0.0: 1000}
"""Training rows by the temperature of the target."""
TEXTS = 128
"""Held-out texts that acceptance is measured on."""
STATES = "eagle_aux_hidden_state_layer_ids"
DEEP_TARGET = Recipe("deep-target", hidden=64, layers=8, heads=2, steps=1500, head_steps=())


@dataclasses.dataclass(frozen=True, kw_only=True)
class Head:
    """One head: for whom, of what shape, in which packaging, and its training."""

    name: str
    target: str
    drafted: int
    """Tokens that it can draft."""
    heads: int
    kv_heads: int
    mlp: int
    config: dict[str, Any]
    """The fields of config.json beside the layer's."""
    training: HeadRecipe


HEADS = (
    Head(
        name="text-eagle3",
        target="text-target",
        drafted=512,
        heads=4,
        kv_heads=4,
        mlp=320,
        config={"architectures": ["LlamaForCausalLM"], STATES: [1, 2, 3]},
        training=HeadRecipe(steps=1000, seed=SEED),
    ),
    Head(
        name="deep-eagle3",
        target="deep-target",
        drafted=512,
        heads=4,
        kv_heads=2,
        mlp=160,
        config={"architectures": ["LlamaForCausalLM"], "norm_before_residual": False},
        training=HeadRecipe(steps=1000, seed=SEED + 1),
    ),
    Head(
        name="deep-eagle31",
        target="deep-target",
        drafted=1024,
        heads=4,
        kv_heads=2,
        mlp=160,
        config={
            "architectures": ["LlamaForCausalLMEagle3"],
            "fc_norm": True,
            "norm_output": True,
            "eagle_config": {STATES: [1, 4, 6], "use_aux_hidden_state": True},
        },
        training=HeadRecipe(steps=1000, seed=SEED + 2),
    ),
    Head(
        name="deep-speculators",
        target="deep-target",
        drafted=384,
        heads=4,
        kv_heads=2,
        mlp=160,
        config={
            "architectures": ["Eagle3Speculator"],
            "speculators_model_type": "eagle3",
            "speculators_config": {
                "algorithm": "eagle3",
                "default_proposal_method": "greedy",
                "proposal_methods": [{"proposal_type": "greedy", "speculative_tokens": 5}],
                "verifier": {"name_or_path": None, "architectures": ["LlamaForCausalLM"]},
            },
            "norm_before_fc": True,
            "norm_before_residual": True,
            STATES: [2, 5, 7],
        },
        training=HeadRecipe(steps=1000, seed=SEED + 3),
    ),
)


def build_target(output: Path, scale: float) -> None:
    """Train the deep target on the text pair's corpus, with its tokenizer."""
    recipe = dataclasses.replace(DEEP_TARGET, steps=scaled(DEEP_TARGET.steps, scale))
    tokenizer = PreTrainedTokenizerFast.from_pretrained(HERE / "text-target")
    stream, held_out = corpus(tokenizer)
    rows = held_out[: 48 * recipe.length].view(-1, recipe.length)
    model, heads, losses = train(recipe, lambda: batches(stream, recipe), rows)
    save(recipe, model, heads, losses, tokenizer, output)


def scaled(count: int, scale: float) -> int:
    """A share of a count, and at least a few."""
    return max(4, int(count * scale))


@functools.cache
def _texts() -> list[str]:
    return documents(SEED)


def corpus(tokenizer: PreTrainedTokenizerFast) -> tuple[torch.Tensor, torch.Tensor]:
    """The tokens to train on, and those held out."""
    texts = _texts()
    return encode(tokenizer, texts[HELD_OUT:]), encode(tokenizer, texts[:HELD_OUT])


def prompts(stream: torch.Tensor, count: int, seed: int) -> list[list[int]]:
    """`<s>` and pieces of the stream."""
    generator = torch.Generator().manual_seed(seed)
    starts = torch.randint(len(stream) - PROMPT, (count,), generator=generator).tolist()
    return [[0, *stream[start : start + PROMPT - 1].tolist()] for start in starts]


def training_rows(
    target: LoadedModel, stream: torch.Tensor, scale: float, kept: Path
) -> torch.Tensor:
    """What the target writes after pieces of the corpus."""
    name = target.checkpoint.folder.name
    return torch.cat(
        [
            target_rows(
                target,
                prompts(stream, scaled(count, scale), SEED + index),
                length=LENGTH,
                temperature=temperature,
                seed=SEED,
                kept=kept / f"{name}-{temperature:g}-{scale:g}.safetensors",
            )
            for index, (temperature, count) in enumerate(ROWS.items())
        ]
    )


def build_head(head: Head, output: Path, scale: float, kept: Path) -> None:
    """Train one head and write its folder."""
    source = output if (output / head.target).is_dir() else HERE
    target = load_model(str(source / head.target), "cpu")
    stream, held_out = corpus(target.tokenizer)
    rows = training_rows(target, stream, scale, kept)
    recipe = dataclasses.replace(head.training, steps=scaled(head.training.steps, scale))
    folder = output / head.name
    shutil.rmtree(folder, ignore_errors=True)
    drafted = drafted_tokens(rows, target.model.config.vocab_size, head.drafted)
    write_new_head(folder, config_of(head, target), target, drafted, recipe.seed)
    print(f"{head.name}: {len(rows)} rows of {rows.shape[1]} tokens", flush=True)
    training = Eagle3Training(target, folder, rows, recipe)
    windows = held_out[: 32 * LENGTH].view(-1, LENGTH)
    training.run(
        kept / f"{head.name}-{scale:g}.safetensors",
        windows,
        show=functools.partial(print, flush=True),
    )
    target.tokenizer.save_pretrained(folder)
    card = {
        "recipe": dataclasses.asdict(recipe),
        "target": head.target,
        "held_out_conditional_acceptance": acceptance(
            target, folder, prompts(held_out, scaled(TEXTS, scale), SEED)
        ),
    }
    (folder / "training.json").write_text(json.dumps(card, indent=2, sort_keys=True) + "\n")


def config_of(head: Head, target: LoadedModel) -> dict[str, Any]:
    """config.json in the packaging that the head's own fields imply."""
    width = target.model.config.hidden_size
    layer = {
        "model_type": "llama",
        "hidden_size": width,
        "intermediate_size": head.mlp,
        "num_hidden_layers": 1,
        "num_attention_heads": head.heads,
        "num_key_value_heads": head.kv_heads,
        "head_dim": width // head.heads,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
        "max_position_embeddings": CONTEXT,
        "vocab_size": target.model.config.vocab_size,
        "attention_bias": False,
        "tie_word_embeddings": False,
        "bos_token_id": 0,
        "eos_token_id": 1,
        "dtype": "bfloat16",
    }
    own = {"draft_vocab_size": head.drafted, **head.config}
    if "speculators_config" in head.config:
        return {**own, "transformer_layer_config": layer, "target_hidden_size": None}
    return {**layer, **own}


def acceptance(
    target: LoadedModel, folder: Path, held_out: list[list[int]], k: int = 6
) -> dict[str, list[float]]:
    """By temperature: the share of drafts accepted at each position of those whose earlier drafts
    are, on texts that the target writes after the held-out prompts.
    """
    found = {}
    for temperature in (0.0, 1.0):
        texts = decode(
            target,
            None,
            held_out,
            k=0,
            temperature=temperature,
            new_tokens=128,
            batch_size=TEXTS,
            seed=1,
        ).texts
        counts = replay(target, str(folder), texts, k=k, temperature=temperature)
        accepted = [counts.total_rounds, *counts.accepted.sum(0).tolist()]
        found[f"temperature {temperature:g}"] = [
            round(later / max(earlier, 1e-9), 4) for earlier, later in itertools.pairwise(accepted)
        ]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = [DEEP_TARGET.name, *(head.name for head in HEADS)]
    parser.add_argument("--only", choices=names, nargs="+", default=names)
    parser.add_argument(
        "--output", type=Path, default=HERE, help="folder of the checkpoint folders (default: here)"
    )
    parser.add_argument(
        "--kept", type=Path, default=HERE / ".eagle3", help="folder of unfinished trainings"
    )
    parser.add_argument(
        "--scale", type=float, default=1.0, help="fraction of the training, for a trial"
    )
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if DEEP_TARGET.name in arguments.only:
        build_target(arguments.output, arguments.scale)
    for head in HEADS:
        if head.name in arguments.only:
            build_head(head, arguments.output, arguments.scale, arguments.kept)


if __name__ == "__main__":
    main()
