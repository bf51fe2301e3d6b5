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
import functools
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


@dataclasses.dataclass(frozen=True)
class Drafting:
    """A way to draft."""

    drafter: LoadedModel | str
    k: int
    depth: int = 0


def compared(
    target: LoadedModel,
    draftings: Sequence[Drafting],
    prompts: Sequence[list[int]],
    *,
    new: int = 96,
) -> list[Speeds]:
    """Every prompt's text by the plain decoders and by each drafting, in turn."""
    plain = _Decodes(target, None)
    drafted = [_Decodes(target, drafting) for drafting in draftings]
    decoders: list[Callable[[list[int], int], object]] = [
        plain.text,
        functools.partial(static, target),
        *(one.text for one in drafted),
    ]
    for decoder in decoders:
        decoder(prompts[0], WARM_UP)
    for one in (plain, *drafted):
        one.decoded.clear()
    seconds = [0.0] * len(decoders)
    for prompt in prompts:
        for place, decoder in enumerate(decoders):
            begun = time.perf_counter()
            decoder(prompt, new)
            seconds[place] += time.perf_counter() - begun
    return [
        _speeds(one, plain, {OWN: seconds[0], STATIC: seconds[1], DRAFTED: own})
        for one, own in zip(drafted, seconds[2:], strict=True)
    ]


def _speeds(drafted: _Decodes, plain: _Decodes, seconds: dict[str, float]) -> Speeds:
    texts, rounds = drafted.texts, sum(len(one.rounds[0]) for one in drafted.decoded)
    return Speeds(
        tokens=sum(len(text.ids) - text.prompt_length for text in plain.texts),
        seconds=seconds,
        tokens_per_round=sum(len(text.ids) - text.prompt_length - 1 for text in texts) / rounds,
        differing=sum(one.ids != other.ids for one, other in zip(texts, plain.texts, strict=True)),
        length=drafted.replayed_length(),
        milliseconds={
            "target": statistics.mean(ms for one in plain.decoded for ms in one.verify_ms),
            "draft": statistics.mean(ms for one in drafted.decoded for ms in one.draft_ms),
            "verify": statistics.mean(ms for one in drafted.decoded for ms in one.verify_ms),
        },
    )


class _Decodes:
    """Texts by `decode` in one way, one prompt at a time."""

    def __init__(self, target: LoadedModel, drafting: Drafting | None) -> None:
        """Without a drafting, plain."""
        self._target, self._drafting = target, drafting
        self.decoded: list[Decoded] = []

    @property
    def texts(self) -> list[Text]:
        return [one.texts[0] for one in self.decoded]

    def text(self, prompt: list[int], new: int) -> None:
        """Decode the greedy text of a prompt."""
        drafting = self._drafting or Drafting("", 0)
        self.decoded.append(
            decode(
                self._target,
                drafting.drafter or None,
                [prompt],
                k=drafting.k,
                depth=drafting.depth,
                temperature=0,
                new_tokens=new,
            )
        )

    def replayed_length(self) -> float:
        """Tokens per pass of the target over the whole texts, by replay."""
        assert self._drafting is not None
        drafting = self._drafting
        return replay(
            self._target,
            drafting.drafter,
            self.texts,
            k=drafting.k,
            depth=drafting.depth,
            temperature=0,
            end="whole",
        ).acceptance_length


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
    parser.add_argument("--k", type=int, nargs="+", default=[4])
    parser.add_argument("--depth", type=int, default=0)
    parser.add_argument("--new", type=int, default=96, help="new tokens")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args(arguments)
    target = load_model(options.target, options.device, options.dtype)
    drafter = loaded_drafter(options.drafter, options.device, options.dtype)
    prompts = encode_prompts(target.tokenizer, read_prompts(options.prompts))
    chosen = prompts[:: max(len(prompts) // options.count, 1)][: options.count]
    draftings = [Drafting(drafter, k, options.depth) for k in options.k]
    for k, speeds in zip(
        options.k, compared(target, draftings, chosen, new=options.new), strict=True
    ):
        print(f"k = {k}\n{speeds.table()}")


if __name__ == "__main__":
    main()
