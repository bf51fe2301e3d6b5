"""Train an EAGLE-3 head for any causal language model whose decoder layers can be hooked.

Training-time test (Li et al., arXiv 2503.01840): every anchor of a text drafts several steps, each
on the head's own state of the step before, and each step learns the target's distribution of the
token that follows. The loss of a step is the cross-entropy over the tokens that the head can draft;
the target's probabilities stay as they are there, so a position counts by the share that they have.

    write_new_head(folder, config, target, drafted_tokens(rows, vocabulary, 512), seed=0)
    Eagle3Training(target, folder, rows, HeadRecipe(steps=1000)).run(checkpoint, held_out)
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from resumable_training import ResumableTraining, decaying_loss, matrices_and_norms
from safetensors.torch import load_file, save_file
from training_parts import accepted_odds, shown

from pytest_specdec import decode
from pytest_specdec.checkpoints.eagle3_checks import checked_head
from pytest_specdec.checkpoints.eagle3_config import Eagle3Config, read_eagle3_config
from pytest_specdec.decoding.drafters.eagle3_forcing import teacher_forced_states
from pytest_specdec.decoding.drafters.eagle3_head import Eagle3Head
from pytest_specdec.decoding.layer_states import captured_states
from pytest_specdec.decoding.loading import LoadedModel

SPREAD = 0.02
"""Standard deviation of new matrices, as transformers initialises them."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class HeadRecipe:
    """How a head is trained."""

    steps: int
    draft_steps: int = 5
    """Draft steps that are trained of every anchor."""
    decay: float = 0.8
    """Each draft step counts by this share of the one before."""
    batch: int = 16
    rate: float = 3e-3
    norm_rate: float = 3.0
    """The norms' share of the rate: they are few, and slow at the rate of matrices."""
    seed: int = 0


def drafted_tokens(rows: torch.Tensor, vocabulary: int, size: int) -> torch.Tensor:
    """The `size` most frequent of the target's tokens in the rows, in the order of their ids."""
    counts = torch.bincount(rows.flatten(), minlength=vocabulary)
    return counts.argsort(descending=True, stable=True)[:size].sort().values


def target_rows(
    target: LoadedModel,
    prompts: Sequence[Sequence[int]],
    *,
    length: int,
    temperature: float,
    seed: int,
    kept: Path | None = None,
) -> torch.Tensor:
    """(prompts, length): what the target writes after prompts that are all of one length.

    A file at `kept` is read instead of sampling once more, and else written.
    """
    if kept is not None and kept.is_file():
        return load_file(kept)["rows"]
    decoded = decode(
        target,
        None,
        prompts,
        k=0,
        temperature=temperature,
        new_tokens=length - len(prompts[0]),
        batch_size=128,
        seed=seed,
    )
    rows = torch.tensor([text.ids for text in decoded.texts])
    if kept is not None:
        kept.parent.mkdir(parents=True, exist_ok=True)
        save_file({"rows": rows}, kept)
    return rows


def write_new_head(
    folder: Path, config: Mapping[str, Any], target: LoadedModel, drafted: torch.Tensor, seed: int
) -> None:
    """An untrained head: config.json, and weights that the configuration implies.

    The output layer and the norm before it begin as the target's own; the other matrices are
    random.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "config.json"
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    read = read_eagle3_config(path, config)
    theirs = target.model.get_output_embeddings().weight.detach()
    layers = target.model.config.get_text_config().num_hidden_layers
    states = len(read.aux_layers(layers))
    generator = torch.Generator().manual_seed(seed)
    tensors = {
        name: torch.ones(shape)
        if len(shape) == 1
        else torch.randn(shape, generator=generator) * SPREAD
        for name, shape in _shapes(read, states, theirs.shape[1], len(drafted)).items()
    }
    if read.width == theirs.shape[1]:
        tensors["lm_head.weight"] = theirs.float().cpu()[drafted].clone()
        norm = getattr(target.model.get_decoder(), "norm", None)
        if norm is not None:
            tensors["norm.weight"] = norm.weight.detach().float().cpu().clone()
    if len(drafted) < read.vocabulary:
        tensors["d2t"] = drafted - torch.arange(len(drafted))
        tensors["t2d"] = torch.zeros(read.vocabulary, dtype=torch.bool)
        tensors["t2d"][drafted] = True
    save_file(tensors, folder / "model.safetensors")


def _shapes(
    config: Eagle3Config, states: int, target_width: int, drafted: int
) -> dict[str, tuple[int, ...]]:
    width, joined = config.width, states * target_width
    queries, keys = config.heads * config.head_dim, config.kv_heads * config.head_dim
    first = "layers.0." if config.packaging == "speculators" else "midlayer."
    shapes: dict[str, tuple[int, ...]] = {
        "fc.weight": (width, joined),
        "norm.weight": (width,),
        "lm_head.weight": (drafted, width),
        f"{first}input_layernorm.weight": (width,),
        f"{first}hidden_norm.weight": (width,),
        f"{first}post_attention_layernorm.weight": (width,),
        f"{first}self_attn.q_proj.weight": (queries, 2 * width),
        f"{first}self_attn.k_proj.weight": (keys, 2 * width),
        f"{first}self_attn.v_proj.weight": (keys, 2 * width),
        f"{first}self_attn.o_proj.weight": (width, queries),
        f"{first}mlp.gate_proj.weight": (config.mlp_width, width),
        f"{first}mlp.up_proj.weight": (config.mlp_width, width),
        f"{first}mlp.down_proj.weight": (width, config.mlp_width),
    }
    if config.norm_before_fc:
        shapes["input_norm.weight"] = (joined,)
    if config.fc_norm:
        shapes |= {f"fc_norm.{index}.weight": (target_width,) for index in range(states)}
    return shapes


def write_weights(
    head: Eagle3Head, folder: Path, prefix: str, dtype: torch.dtype = torch.bfloat16
) -> None:
    """Write a head's weights into its folder, those of its layer under that beginning of names."""
    path = folder / "model.safetensors"
    tensors = load_file(path)
    for name, tensor in head.state_dict().items():
        named = name.replace("layers.0.", prefix, 1)
        tensors[named] = tensor.detach().to("cpu", dtype).contiguous()
    save_file(tensors, path, metadata={"format": "pt"})


class Eagle3Training(ResumableTraining):
    """A head in training: `folder` holds its config.json and the weights to begin with.

    `rows` are texts as token ids (rows, length); a batch is drawn of them at every step, by the
    recipe's seed and the number of the step alone. The head trains in the target's number format:
    load it in float32.
    """

    def __init__(
        self, target: LoadedModel, folder: Path, rows: torch.Tensor, recipe: HeadRecipe
    ) -> None:
        files = checked_head(target.checkpoint, folder)
        self.target, self.folder = target, folder
        self.head = Eagle3Head.of(files, target).requires_grad_(True)
        self._prefix, self._reads = files.layer_prefix(0), files.aux_layers
        self._drafted = torch.from_numpy(files.target_ids).to(target.device)
        super().__init__(
            self.head,
            rows,
            recipe,
            groups=matrices_and_norms(self.head, recipe.norm_rate),
            name=folder.name,
            device=target.device,
        )

    def save(self, dtype: torch.dtype = torch.bfloat16) -> None:
        """Write the weights in the names of their packaging, in that number format."""
        write_weights(self.head, self.folder, self._prefix, dtype)

    def acceptance(self, rows: torch.Tensor) -> tuple[list[float], list[float]]:
        """The shares of drafts that are accepted at each draft step, of those whose earlier drafts
        are accepted, sampling and at temperature 0, over all round starts of the rows.
        """
        accepted, drafted = torch.zeros(2, 2, self.recipe.draft_steps).unbind()
        for part in rows.split(self.recipe.batch):
            self._count(part, accepted, drafted)
        sampled, greedy = (accepted / drafted.clamp(min=1e-9)).tolist()
        return sampled, greedy

    @torch.no_grad()
    def _count(self, rows: torch.Tensor, accepted: torch.Tensor, drafted: torch.Tensor) -> None:
        """Add to the expected numbers of accepted and drafted tokens, each (2, draft steps):
        sampling, and at temperature 0.
        """
        alive = torch.ones(2, len(rows), rows.shape[1] - 2)
        for step, (p, logits, best) in enumerate(self._drafts(rows)):
            q = logits.softmax(-1)
            overlap = torch.minimum(p, q).sum(-1).cpu()
            equal = (self._drafted[logits.argmax(-1)] == best).float().cpu()
            alive = alive[..., : logits.shape[1]]
            accepted[:, step] += (alive * torch.stack([overlap, equal])).sum((1, 2))
            drafted[:, step] += alive.sum((1, 2))
            tokens = rows[:, step + 2 :].to(self.target.device)
            own = accepted_odds(p, q, self._drafted, tokens).cpu()
            alive = alive * torch.stack([own, equal])

    def _drafts(
        self, rows: torch.Tensor
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
        """Of each draft step: the target's probabilities (rows, anchors, drafted), the head's
        logits, and the target's likeliest tokens (rows, anchors).
        """
        ids = rows.to(self.target.device)
        with torch.no_grad(), captured_states(self.target, self._reads) as states:
            scores = self.target.model(ids).logits.float()
        joined = torch.cat([states[number] for number in self._reads], -1).clone()
        best, p = scores.argmax(-1), scores.softmax(-1)[..., self._drafted]
        steps = teacher_forced_states(self.head, ids, joined, self.recipe.draft_steps)
        for step, state in enumerate(steps):
            logits = self.head.lm_head(self.head.norm(state)).float()
            yield p[:, step + 1 : -1], logits, best[:, step + 1 : -1]

    def loss(self, rows: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Short rows end before the last draft steps."""
        drafts = ((p, logits) for p, logits, _ in self._drafts(rows))
        recipe = self.recipe
        return decaying_loss(drafts, recipe.draft_steps, recipe.decay, complete=False)

    def progress(self, held_out: torch.Tensor) -> str:
        sampled, greedy = self.acceptance(held_out)
        return f"accepted {shown(sampled)}, at temperature 0 {shown(greedy)}"

    def _recipe_text(self) -> str:
        config = (self.folder / "config.json").read_text()
        return json.dumps([dataclasses.asdict(self.recipe), config], sort_keys=True)
