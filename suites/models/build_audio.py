"""Make the embedded audio pair: speech, codec, token streams, a target and a draft model with three MTP layers, prompts.

    python suites/models/build_audio.py            # all of it, about 30 minutes on 2 cores
    python suites/models/build_audio.py --only models

Speech is synthesised from seeded sentences (`sentences.py`, `speech.py`) and encoded (`codec.py`). A text of the models is
`<s>` and then steps of 40 ms: a text token, the letter that begins there or `~` for none, and an audio token.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import random
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from build import HERE, SEED, Recipe, save, scaled, side_by_side, train
from codec import CODES, FIRST_AUDIO, RATE, TOKEN_SAMPLES, decode, encode, features, save_codebook, train_codebook
from sentences import CATEGORIES, monologue
from speech import LETTERS, Speaker, Utterance, synthesise
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

GOING_ON = "~"
SYMBOLS = ("<s>", "</s>", GOING_ON, *LETTERS)
STEPS = 128
"""Steps of 40 ms in a training row."""
MINUTES, CHUNKS = 180, 12
"""Minutes of training speech, and pieces that it is made in, so that any number of cores makes the same."""
PROMPTS = 1000

RECIPES = (
    Recipe("audio-target", 160, 4, 5, 2200, (), batch=12, length=1 + 2 * STEPS, vocabulary=FIRST_AUDIO + CODES),
    Recipe("audio-draft", 64, 1, 2, 4000, (1000, 800, 700), batch=12, length=1 + 2 * STEPS, vocabulary=FIRST_AUDIO + CODES),
)


def talk(seed: int, minutes: float) -> Iterator[Utterance]:
    """Seeded utterances of at least so many minutes together: two to four sentences of one kind by one speaker each."""
    rng = random.Random(seed)
    seconds = 0.0
    while seconds < 60 * minutes:
        speaker = Speaker.random(rng)
        spoken = synthesise(monologue(rng.choice(CATEGORIES), rng.randint(2, 4), rng), speaker, rng)
        seconds += len(spoken.samples) / RATE
        yield spoken


def text_steps(utterance: Utterance) -> list[int]:
    """The text token of each step: the letter that begins within it, the next in the queue where two do, or `~`."""
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
    book = train_codebook(np.concatenate([features(spoken.samples) for spoken in talk(SEED, 15)]), SEED)
    save_codebook(book, {"seed": SEED})
    save_codebook(book, {"seed": SEED, "round_trip": round_trip([spoken.samples for spoken in talk(SEED + 1, 2)])})
    print("codec done", flush=True)


def round_trip(sounds: list[np.ndarray]) -> dict[str, float]:
    """How far decoded sound is from what was encoded: dB between band levels where there is sound, beside the mean spectrum."""
    before = [features(sound[: len(sound) // TOKEN_SAMPLES * TOKEN_SAMPLES])[:, :-2] for sound in sounds]
    codes = [encode(sound) for sound in sounds]
    decoded = [decode(own) for own in codes]
    after = [features(sound)[:, :-2] for sound in decoded]
    heard = np.concatenate(before) > -75
    errors = (np.concatenate(before) - np.concatenate(after))[heard]
    trivial = (np.concatenate(before) - np.concatenate(before).mean(0))[heard]
    again = np.concatenate([encode(sound) for sound in decoded]) == np.concatenate(codes)
    return {
        "rms_db": round(float(np.sqrt((errors**2).mean())), 2),
        "rms_db_of_the_mean_spectrum": round(float(np.sqrt((trivial**2).mean())), 2),
        "codes_kept": round(float(again.mean()), 3),
    }


def new_tokenizer() -> PreTrainedTokenizerFast:
    """Single characters and `<a0>` to `<a255>`, with `<s>` before every text."""
    vocabulary = {symbol: at for at, symbol in enumerate(SYMBOLS)} | {f"<a{code}>": FIRST_AUDIO + code for code in range(CODES)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="</s>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"<a\d+>|."), "isolated")
    tokenizer.decoder = decoders.Fuse()
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", model_max_length=512, clean_up_tokenization_spaces=False
    )


def rows_of(stream: torch.Tensor, recipe: Recipe) -> Iterator[torch.Tensor]:
    """Endless seeded batches (rows, 1 + 2 * STEPS): `<s>` and a stretch of the stream that begins with a step."""
    generator = torch.Generator().manual_seed(SEED)
    begin = torch.zeros(1, dtype=torch.long)
    while True:
        starts = 2 * torch.randint(0, (len(stream) - recipe.length) // 2, (recipe.batch,), generator=generator)
        yield torch.stack([torch.cat([begin, stream[start : start + recipe.length - 1]]) for start in starts])


def build_model(recipe: Recipe, stream: torch.Tensor, held_out: torch.Tensor, output: Path) -> None:
    torch.set_num_threads(1)
    rows = next(rows_of(held_out, recipe))
    save(recipe, *train(recipe, lambda: rows_of(stream, recipe), rows), new_tokenizer(), output)


def build_models(output: Path, share: float) -> None:
    """Make the training speech and train both models."""
    per_chunk = max(0.5, MINUTES * share / CHUNKS)
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        made = pool.starmap(streams, [(SEED + 10 + chunk, per_chunk) for chunk in range(CHUNKS)])
    stream, held_out = torch.tensor(np.concatenate(made)), torch.tensor(streams(SEED + 2, 3))
    print(f"{len(stream) // 2} steps of training speech", flush=True)
    side_by_side(build_model, [(scaled(recipe, share), stream, held_out, output) for recipe in RECIPES])


def write_prompts(path: Path) -> None:
    """Contexts of 12 to 24 steps from speech that nobody was trained on, kinds in turn."""
    tokenizer, rng = new_tokenizer(), random.Random(SEED + 3)
    names = tokenizer.convert_ids_to_tokens(range(FIRST_AUDIO + CODES))
    lines: dict[str, None] = {}
    while len(lines) < PROMPTS:
        kind = CATEGORIES[len(lines) % len(CATEGORIES)]
        ids = stream_of(synthesise(monologue(kind, 1, rng), Speaker.random(rng), rng))[: 2 * rng.randint(12, 24)]
        lines[json.dumps({"category": kind, "prompt": "".join(names[token] for token in ids)})] = None
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join(lines) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=("codec", "prompts", "models"))
    parser.add_argument("--output", type=Path, default=HERE, help="folder of the models' folders (default: here)")
    parser.add_argument("--scale", type=float, default=1.0, help="fraction of speech and training steps, for a trial")
    asked = parser.parse_args()
    if asked.only in (None, "codec"):
        build_codec()
    if asked.only in (None, "prompts"):
        write_prompts(HERE.parent / "audio" / "prompts.jsonl")
    if asked.only in (None, "models"):
        build_models(asked.output, asked.scale)


if __name__ == "__main__":
    warnings.filterwarnings("ignore", "One of the clusters is empty")  # its code is then never used
    main()
