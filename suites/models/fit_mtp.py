"""Fit MTP layers to a target by least squares: no gradient, a few minutes on a CPU.

    python suites/models/fit_mtp.py --target TARGET --texts work/texts --layers 3 --into heads/mtp

Each layer is a copy of the target's last decoder layer and final norm. What it reads is fitted: its
projection of the next token's embedding and of the state handed to it is the ridge regression of
what the target's own last layer read at that token. So a layer is right where the target's state
before its last layer is a linear function of both. Layers are fitted in turn, each on the states
that the one before hands on.

`mtp.safetensors` holds the projections alone, in bfloat16; `build.py` adds the copies.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from head_features import FeatureBatch, FeatureTexts, write_features
from head_training import HeadTraining, TrainingRecipe, batches_of
from train_heads import MtpInTraining
from training_parts import shown, write_whole
from transformers.modeling_layers import MtpLayer

from pytest_specdec import load_model
from pytest_specdec.decoding.mtp_forward import teacher_forced_hidden

TOKENS = 4096
"""Tokens of a batch, about."""
RIDGE = 1e-3
"""Of the mean of the squares of what is read."""


class MtpFit(MtpInTraining):
    """MTP layers whose projections are fitted to texts with the states before the last layer."""

    @property
    def layers(self) -> Sequence[MtpLayer]:
        """The layers, of which `eh_proj` is fitted."""
        return list(self._heads.layers)

    def batches(self, texts: FeatureTexts, rows: Sequence[int]) -> Iterator[FeatureBatch]:
        """Texts of about one length together."""
        order = sorted(rows, key=texts.lengths.__getitem__)
        yield from map(texts.batch, batches_of(order, texts.lengths, TOKENS))

    @torch.inference_mode()
    def fit(self, texts: FeatureTexts, rows: Sequence[int]) -> None:
        """Fit every layer's projection, the first layer first."""
        for index in range(len(self._heads.layers)):
            squares, products = torch.zeros(()), torch.zeros(())
            for batch in self.batches(texts, rows):
                read, wanted = self.equations(batch, index)
                squares, products = squares + read.T @ read, products + read.T @ wanted
            size = len(squares)
            squares += RIDGE * squares.diagonal().mean() * torch.eye(size)
            solved = torch.linalg.solve(squares.double(), products.double())
            self._heads.layers[index].eh_proj.weight.copy_(solved.T)

    def equations(self, batch: FeatureBatch, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        """What a layer reads at each token (tokens, 2 x width) and what the target's last layer
        read there (tokens, width), both divided by the latter's size, which its norm leaves out.
        """
        states = [batch.hidden.float()]
        states += teacher_forced_hidden(self._heads, batch.ids, states[0], None, index or 1)
        tokens = batch.ids[:, index + 1 :]
        layer = self._heads.layers[index]
        read = torch.cat(
            [
                layer.enorm(self._heads.embed_tokens(tokens)),
                layer.hnorm(states[index][:, : tokens.shape[1]]),
            ],
            -1,
        )
        wanted = batch.joined[:, index + 1 :].float()
        at = torch.arange(index + 1, batch.ids.shape[1])
        known = at < batch.lengths[:, None]
        read, wanted = read[known], wanted[known]
        size = wanted.norm(dim=-1, keepdim=True)
        return read / size, wanted / size


def kept_tensors(fit: MtpFit) -> dict[str, torch.Tensor]:
    """The projections in bfloat16, by their names in a checkpoint."""
    return {name: tensor for name, tensor in fit.tensors().items() if "eh_proj" in name}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--target", required=True)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--texts", type=Path, nargs="+", required=True)
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--work", type=Path, default=Path("work"))
    parser.add_argument("--into", type=Path, required=True)
    options = parser.parse_args()
    begun = time.monotonic()
    target = load_model(options.target, device=options.device, dtype="bfloat16")
    last = target.model.config.get_text_config().num_hidden_layers - 1
    folders = [options.work / f"before-last-{folder.name}" for folder in options.texts]
    for folder, into in zip(options.texts, folders, strict=True):
        write_features(target, (last,), folder, into)
    texts = FeatureTexts(folders)
    target = load_model(options.target, device=options.device, dtype="float32")
    fit = MtpFit(target, options.layers, torch.arange(0), options.into)
    fit.begin(scale=1.0)
    training = HeadTraining(
        fit, texts, TrainingRecipe(steps=0, draft_steps=options.layers), options.work / "none"
    )
    held = set(training.held_out)
    fit.fit(texts, [row for row in range(len(texts)) if row not in held])
    sampled, greedy = training.acceptance()
    print(f"accepted {shown(sampled)}, of likeliest tokens {shown(greedy)}")
    write_whole(kept_tensors(fit), options.into / "mtp.safetensors", {"format": "pt"})
    report = {
        "texts": len(texts),
        "tokens": texts.tokens,
        "hours": round((time.monotonic() - begun) / 3600, 2),
        "held_out_acceptance": [round(share, 3) for share in sampled],
        "held_out_acceptance_of_likeliest_tokens": [round(share, 3) for share in greedy],
    }
    (options.into / "training.json").write_text(json.dumps(report, indent=2, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
