"""Make the embedded audio pair: speech, codec, token streams, a target and a draft model with three
MTP layers, prompts.

    python suites/models/build_audio.py            # all of it, about 45 minutes on 2 cores
    python suites/models/build_audio.py --only draft

The target learns speech, the draft model learns the target (`distil_audio.py`). Speech is
synthesised from seeded sentences (`sentences.py`, `speech.py`) and encoded (`codec.py`). A text of
the models is `<s>` and then steps of 40 ms: a text token, the letter that begins there or `~` for
none, and an audio token.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import multiprocessing
import random
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from build import HERE, SEED, Recipe, optimize, own_loss, save, scaled, train
from codec import (
    CODES,
    FIRST_AUDIO,
    GOING_ON,
    RATE,
    SYMBOLS,
    TOKEN_SAMPLES,
    encode,
    features,
    save_codebook,
    train_codebook,
)
from distil_audio import LONGEST, SHORTEST, Distillation, DraftRecipe, Lessons, sampled_rows
from roundtrip import round_trip
from sentences import CATEGORIES, monologue
from speech import Speaker, Utterance, synthesise
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from pytest_specdec.decoding.loading import LoadedModel, load_model

STEPS = 128
"""Steps of 40 ms in a training row."""
CHUNK_MINUTES, CHUNKS, NEW_CHUNKS = 15.0, 12, 16
"""Training speech comes in pieces, so that any number of cores makes the same: three hours, four
for the second training.
"""
SETTLE_RATE, SLIP_WEIGHT = 1e-3, 10.0
PROMPTS, HELD_OUT_UTTERANCES = 1000, 20

TARGET = Recipe(
    "audio-target",
    160,
    4,
    5,
    2200,
    (),
    settle_steps=400,
    batch=12,
    length=1 + 2 * STEPS,
    vocabulary=FIRST_AUDIO + CODES,
)


def talk(seed: int, minutes: float) -> Iterator[Utterance]:
    """Seeded utterances of at least so many minutes together: two to four sentences of one kind by
    one speaker each.
    """
    rng = random.Random(seed)
    seconds = 0.0
    while seconds < 60 * minutes:
        speaker = Speaker.random(rng)
        spoken = synthesise(monologue(rng.choice(CATEGORIES), rng.randint(2, 4), rng), speaker, rng)
        seconds += len(spoken.samples) / RATE
        yield spoken


def text_steps(utterance: Utterance) -> list[int]:
    """The text token of each step: the letter that begins within it, the next in the queue where
    two do, or `~`.
    """
    symbols = [SYMBOLS.index(GOING_ON)] * (len(utterance.samples) // TOKEN_SAMPLES)
    step = 0
    for letter, start in zip(utterance.text, utterance.starts, strict=True):
        step = max(step, int(start * RATE / TOKEN_SAMPLES))
        if step < len(symbols):
            symbols[step] = SYMBOLS.index(letter)
        step += 1
    return symbols


def stream_of(utterance: Utterance) -> np.ndarray:
    """(2 * steps,) ids: text and audio token in turn."""
    audio = encode(utterance.samples) + FIRST_AUDIO
    return np.stack([np.array(text_steps(utterance)[: len(audio)]), audio], axis=1).ravel()


def streams(seed: int, minutes: float) -> np.ndarray:
    return np.concatenate([stream_of(utterance) for utterance in talk(seed, minutes)])


def build_codec() -> None:
    """Train the codebook on 15 minutes of speech and measure the round trip on others."""
    torch.set_num_threads(1)
    book = train_codebook(
        np.concatenate([features(spoken.samples) for spoken in talk(SEED, 15)]), SEED
    )
    card = {"seed": SEED, "codes": CODES, "rate": RATE, "samples_per_token": TOKEN_SAMPLES}
    save_codebook(book, card)
    save_codebook(
        book, card | {"round_trip": round_trip([spoken.samples for spoken in talk(SEED + 1, 5)])}
    )
    print("codec done", flush=True)


def new_tokenizer() -> PreTrainedTokenizerFast:
    """Single characters and `<a0>` to `<a255>`, with `<s>` before every text."""
    vocabulary = {symbol: at for at, symbol in enumerate(SYMBOLS)} | {
        f"<a{code}>": FIRST_AUDIO + code for code in range(CODES)
    }
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="</s>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"<a\d+>|."), "isolated")
    tokenizer.decoder = decoders.Fuse()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 0)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        model_max_length=512,
        clean_up_tokenization_spaces=False,
    )


def rows_of(stream: torch.Tensor, recipe: Recipe) -> Iterator[torch.Tensor]:
    """Endless seeded batches (rows, 1 + 2 * STEPS): `<s>` and a stretch of the stream that begins
    with a step.
    """
    generator = torch.Generator().manual_seed(SEED)
    begin = torch.zeros(1, dtype=torch.long)
    while True:
        starts = 2 * torch.randint(
            0, (len(stream) - recipe.length) // 2, (recipe.batch,), generator=generator
        )
        yield torch.stack(
            [torch.cat([begin, stream[start : start + recipe.length - 1]]) for start in starts]
        )


def settle_losses(model: LlamaForCausalLM, ids: torch.Tensor) -> list[torch.Tensor]:
    """The cross-entropy, and that of what kind of token comes next: a text of 128 tokens must not
    slip from the pattern.
    """
    scores = model(ids).logits[:, :-1].log_softmax(-1)
    following = ids[:, 1:, None]
    kinds = torch.stack(
        [scores[..., 2:FIRST_AUDIO].logsumexp(-1), scores[..., FIRST_AUDIO:].logsumexp(-1)], dim=-1
    )
    slips = -kinds.gather(-1, (following >= FIRST_AUDIO).long()).mean()
    return [-scores.gather(-1, following).mean(), SLIP_WEIGHT * slips]


def settle(
    recipe: Recipe, model: LlamaForCausalLM, stream: torch.Tensor, rows: torch.Tensor
) -> list[float]:
    """Train once more, on new speech: what was learnt by heart fades. Returns the loss on `rows`
    (rows, length).
    """
    gentle = dataclasses.replace(recipe, rate=SETTLE_RATE)
    parameters = list(model.train().parameters())
    label = f"{recipe.name} settles"
    optimize(
        gentle,
        parameters,
        recipe.settle_steps,
        lambda ids, _: settle_losses(model, ids),
        rows_of(stream, recipe),
        label,
    )
    model.eval()
    with torch.no_grad():
        return [round(own_loss(model, rows).item(), 4)]


def build_target(output: Path, share: float) -> None:
    """Make the training speech and train the target on it."""
    torch.set_num_threads(1)
    recipe = scaled(TARGET, share)
    per_chunk = max(0.5, CHUNK_MINUTES * share)
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        made = pool.starmap(
            streams, [(SEED + 10 + chunk, per_chunk) for chunk in range(CHUNKS + NEW_CHUNKS)]
        )
    stream, new = (torch.tensor(np.concatenate(part)) for part in (made[:CHUNKS], made[CHUNKS:]))
    held_out = torch.tensor(streams(SEED + 2, 3))
    print(f"{(len(stream) + len(new)) // 2} steps of training speech", flush=True)
    rows = next(rows_of(held_out, recipe))
    model, heads, _ = train(recipe, lambda: rows_of(stream, recipe), rows)
    final = settle(recipe, model, new, rows)
    save(recipe, model, heads, final, new_tokenizer(), output)


def contexts(seed: int, count: int, cuts: int) -> list[list[int]]:
    """Contexts as the prompts are, of other speech: several of each of `count` utterances."""
    rng = random.Random(seed)
    made = []
    for number in range(count):
        kind = CATEGORIES[number % len(CATEGORIES)]
        ids = stream_of(synthesise(monologue(kind, 1, rng), Speaker.random(rng), rng)).tolist()
        made += [[0, *ids[: 2 * rng.randint(SHORTEST, LONGEST)]] for _ in range(cuts)]
    return made


def lessons_of(target: LoadedModel, seed: int, count: int, cuts: int, kept: Path) -> Lessons:
    """What the target says after contexts of `count` utterances, kept in a folder."""
    name = f"{target.checkpoint.model_fingerprint}-{seed}-{count}-{cuts}.safetensors"
    rows = sampled_rows(target, lambda: contexts(seed, count, cuts), seed, kept / name)
    return Lessons.of(target, *rows)


def build_draft(recipe: DraftRecipe, output: Path, kept: Path, share: float) -> None:
    """Distil the draft model from the target in the folder `output`."""
    torch.set_num_threads(1)
    target = load_model(str(output / TARGET.name), "cpu")
    recipe = dataclasses.replace(
        recipe,
        steps=max(2, int(recipe.steps * share)),
        schedule=max(2, int(recipe.schedule * share)),
        utterances=max(2, int(recipe.utterances * share)),
    )
    lessons, held_out = (
        lessons_of(target, seed, count, recipe.cuts, kept)
        for seed, count in ((SEED + 108, recipe.utterances), (SEED + 109, HELD_OUT_UTTERANCES))
    )
    training = Distillation(target, recipe, lessons, kept / f"{recipe.name}.safetensors")
    training.run(held_out)
    folder = output / recipe.name
    overlaps = training.save(folder, held_out)
    new_tokenizer().save_pretrained(folder)
    card = {
        "recipe": dataclasses.asdict(recipe),
        "distilled_from": TARGET.name,
        "held_out_overlap": [round(overlap, 4) for overlap in overlaps],
    }
    (folder / "training.json").write_text(json.dumps(card, indent=2, sort_keys=True) + "\n")


def write_prompts(path: Path) -> None:
    """Contexts of 12 to 24 steps from speech that nobody was trained on, kinds in turn."""
    tokenizer, rng = new_tokenizer(), random.Random(SEED + 3)
    names = tokenizer.convert_ids_to_tokens(range(FIRST_AUDIO + CODES))
    lines: dict[str, None] = {}
    while len(lines) < PROMPTS:
        kind = CATEGORIES[len(lines) % len(CATEGORIES)]
        ids = stream_of(synthesise(monologue(kind, 1, rng), Speaker.random(rng), rng))[
            : 2 * rng.randint(SHORTEST, LONGEST)
        ]
        lines[json.dumps({"category": kind, "prompt": "".join(names[token] for token in ids)})] = (
            None
        )
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join(lines) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=("codec", "prompts", "target", "draft"))
    parser.add_argument(
        "--output", type=Path, default=HERE, help="folder of the models' folders (default: here)"
    )
    parser.add_argument(
        "--kept", type=Path, default=HERE / ".audio", help="folder of the unfinished distillation"
    )
    parser.add_argument(
        "--scale",
        type=float,
        default=1.0,
        help="fraction of speech and training steps, for a trial",
    )
    asked = parser.parse_args()
    if asked.only in (None, "codec"):
        build_codec()
    if asked.only in (None, "prompts"):
        write_prompts(HERE.parent / "audio" / "prompts.jsonl")
    if asked.only in (None, "target"):
        build_target(asked.output, asked.scale)
    if asked.only in (None, "draft"):
        build_draft(DraftRecipe(), asked.output, asked.kept, asked.scale)


if __name__ == "__main__":
    warnings.filterwarnings("ignore", "One of the clusters is empty")  # its code is then never used
    main()
