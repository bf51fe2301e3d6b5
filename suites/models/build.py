"""Train the embedded text pair and write it as transformers checkpoints.

    python suites/models/build.py            # both models, about 20 minutes on 2 cores
    python suites/models/build.py --only draft

The target has three MTP layers, the draft model three of its own. Each model trains in a process
and thread of its own, so the same seed, Python and torch give the same weights on any number of
cores.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import multiprocessing
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from corpus import documents
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch.nn.functional import cross_entropy
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from transformers.modeling_layers import MtpModel

from pytest_specdec.decoding.mtp_forward import checkpoint_tensors, teacher_forced_hidden

HERE = Path(__file__).parent
SEED = 20261122
VOCABULARY = 1024
CONTEXT = 512
MTP_LAYERS = 3
HELD_OUT = 200


@dataclasses.dataclass(frozen=True)
class Recipe:
    """One model's shape and training."""

    name: str
    hidden: int
    layers: int
    heads: int
    steps: int
    head_steps: tuple[int, ...]
    """Training steps of each MTP layer, on the finished model: later layers learn less, as in the
    field.
    """
    batch: int = 16
    length: int = 160
    rate: float = 3e-3
    vocabulary: int = VOCABULARY
    settle_steps: int = 0
    """Steps of a second training on speech that is new to the model (audio target only)."""


RECIPES = (
    Recipe("text-target", hidden=128, layers=4, heads=4, steps=2400, head_steps=(800, 280, 130)),
    Recipe("text-draft", hidden=64, layers=1, heads=2, steps=3000, head_steps=(500, 400, 300)),
)


def train_tokenizer(texts: list[str]) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 0)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", model_max_length=CONTEXT
    )


def encode(tokenizer: PreTrainedTokenizerFast, texts: list[str]) -> torch.Tensor:
    encoded = tokenizer(texts, add_special_tokens=False)["input_ids"]
    return torch.tensor([token for ids in encoded for token in (0, *ids, 1)])


def new_model(recipe: Recipe) -> tuple[LlamaForCausalLM, MtpModel | None]:
    """A model, and its MTP layers where the recipe trains some."""
    config = LlamaConfig(
        vocab_size=recipe.vocabulary,
        hidden_size=recipe.hidden,
        intermediate_size=recipe.hidden * 8 // 3 // 32 * 32,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        num_key_value_heads=recipe.heads,
        max_position_embeddings=CONTEXT,
        bos_token_id=0,
        eos_token_id=1,
        tie_word_embeddings=True,
    )
    layers = len(recipe.head_steps)
    if layers:
        config.num_mtp_layers = layers
    model = LlamaForCausalLM(config)
    return model, MtpModel(model, layers) if layers else None


def loss_of(model: LlamaForCausalLM, hidden: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of `targets` (rows, length) under the head's logits at the same positions."""
    return cross_entropy(model.lm_head(hidden).flatten(0, 1), targets.flatten())


def own_loss(model: LlamaForCausalLM, ids: torch.Tensor) -> torch.Tensor:
    return loss_of(model, model.model(ids).last_hidden_state[:, :-1], ids[:, 1:])


def head_losses(model: LlamaForCausalLM, heads: MtpModel, ids: torch.Tensor) -> list[torch.Tensor]:
    """Each MTP layer's loss; the model itself gets no gradient."""
    with torch.no_grad():
        hidden = model.model(ids).last_hidden_state
    states = teacher_forced_hidden(heads, ids, hidden)
    return [
        loss_of(model, state[:, :-1], ids[:, index + 2 :]) for index, state in enumerate(states)
    ]


def batches(stream: torch.Tensor, recipe: Recipe) -> Iterator[torch.Tensor]:
    """Endless seeded batches (rows, length) cut from the token stream."""
    generator = torch.Generator().manual_seed(SEED)
    while True:
        starts = torch.randint(0, len(stream) - recipe.length, (recipe.batch,), generator=generator)
        yield torch.stack([stream[start : start + recipe.length] for start in starts])


def optimize(
    recipe: Recipe,
    parameters: list[torch.nn.Parameter],
    steps: int,
    losses: Callable[[torch.Tensor, int], list[torch.Tensor]],
    rows: Iterator[torch.Tensor],
    label: str,
) -> None:
    """AdamW on the sum of `losses(batch, step)` with a one-cycle rate, over batches of `rows`."""
    optimizer = torch.optim.AdamW(parameters, lr=recipe.rate, betas=(0.9, 0.95), weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.rate, steps, pct_start=0.08)
    started = time.monotonic()
    for step, ids in zip(range(steps), rows, strict=False):
        parts = losses(ids, step)
        optimizer.zero_grad()
        torch.stack(parts).sum().backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        if step % 50 == 0 or step == steps - 1:
            shown = [round(part.item(), 3) for part in parts]
            print(
                f"{label} step {step}/{steps} {shown} {time.monotonic() - started:.0f} s",
                flush=True,
            )


def train_heads(
    recipe: Recipe, model: LlamaForCausalLM, heads: MtpModel, rows: Iterator[torch.Tensor]
) -> None:
    """Each MTP layer learns from its first step to the last of its `head_steps`, then rests."""

    def losses(ids: torch.Tensor, step: int) -> list[torch.Tensor]:
        parts = head_losses(model, heads, ids)
        return [
            part
            for part, own_steps in zip(parts, recipe.head_steps, strict=True)
            if step < own_steps
        ]

    model.requires_grad_(False)
    optimize(
        recipe,
        list(heads.layers.parameters()),
        max(recipe.head_steps),
        losses,
        rows,
        f"{recipe.name} MTP layers",
    )


def train(
    recipe: Recipe, rows: Callable[[], Iterator[torch.Tensor]], held_out: torch.Tensor
) -> tuple[LlamaForCausalLM, MtpModel | None, list[float]]:
    """Train on batches of `rows()`; the losses are those on `held_out` (rows, length)."""
    torch.manual_seed(SEED)
    model, heads = new_model(recipe)
    optimize(
        recipe,
        list(model.parameters()),
        recipe.steps,
        lambda ids, _: [own_loss(model, ids)],
        rows(),
        recipe.name,
    )
    if heads is not None:
        train_heads(recipe, model, heads, rows())
        heads.eval()
    model.eval()
    with torch.no_grad():
        final = [
            own_loss(model, held_out),
            *([] if heads is None else head_losses(model, heads, held_out)),
        ]
    return model, heads, [round(loss.item(), 4) for loss in final]


def export(model: LlamaForCausalLM, heads: MtpModel | None, folder: Path) -> None:
    """Write config, weights and MTP layers (as decoder layers past the last) into `folder`."""
    shutil.rmtree(folder, ignore_errors=True)
    # No EOS: documents follow one another, so every text has its full length.
    model.generation_config = GenerationConfig(bos_token_id=0, pad_token_id=1)
    model.save_pretrained(folder)
    if heads is not None:
        weights = load_file(folder / "model.safetensors") | checkpoint_tensors(
            heads, model.config.num_hidden_layers
        )
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def build(recipe: Recipe, output: Path) -> None:
    """Train one model and write its folder."""
    torch.set_num_threads(1)
    texts = documents(SEED)
    tokenizer = train_tokenizer(texts[HELD_OUT:])
    stream, held_out = encode(tokenizer, texts[HELD_OUT:]), encode(tokenizer, texts[:HELD_OUT])
    print(f"{recipe.name}: {len(texts)} documents, {len(stream)} tokens", flush=True)
    rows = held_out[: 48 * recipe.length].view(-1, recipe.length)
    save(recipe, *train(recipe, lambda: batches(stream, recipe), rows), tokenizer, output)


def save(
    recipe: Recipe,
    model: LlamaForCausalLM,
    heads: MtpModel | None,
    final: list[float],
    tokenizer: PreTrainedTokenizerFast,
    output: Path,
) -> None:
    """Write a trained model's folder: checkpoint, tokenizer, and how it was trained."""
    folder = output / recipe.name
    export(model, heads, folder)
    tokenizer.save_pretrained(folder)
    card = {"recipe": dataclasses.asdict(recipe), "seed": SEED, "held_out_cross_entropy": final}
    (folder / "training.json").write_text(json.dumps(card, indent=2, sort_keys=True) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=[recipe.name.split("-")[1] for recipe in RECIPES])
    parser.add_argument(
        "--output", type=Path, default=HERE, help="folder of the checkpoint folders (default: here)"
    )
    parser.add_argument(
        "--scale", type=float, default=1.0, help="fraction of the training steps, for a trial"
    )
    arguments = parser.parse_args()
    chosen = [
        recipe for recipe in RECIPES if not arguments.only or recipe.name.endswith(arguments.only)
    ]
    side_by_side(build, [(scaled(recipe, arguments.scale), arguments.output) for recipe in chosen])


def scaled(recipe: Recipe, share: float) -> Recipe:
    """The recipe with a share of its training steps."""
    steps, settle_steps, *head_steps = (
        max(2, int(count * share)) if count else 0
        for count in (recipe.steps, recipe.settle_steps, *recipe.head_steps)
    )
    return dataclasses.replace(
        recipe, steps=steps, settle_steps=settle_steps, head_steps=tuple(head_steps)
    )


def side_by_side(function: Callable[..., None], calls: list[tuple[object, ...]]) -> None:
    """Run each of several calls in a process of its own. Exits where one fails."""
    if len(calls) == 1:
        function(*calls[0])
        return
    workers = [
        multiprocessing.get_context("spawn").Process(target=function, args=call) for call in calls
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    if any(worker.exitcode for worker in workers):
        raise SystemExit("training failed; its message stands above")


if __name__ == "__main__":
    main()
