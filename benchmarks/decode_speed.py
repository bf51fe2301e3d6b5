"""Decode with a drafter beside plain decoding, greedily: tokens per second in one run.

    python benchmarks/decode_speed.py --target TARGET --drafter HEAD --k 3 --dtype bfloat16
    python benchmarks/decode_speed.py --target TARGET --drafter mtp --depth 3 --k 3

Plain is the faster of `decode(k=0)` and of transformers' `generate` with a static cache. Prompts
are decoded by each in turn, one at a time, so that a slow moment of the machine meets all of them.
Texts must be equal; in 16-bit formats a pass of several columns may round a tie otherwise, so
texts that differ are counted.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from transformers import GenerationConfig

from pytest_specdec import (
    Decoded,
    LoadedModel,
    Text,
    decode,
    load_model,
    replay,
    theoretical_speedup,
)
from pytest_specdec.cases.drafter import DraftModelSpec
from pytest_specdec.cases.prompts import read_prompts
from pytest_specdec.decoding.drafters.registry import parsed
from pytest_specdec.decoding.sampling import encode_prompts, eos_ids, without_generation_defaults

ROOT = Path(__file__).parent.parent
OWN, STATIC, DRAFTED = "decode, k = 0", "transformers, static cache", "decode with the drafter"
WARM_UP = 8
"""New tokens of the text that each decodes before it is timed."""


@dataclasses.dataclass(frozen=True)
class Speeds:
    """What each decoder took for the same texts."""

    tokens: int
    """New tokens that each emitted."""
    seconds: dict[str, float]
    """By decoder."""
    tokens_per_round: float
    """With the drafter, without the prompt pass and its token."""
    differing: int
    """Texts with the drafter that are not those of `decode(k=0)`."""
    length: float
    """Tokens per pass of the target over whole texts, by replay."""
    milliseconds: dict[str, float]
    """Means of these decodes: `target`, a step without drafts; `draft` and `verify` of a round."""

    def tokens_per_second(self, decoder: str) -> float:
        return self.tokens / self.seconds[decoder]

    @property
    def ratio(self) -> float:
        """Tokens per second with the drafter over those of the faster plain decoder."""
        return min(self.seconds[OWN], self.seconds[STATIC]) / self.seconds[DRAFTED]

    @property
    def theory(self) -> float:
        """What the ratio would be by the replayed length and the rounds' own times."""
        return theoretical_speedup(
            self.length,
            target_ms=self.milliseconds["target"],
            verify_ms=self.milliseconds["verify"],
            draft_ms=self.milliseconds["draft"],
        )

    def table(self) -> str:
        lines = [f"{name:28}{self.tokens_per_second(name):8.1f} tokens/s" for name in self.seconds]
        said = (
            f"{self.ratio:.2f}x plain (theory {self.theory:.2f}), {self.tokens_per_round:.2f} "
            f"tokens a round (replay {self.length:.2f})"
        )
        return "\n".join([*lines, f"{said}, {self.differing} texts differ"])


def compared(
    target: LoadedModel,
    drafter: LoadedModel | str,
    prompts: Sequence[list[int]],
    *,
    k: int,
    depth: int = 0,
    new: int = 96,
) -> Speeds:
    """Every prompt's text by each decoder, in turn."""
    plain, drafted = _Decodes(target, None, 0, 0), _Decodes(target, drafter, k, depth)
    decoders: dict[str, Callable[[list[int], int], list[int]]] = {
        OWN: plain.text,
        STATIC: lambda prompt, new: static(target, prompt, new),
        DRAFTED: drafted.text,
    }
    for decoder in decoders.values():
        decoder(prompts[0], WARM_UP)
    plain.decoded.clear()
    drafted.decoded.clear()
    seconds = dict.fromkeys(decoders, 0.0)
    for prompt in prompts:
        for name, decoder in decoders.items():
            begun = time.perf_counter()
            decoder(prompt, new)
            seconds[name] += time.perf_counter() - begun
    texts = drafted.texts
    rounds = sum(len(one.rounds[0]) for one in drafted.decoded)
    counts = replay(target, drafter, texts, k=k, depth=depth, temperature=0, end="whole")
    return Speeds(
        tokens=sum(len(text.ids) - text.prompt_length for text in plain.texts),
        seconds=seconds,
        tokens_per_round=sum(len(text.ids) - text.prompt_length - 1 for text in texts) / rounds,
        differing=sum(one.ids != other.ids for one, other in zip(texts, plain.texts, strict=True)),
        length=counts.acceptance_length,
        milliseconds={
            "target": statistics.mean(ms for one in plain.decoded for ms in one.verify_ms),
            "draft": statistics.mean(ms for one in drafted.decoded for ms in one.draft_ms),
            "verify": statistics.mean(ms for one in drafted.decoded for ms in one.verify_ms),
        },
    )


class _Decodes:
    """Texts by `decode` with one drafter, one prompt at a time."""

    def __init__(
        self, target: LoadedModel, drafter: LoadedModel | str | None, k: int, depth: int
    ) -> None:
        self._target, self._drafter, self._k, self._depth = target, drafter, k, depth
        self.decoded: list[Decoded] = []

    @property
    def texts(self) -> list[Text]:
        return [one.texts[0] for one in self.decoded]

    def text(self, prompt: list[int], new: int) -> list[int]:
        """The greedy text of a prompt."""
        decoded = decode(
            self._target,
            self._drafter,
            [prompt],
            k=self._k,
            depth=self._depth,
            temperature=0,
            new_tokens=new,
        )
        self.decoded.append(decoded)
        return list(decoded.texts[0].ids)


def loaded_drafter(name: str, device: str, dtype: str) -> LoadedModel | str:
    """A draft model in the target's number format; heads and prompt lookup by their name."""
    return load_model(name, device, dtype) if isinstance(parsed(name), DraftModelSpec) else name


@torch.inference_mode()
def static(target: LoadedModel, prompt: list[int], new: int) -> list[int]:
    """A greedy text by transformers with a static cache."""
    ids = torch.tensor([prompt], device=target.device)
    config = GenerationConfig(
        max_new_tokens=new,
        do_sample=False,
        cache_implementation="static",
        disable_compile=True,
        pad_token_id=0,
        eos_token_id=eos_ids(target) or None,
    )
    with without_generation_defaults(target):
        return target.model.generate(
            ids, attention_mask=torch.ones_like(ids), generation_config=config
        )[0].tolist()


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    models = ROOT / "suites/models"
    parser.add_argument("--target", default=str(models / "text-target"))
    parser.add_argument("--drafter", default=str(models / "text-draft"), help="a folder, or mtp")
    parser.add_argument("--prompts", type=Path, default=ROOT / "suites/text/prompts.jsonl")
    parser.add_argument("--count", type=int, default=16, help="prompts")
    parser.add_argument("--k", type=int, default=4)
    parser.add_argument("--depth", type=int, default=0)
    parser.add_argument("--new", type=int, default=96, help="new tokens")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args(arguments)
    target = load_model(options.target, options.device, options.dtype)
    drafter = loaded_drafter(options.drafter, options.device, options.dtype)
    prompts = encode_prompts(target.tokenizer, read_prompts(options.prompts))
    chosen = prompts[:: max(len(prompts) // options.count, 1)][: options.count]
    speeds = compared(target, drafter, chosen, k=options.k, depth=options.depth, new=options.new)
    print(speeds.table())


if __name__ == "__main__":
    main()
