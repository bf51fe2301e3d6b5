"""What this machine takes for models of published shapes: parts of a round, and replay beside the
matrix ceiling.

    python benchmarks/shapes.py 8b --device cuda --dtype bfloat16 \\
        -o benchmarks/results/shapes-8b-cuda-bfloat16.json
    python benchmarks/shapes.py 135m -o benchmarks/results/shapes-135m-cpu-float32.json

Weights are random: times do not depend on them, and acceptance, which does, is not measured here.
Both models have three MTP layers. `--folder` keeps the checkpoints (8b: 24 GB) for a second run;
without it they go to a temporary folder.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM
from transformers.modeling_layers import MtpModel

from pytest_specdec.acceptance.renewal import expected_counts
from pytest_specdec.cases.case import Sampling
from pytest_specdec.cases.texts import texts_from_ids
from pytest_specdec.decoding.clock import elapsed_ms, mark
from pytest_specdec.decoding.loading import LoadedModel, load_model, pick_device
from pytest_specdec.decoding.mtp_forward import checkpoint_tensors
from pytest_specdec.decoding.replay import DrafterPlan, text_scores
from pytest_specdec.decoding.timing import Setting, measure_costs

TOKENIZER = Path(__file__).parents[1] / "suites" / "models" / "text-target"
MTP_LAYERS, KS, DEPTHS = 3, (4, 8, 12, 16), (0, 1, 2, 3)


@dataclasses.dataclass(frozen=True)
class Shape:
    """The sizes of a Llama."""

    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    tied: bool

    def config(self, context: int) -> LlamaConfig:
        config = LlamaConfig(
            vocab_size=self.vocabulary,
            hidden_size=self.hidden,
            intermediate_size=self.intermediate,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            num_key_value_heads=self.kv_heads,
            head_dim=self.head_dim,
            max_position_embeddings=context,
            tie_word_embeddings=self.tied,
            bos_token_id=0,
            eos_token_id=1,
        )
        config.num_mtp_layers = MTP_LAYERS
        return config

    def flops(self, tokens: int, scored: int, length: int, mtp_layers: int) -> float:
        """Of passes over texts of `length`, `tokens` together: two for each weight and token,
        causal attention, scored logits.
        """
        block = (
            2 * self.hidden * self.head_dim * (self.heads + self.kv_heads)
            + 3 * self.hidden * self.intermediate
        )
        # Scores and sums over the keys before each token, half of all: 2 products of 2 flops each.
        mixing = 2 * self.heads * self.head_dim * length
        mtp = block + 2 * self.hidden * self.hidden
        body = tokens * (self.layers * (2 * block + mixing) + mtp_layers * (2 * mtp + mixing))
        return body + 2 * scored * (1 + mtp_layers) * self.hidden * self.vocabulary


SHAPES = {
    # Llama 3.1 8B with Llama 3.2 1B.
    "8b": (
        Shape(4096, 14336, 32, 32, 8, 128, 128256, False),
        Shape(2048, 8192, 16, 32, 8, 64, 128256, True),
    ),
    # SmolLM2 135M, with a sixth of its layers as the draft.
    "135m": (
        Shape(576, 1536, 30, 9, 3, 64, 49152, True),
        Shape(576, 1536, 5, 9, 3, 64, 49152, True),
    ),
    "tiny": (Shape(64, 160, 2, 2, 2, 32, 1024, True), Shape(32, 80, 1, 2, 2, 16, 1024, True)),
}
"""Target and draft model."""


def write_checkpoint(shape: Shape, folder: Path, device: str, dtype: str, context: int) -> Path:
    """A checkpoint of random weights in transformers' layout, MTP layers past the last; an existing
    one is kept.
    """
    if (folder / "model.safetensors").exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    before = torch.get_default_dtype()
    torch.manual_seed(0)
    torch.set_default_dtype(getattr(torch, dtype))
    try:
        with torch.device(device):
            model = LlamaForCausalLM(shape.config(context))
            heads = MtpModel(model, MTP_LAYERS)
    finally:
        torch.set_default_dtype(before)
    tied = {"lm_head.weight"} if shape.tied else set()
    tensors = {
        name: tensor.contiguous() for name, tensor in model.state_dict().items() if name not in tied
    }
    model.config.dtype = dtype
    model.config.save_pretrained(folder)
    GenerationConfig(bos_token_id=0, pad_token_id=1).save_pretrained(folder)
    for path in TOKENIZER.glob("token*.json"):
        shutil.copy(path, folder)
    # The weights last: a folder that has them is whole.
    part = folder / "model.part"
    save_file(tensors | checkpoint_tensors(heads, shape.layers), part, metadata={"format": "pt"})
    part.rename(folder / "model.safetensors")
    return folder


def ceiling(device: torch.device, dtype: str) -> float:
    """Flops a second of a square matrix product, the fastest of some sizes and repeats."""
    best = 0.0
    for size in (4096, 8192, 16384) if device.type == "cuda" else (1024, 2048, 4096):
        a, b = (
            torch.randn(size, size, device=device, dtype=getattr(torch, dtype)) for _ in range(2)
        )
        for _ in range(10):
            begun = mark(device)
            a @ b
            best = max(best, 2 * size**3 / elapsed_ms(begun, mark(device)) * 1e3)
    return best


def replay_row(
    pair: Sequence[LoadedModel],
    shapes: Sequence[Shape],
    depth: int,
    texts: int,
    length: int,
    top: float,
) -> dict[str, float]:
    """Replay of random texts: tokens a second, and its share of the ceiling `top`, all of its steps
    included.
    """
    target, draft = pair
    prompt = length // 8
    ids = np.random.default_rng(0).integers(0, shapes[0].vocabulary, (texts, length)).tolist()
    rows = texts_from_ids(ids, [prompt] * texts)

    def replayed() -> None:
        (scores,) = text_scores(target, [DrafterPlan(draft, depth, max(KS))], rows, Sampling(1.0))
        assert expected_counts(scores.field("rejection"), max(KS)).total_rounds > 0

    replayed()
    begun = time.perf_counter()
    replayed()
    taken = time.perf_counter() - begun
    tokens, scored = texts * length, texts * (length - prompt)
    work = shapes[0].flops(tokens, scored, length, 0) + shapes[1].flops(
        tokens, scored, length, depth
    )
    return {
        "depth": depth,
        "texts": texts,
        "length": length,
        "tokens_per_second": round(tokens / taken, 1),
        "tflops_per_second": round(work / taken / 1e12, 4),
        "share_of_ceiling": round(work / taken / top, 3),
    }


def measured(
    name: str, folder: Path, *, device: str, dtype: str, texts: int, length: int, repeats: int
) -> dict[str, Any]:
    """Everything this file measures, as it is written to JSON."""
    shapes = SHAPES[name]
    context = max(2 * length, 1024)
    pair = [
        load_model(
            str(write_checkpoint(shape, folder / f"{name}-{role}-{dtype}", device, dtype, context)),
            device,
            dtype,
        )
        for role, shape in zip(("target", "draft"), shapes, strict=True)
    ]
    profile = measure_costs(
        *pair, ks=KS, depths=DEPTHS, setting=Setting(dtype=dtype), repeats=repeats
    )
    top = ceiling(pair[0].device, dtype)
    return {
        "shape": name,
        "target": dataclasses.asdict(shapes[0]),
        "draft": dataclasses.asdict(shapes[1]),
        "costs": dataclasses.asdict(profile),
        "ceiling_tflops": round(top / 1e12, 4),
        "replay": [
            replay_row(pair, shapes, depth, texts, length, top) for depth in (0, MTP_LAYERS)
        ],
    }


def lines(found: dict[str, Any]) -> list[str]:
    """The result in words."""
    costs = found["costs"]
    out = [
        f"{found['shape']} on {costs['machine']}; {costs['software']}",
        f"target step {costs['target_ms']:.3f} ms",
    ]
    for k in KS:
        drafts = ", ".join(f"depth {depth} {costs['draft'][depth][k]:.3f}" for depth in DEPTHS)
        heads = ", ".join(
            f"{depth} {costs['own_heads'][depth][k]:.3f}" for depth in DEPTHS if depth
        )
        out.append(
            f"k {k}: verify {costs['verify'][k]:.3f} ms; draft {drafts} ms; own heads of depth "
            f"{heads} ms"
        )
    out.append(f"matrix ceiling {found['ceiling_tflops']:.3f} Tflop/s")
    for row in found["replay"]:
        out.append(
            f"replay at depth {row['depth']}: {row['tokens_per_second']:.0f} tokens/s, "
            f"{row['tflops_per_second']:.3f} Tflop/s, "
            f"{row['share_of_ceiling']:.0%} of the ceiling"
        )
    return out


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("shape", choices=SHAPES)
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--texts", type=int, default=16)
    parser.add_argument("--length", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=40)
    parser.add_argument("--folder", type=Path, help="where the checkpoints stay")
    parser.add_argument("-o", "--output", type=Path, help="a JSON file for the result")
    asked = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as temporary:
        found = measured(
            asked.shape,
            asked.folder or Path(temporary),
            device=pick_device(asked.device),
            dtype=asked.dtype,
            texts=asked.texts,
            length=asked.length,
            repeats=asked.repeats,
        )
    if asked.output:
        asked.output.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(*lines(found), sep="\n")


if __name__ == "__main__":
    main(sys.argv[1:])
