"""Train the embedded DFlash drafter of the text target.

    python suites/models/build_blocks.py    # about 15 minutes

It trains on one thread, so the same seed, Python and torch give the same weights on any number of
cores. A training that was stopped goes on where it was last saved.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import shutil
from pathlib import Path
from typing import Any

import torch
from block_training import BlockRecipe, BlockTraining, write_new_block
from build import CONTEXT, HERE, SEED
from build_eagle3 import LENGTH, TEXTS, acceptance, corpus, prompts, scaled
from eagle3_training import target_rows

from pytest_specdec.decoding.loading import LoadedModel, load_model

NAME, TARGET = "text-dflash", "text-target"
ROWS = {1.0: 1500, 0.0: 500}
"""Training rows by the temperature of the target."""
BLOCK = 8
"""Rows of a block: the newest token and seven masks."""
LAYERS = 2
RECIPE = BlockRecipe(steps=700, seed=SEED)


def build(output: Path, scale: float, kept: Path) -> None:
    """Train the drafter and write its folder."""
    target = load_model(str(HERE / TARGET), "cpu")
    stream, held_out = corpus(target.tokenizer)
    rows = torch.cat(
        [
            target_rows(
                target,
                prompts(stream, scaled(count, scale), SEED + index),
                length=LENGTH,
                temperature=temperature,
                seed=SEED,
                kept=kept / f"block-rows-{temperature:g}-{scale:g}.safetensors",
            )
            for index, (temperature, count) in enumerate(ROWS.items())
        ]
    )
    recipe = dataclasses.replace(RECIPE, steps=scaled(RECIPE.steps, scale))
    folder = output / NAME
    shutil.rmtree(folder, ignore_errors=True)
    write_new_block(folder, config_of(target, rows), target, recipe.seed)
    print(f"{NAME}: {len(rows)} rows of {rows.shape[1]} tokens", flush=True)
    windows = held_out[: 32 * LENGTH].view(-1, LENGTH)
    training = BlockTraining(target, folder, rows, recipe)
    training.run(
        kept / f"{NAME}-{scale:g}.safetensors",
        windows,
        every=50,
        show=functools.partial(print, flush=True),
    )
    target.tokenizer.save_pretrained(folder)
    card = {
        "recipe": dataclasses.asdict(recipe),
        "target": TARGET,
        "held_out_conditional_acceptance": acceptance(
            target, folder, prompts(held_out, scaled(TEXTS, scale), SEED), k=BLOCK - 1
        ),
    }
    (folder / "training.json").write_text(json.dumps(card, indent=2, sort_keys=True) + "\n")


def config_of(target: LoadedModel, rows: torch.Tensor) -> dict[str, Any]:
    """config.json as z-lab writes it. The mask is the last of the tokens that are rarest in the
    rows, as others use one that their tokenizers reserve.
    """
    config = target.model.config
    counts = torch.bincount(rows.flatten(), minlength=config.vocab_size)
    mask = int((counts == counts.min()).nonzero().max())
    return {
        "architectures": ["DFlashDraftModel"],
        "model_type": "qwen3",
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": config.num_attention_heads,
        "num_key_value_heads": config.num_attention_heads,
        "head_dim": config.hidden_size // config.num_attention_heads,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
        "max_position_embeddings": CONTEXT,
        "vocab_size": config.vocab_size,
        "attention_bias": False,
        "layer_types": ["full_attention"] * LAYERS,
        "num_target_layers": config.num_hidden_layers,
        "block_size": BLOCK,
        "dflash_config": {"mask_token_id": mask, "target_layer_ids": [0, 1, 2]},
        "bos_token_id": 0,
        "eos_token_id": 1,
        "dtype": "bfloat16",
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--output", type=Path, default=HERE, help="folder of the checkpoint folder (default: here)"
    )
    parser.add_argument(
        "--kept", type=Path, default=HERE / ".eagle3", help="folder of an unfinished training"
    )
    parser.add_argument(
        "--scale", type=float, default=1.0, help="fraction of the training, for a trial"
    )
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    build(arguments.output, arguments.scale, arguments.kept)


if __name__ == "__main__":
    main()
