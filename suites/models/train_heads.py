"""Train an EAGLE-3 head or MTP layers on a target's own texts.

    python suites/models/train_heads.py features --target TARGET --texts work/texts \\
        --into work/features
    python suites/models/train_heads.py eagle3 --target TARGET --texts work/texts \\
        --features work/features --vocabulary 16384 --steps 2000 --into heads/eagle3
    python suites/models/train_heads.py mtp --target TARGET --texts work/texts \\
        --features work/features --layers 3 --steps 2000 --into heads/mtp

Any causal language model is a target whose decoder layers can be hooked. `sampled_texts.py` makes
texts. A run that was stopped goes on where it was last kept (`--work`), also with more `--steps`.
Heads are written in bfloat16: an EAGLE-3 head as a folder of its own, MTP layers as
`mtp.safetensors` with the names that they have in a checkpoint, past the target's own layers.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from eagle3_training import SPREAD, write_new_head, write_weights
from head_features import FeatureBatch, FeatureTexts, write_features
from head_training import HeadInTraining, HeadTraining, TrainingRecipe
from safetensors.torch import load_file, save_file
from transformers.modeling_layers import MtpModel

from pytest_specdec import LoadedModel, load_model
from pytest_specdec.checkpoints.eagle3_checks import checked_head
from pytest_specdec.checkpoints.eagle3_config import usual_states
from pytest_specdec.decoding.drafters.eagle3_forcing import teacher_forced_states
from pytest_specdec.decoding.drafters.eagle3_head import Eagle3Head
from pytest_specdec.decoding.mtp_forward import checkpoint_tensors, teacher_forced_hidden

FREQUENT, OTHERS = 4096, 2048
"""Tokens that every step of training compares, and drawn ones that stand for all others."""


class ComparedTokens:
    """The tokens whose logits a step of training compares, by their places in a vocabulary.

    All of a large vocabulary would be most of the work, so a step compares the most frequent ones
    and some drawn others, which stand for all the others.
    """

    def __init__(self, size: int, frequent: torch.Tensor) -> None:
        """`frequent` are places in a vocabulary of that size."""
        others = torch.ones(size, dtype=torch.bool)
        others[frequent] = False
        self._size, self._frequent, self._others = size, frequent, others.nonzero()[:, 0]

    def drawn(self, generator: torch.Generator | None) -> tuple[torch.Tensor, torch.Tensor]:
        """Places, and what is added to their logits; all places without a generator."""
        if generator is None or not len(self._others):
            return torch.arange(self._size), torch.zeros(())
        count = min(OTHERS, len(self._others))
        chosen = torch.randperm(len(self._others), generator=generator)[:count]
        shift = torch.zeros(len(self._frequent) + count)
        shift[len(self._frequent) :] = torch.log(torch.tensor(len(self._others) / count))
        return torch.cat([self._frequent, self._others[chosen]]), shift


class Eagle3InTraining(HeadInTraining):
    """An EAGLE-3 head whose folder holds its config.json and the weights to begin with.

    Its output layer stays the target's own: the rows of the tokens that it can draft.
    """

    def __init__(self, target: LoadedModel, folder: Path, frequent: torch.Tensor) -> None:
        """`frequent` are the target's tokens that every step compares."""
        files = checked_head(target.checkpoint, folder)
        self._folder, self._prefix = folder, files.layer_prefix(0)
        self._head = Eagle3Head.of(files, target).requires_grad_(True)
        self._head.lm_head.requires_grad_(False)
        self._drafted = torch.from_numpy(files.target_ids).to(target.device)
        self._rows = self._head.lm_head.weight.bfloat16()
        places = torch.searchsorted(self._drafted, frequent.to(target.device))
        self._compared = ComparedTokens(len(self._drafted), places)

    def parameters(self) -> dict[str, torch.nn.Parameter]:
        return {
            name: tensor for name, tensor in self._head.named_parameters() if tensor.requires_grad
        }

    def columns(self, generator: torch.Generator | None) -> tuple[torch.Tensor, torch.Tensor]:
        places, shift = self._compared.drawn(generator)
        return self._drafted[places], shift

    def output_rows(self, columns: torch.Tensor) -> torch.Tensor:
        rows: torch.Tensor = self._rows
        return (
            rows if len(columns) == len(rows) else rows[torch.searchsorted(self._drafted, columns)]
        )

    def drafts(
        self, batch: FeatureBatch, steps: int, columns: torch.Tensor
    ) -> Iterator[torch.Tensor]:
        rows = self.output_rows(columns)
        for state in teacher_forced_states(self._head, batch.ids, batch.joined, steps):
            yield self._head.norm(state).bfloat16().contiguous() @ rows.T

    def save(self) -> None:
        write_weights(self._head, self._folder, self._prefix)


class MtpInTraining(HeadInTraining):
    """MTP layers of a target that has none yet.

    They share the target's output layer.
    """

    def __init__(
        self, target: LoadedModel, layers: int, frequent: torch.Tensor, into: Path
    ) -> None:
        config = target.model.config.get_text_config()
        self._target, self._into, self._layers = target, into, config.num_hidden_layers
        config.num_mtp_layers = layers
        self._heads = MtpModel(target.model, layers)
        self._weight = target.model.get_output_embeddings().weight.bfloat16()
        self._compared = ComparedTokens(len(self._weight), frequent)

    def begin(self, scale: float) -> None:
        """Weights to begin with: each layer is the target's last, on the state handed to it."""
        last = self._target.model.get_decoder().layers[-1].state_dict()
        for layer in self._heads.layers:
            layer.mtp_block.load_state_dict(last)
            width = layer.eh_proj.weight.shape[0]
            with torch.no_grad():
                layer.eh_proj.weight[:, :width].normal_(std=SPREAD * scale)
                layer.eh_proj.weight[:, width:].copy_(torch.eye(width) * scale)
                if layer.post_norm is not None:
                    layer.post_norm.weight.copy_(self._target.model.get_decoder().norm.weight)

    def parameters(self) -> dict[str, torch.nn.Parameter]:
        found = {
            name: tensor
            for name, tensor in self._heads.named_parameters()
            if name.startswith("layers.")
        }
        for tensor in found.values():
            tensor.requires_grad_(True)
        return found

    def columns(self, generator: torch.Generator | None) -> tuple[torch.Tensor, torch.Tensor]:
        return self._compared.drawn(generator)

    def output_rows(self, columns: torch.Tensor) -> torch.Tensor:
        whole = len(columns) == len(self._weight)
        rows: torch.Tensor = self._weight if whole else self._weight[columns]
        return rows

    def drafts(
        self, batch: FeatureBatch, steps: int, columns: torch.Tensor
    ) -> Iterator[torch.Tensor]:
        rows = self.output_rows(columns)
        for state in teacher_forced_hidden(
            self._heads, batch.ids, batch.hidden.float(), None, steps
        ):
            yield state.bfloat16().contiguous() @ rows.T

    def tensors(self) -> dict[str, torch.Tensor]:
        """All tensors in bfloat16, by their names in a checkpoint."""
        return {
            name: tensor.detach().to("cpu", torch.bfloat16)
            for name, tensor in checkpoint_tensors(self._heads, self._layers).items()
        }

    def save(self) -> None:
        self._into.mkdir(parents=True, exist_ok=True)
        save_file(self.tensors(), self._into / "mtp.safetensors", metadata={"format": "pt"})


def new_eagle3(target: LoadedModel, folder: Path, drafted: torch.Tensor, seed: int) -> None:
    """An untrained EAGLE-3 head for a target with Llama's layers, which it begins as the last of:
    its first state is the target's at the last layer that it reads.
    """
    config = target.model.config.get_text_config()
    width = config.hidden_size
    fields = {
        "architectures": ["LlamaForCausalLMEagle3"],
        "model_type": "llama",
        "hidden_size": width,
        "intermediate_size": config.intermediate_size,
        "num_hidden_layers": 1,
        "num_attention_heads": config.num_attention_heads,
        "num_key_value_heads": config.num_key_value_heads,
        "head_dim": config.head_dim,
        "hidden_act": "silu",
        "rms_norm_eps": config.rms_norm_eps,
        "rope_theta": config.rope_parameters["rope_theta"],
        "max_position_embeddings": config.max_position_embeddings,
        "vocab_size": config.vocab_size,
        "draft_vocab_size": len(drafted),
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
    }
    write_new_head(folder, fields, target, drafted, seed)
    path = folder / "model.safetensors"
    tensors = load_file(path)
    last = {
        name: tensor.detach().float().cpu()
        for name, tensor in target.model.get_decoder().layers[-1].state_dict().items()
    }
    for name, tensor in last.items():
        own = f"midlayer.{name}"
        if own in tensors and tensors[own].shape == tensor.shape:
            tensors[own] = tensor.clone()
        elif own in tensors:  # queries, keys and values, which read the embedding first
            tensors[own][:, width:] = tensor
    tensors["midlayer.hidden_norm.weight"] = last["input_layernorm.weight"].clone()
    tensors["fc.weight"][:, -width:] += torch.eye(width)
    save_file(tensors, path, metadata={"format": "pt"})


def _vocabulary(folders: Sequence[Path], size: int, count: int) -> torch.Tensor:
    """The most frequent tokens of sampled texts, in the order of their ids."""
    parts = [part for folder in folders for part in sorted(folder.glob("part-*.safetensors"))]
    if not parts:
        raise SystemExit(f"no texts in {', '.join(map(str, folders))}")
    ids = torch.cat([load_file(part)["ids"] for part in parts])
    counts = torch.bincount(ids, minlength=size)
    kept = counts.argsort(descending=True, stable=True)[:count].sort().values
    share = counts[kept].sum() / counts.sum()
    _say(f"{count} of {size} tokens are {share:.2%} of the {len(ids)} in the texts")
    return kept


def _trained(options: argparse.Namespace) -> None:
    target = load_model(options.target, device=options.device)
    texts = FeatureTexts(options.features)
    config = target.model.config.get_text_config()
    frequent = _vocabulary(options.texts, config.vocab_size, min(FREQUENT, options.vocabulary))
    head: HeadInTraining
    if options.kind == "eagle3":
        if not (options.into / "config.json").is_file():
            drafted = _vocabulary(options.texts, config.vocab_size, options.vocabulary)
            new_eagle3(target, options.into, drafted, options.seed)
        head = Eagle3InTraining(target, options.into, frequent)
    else:
        layers = MtpInTraining(target, options.layers, frequent, options.into)
        layers.begin(scale=float(texts.batch([0]).joined.float().pow(2).mean().sqrt()))
        head = layers
    recipe = TrainingRecipe(
        steps=options.steps,
        draft_steps=options.draft_steps,
        first_alone=options.first_alone,
        tokens=options.tokens,
        rate=options.rate,
        other_rate=options.rate / 4,
        seed=options.seed,
    )
    _say(f"{len(texts)} texts, {texts.tokens} tokens")
    training = HeadTraining(
        head, texts, recipe, options.work / f"{options.into.name}.safetensors", _say
    )
    training.run()
    (options.into / "training.json").write_text(_json(training.report))


def _json(report: Mapping[str, Any]) -> str:
    return json.dumps(report, indent=2, sort_keys=True) + "\n"


def _say(line: str) -> None:
    print(line, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    kinds = parser.add_subparsers(dest="kind", required=True)
    features = kinds.add_parser("features", help="run the target over the texts")
    features.add_argument("--texts", type=Path, nargs=1, required=True)
    trained = {
        "eagle3": kinds.add_parser("eagle3", help="train an EAGLE-3 head"),
        "mtp": kinds.add_parser("mtp", help="train MTP layers"),
    }
    trained["mtp"].add_argument("--layers", type=int, default=3)
    for one in trained.values():
        one.add_argument("--features", type=Path, nargs="+", required=True)
        one.add_argument("--texts", type=Path, nargs="+", required=True, help="for the vocabulary")
        one.add_argument("--vocabulary", type=int, default=16384, help="that are drafted")
        one.add_argument("--steps", type=int, default=2000)
        one.add_argument("--draft-steps", type=int, default=3)
        one.add_argument(
            "--first-alone", type=float, default=0.7, help="share of steps that train step 1 alone"
        )
        one.add_argument("--tokens", type=int, default=2560, help="of a batch, about")
        one.add_argument("--rate", type=float, default=2e-3)
        one.add_argument("--seed", type=int, default=0)
        one.add_argument("--work", type=Path, default=Path("work"), help="where it is kept")
    for one in (features, *trained.values()):
        one.add_argument("--target", required=True)
        one.add_argument("--device", default="auto")
        one.add_argument("--into", type=Path, required=True)
    options = parser.parse_args()
    if options.kind != "features":
        return _trained(options)
    target = load_model(options.target, device=options.device, dtype="bfloat16")
    layers = usual_states(target.model.config.get_text_config().num_hidden_layers)
    return write_features(target, layers, options.texts[0], options.into, _say)


if __name__ == "__main__":
    main()
