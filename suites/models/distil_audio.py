"""Distil the audio draft model and its MTP layers from the audio target, on streams that the target
samples.

    lessons = Lessons.of(target, *sampled_rows(target, contexts, seed, work / "rows.safetensors"))
    training = Distillation(target, DraftRecipe(), lessons, work / "audio-draft.safetensors")
    training.run(held_out)
    training.save(folder, held_out)

The label of every token is the target's whole distribution p. The loss begins as the cross-entropy
of the draft's q and ends as the share of drafts that are rejected, 1 - sum min(p, q). The model and
its MTP layers learn together, and each MTP layer learns on the state that the one before hands on,
as in a pass of the drafter.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from build import SEED, Recipe, export, new_model
from codec import CODES, FIRST_AUDIO
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from training_parts import cosine_share, write_whole
from transformers import LlamaForCausalLM
from transformers.modeling_layers import MtpModel

from pytest_specdec import decode
from pytest_specdec.decoding.loading import LoadedModel
from pytest_specdec.decoding.mtp_forward import project, teacher_forced_hidden

LENGTH = 177
"""Tokens of a row: `<s>`, a context of 12 to 24 steps as the prompts are, and what the target says
after it.
"""
SHORTEST, LONGEST = 12, 24
FIRST_LABEL = 1 + 2 * SHORTEST
"""Position of the first token that any row learns."""
WEIGHTS, MOMENTS = "weights.", ("exp_avg", "exp_avg_sq", "step")
"""A training's checkpoint holds the weights, and what AdamW keeps of each, under such beginnings of
names.
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class DraftRecipe:
    """The draft model's shape and training."""

    name: str = "audio-draft"
    target_layers: tuple[int, ...] = (0, 3)
    """Layers of the target that the draft's begin as."""
    mtp_layers: tuple[int, ...] = (0, 3, 3)
    """Layers of the target that the blocks of the MTP layers begin as."""
    utterances: int = 640
    cuts: int = 6
    """Rows after each utterance, whose contexts are cut at different steps."""
    steps: int = 1000
    schedule: int = 1200
    """Steps after which the rate would be zero."""
    batch: int = 10
    rate: float = 1.5e-3
    overlap_from: float = 0.4
    """Share of the schedule after which the loss goes over from cross-entropy to rejections."""
    weights: tuple[float, ...] = (1.0, 0.0, 1.0, 0.0)
    """How much an audio token counts where the model itself and each MTP layer draft it. A pass
    drafts audio tokens with the model and with the second layer; text tokens between are given.
    """
    background: float = 0.05
    """How much other tokens count."""
    seed: int = SEED


def sampled_rows(
    target: LoadedModel, prompts: Callable[[], Sequence[Sequence[int]]], seed: int, kept: Path
) -> tuple[torch.Tensor, torch.Tensor]:
    """(prompts, LENGTH) ids, and how many of them are each row's context: what the target samples
    at temperature 1 after contexts, in the order of their lengths.

    A file at `kept` is read instead of sampling once more, and else written.
    """
    if not kept.is_file():
        rows, lengths = [], []
        made = prompts()
        for length in sorted({len(prompt) for prompt in made}):
            decoded = decode(
                target,
                None,
                [prompt for prompt in made if len(prompt) == length],
                k=0,
                temperature=1.0,
                new_tokens=LENGTH - length,
                batch_size=320,
                seed=seed + length,
            )
            rows += [text.ids for text in decoded.texts]
            lengths += [length] * len(decoded.texts)
        kept.parent.mkdir(parents=True, exist_ok=True)
        save_file({"ids": torch.tensor(rows), "lengths": torch.tensor(lengths)}, kept)
    read = load_file(kept)
    return read["ids"], read["lengths"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Lessons:
    """Rows with the target's distributions."""

    ids: torch.Tensor
    """(rows, LENGTH)."""
    labels: torch.Tensor
    """(rows, LENGTH - FIRST_LABEL, vocabulary): log-probabilities of the tokens from FIRST_LABEL
    on, float16.
    """
    new: torch.Tensor
    """(rows, LENGTH - FIRST_LABEL): whether the target sampled the token, 0 or 1."""

    @classmethod
    @torch.no_grad()
    def of(cls, target: LoadedModel, ids: torch.Tensor, lengths: torch.Tensor) -> Lessons:
        labels = [
            target.model(part, use_cache=False)
            .logits[:, FIRST_LABEL - 1 : -1]
            .log_softmax(-1)
            .half()
            for part in ids.split(32)
        ]
        new = (torch.arange(FIRST_LABEL, LENGTH) >= lengths[:, None]).float()
        return cls(ids=ids, labels=torch.cat(labels), new=new)

    def part(self, rows: torch.Tensor) -> Lessons:
        """Some rows."""
        return Lessons(ids=self.ids[rows], labels=self.labels[rows], new=self.new[rows])


def new_draft(target: LlamaForCausalLM, recipe: DraftRecipe) -> tuple[LlamaForCausalLM, MtpModel]:
    """A draft model with MTP layers that begins as parts of the target.

    An MTP layer first hands on the sum of the token's embedding and the state.
    """
    config = target.config
    shape = Recipe(
        recipe.name,
        config.hidden_size,
        len(recipe.target_layers),
        config.num_attention_heads,
        recipe.steps,
        (recipe.steps,) * len(recipe.mtp_layers),
        vocabulary=config.vocab_size,
    )
    torch.manual_seed(recipe.seed)
    model, heads = new_model(shape)
    assert heads is not None
    model.model.embed_tokens.load_state_dict(target.model.embed_tokens.state_dict())
    model.model.norm.load_state_dict(target.model.norm.state_dict())
    for layer, number in zip(model.model.layers, recipe.target_layers, strict=True):
        layer.load_state_dict(target.model.layers[number].state_dict())
    for layer, number in zip(heads.layers, recipe.mtp_layers, strict=True):
        layer.mtp_block.load_state_dict(target.model.layers[number].state_dict())
        layer.post_norm.load_state_dict(target.model.norm.state_dict())
        same = torch.eye(config.hidden_size) * config.hidden_size**-0.5
        layer.eh_proj.weight.data[:] += torch.cat([same, same], 1)
    return model, heads


class Distillation:
    """A draft model in training: a batch is drawn at every step, by the recipe's seed and the
    number of the step alone. A run that was stopped goes on from its checkpoint.
    """

    def __init__(
        self, target: LoadedModel, recipe: DraftRecipe, lessons: Lessons, checkpoint: Path
    ) -> None:
        self.recipe, self.lessons, self.checkpoint = recipe, lessons, checkpoint
        self.model, self.heads = new_draft(target.model, recipe)
        named = [(f"model.{name}", each) for name, each in self.model.named_parameters()]
        named += [(f"mtp.{name}", each) for name, each in self.heads.layers.named_parameters()]
        self._named = dict(named)
        self._optimizer = torch.optim.AdamW(
            self._named.values(), lr=recipe.rate, betas=(0.9, 0.95), weight_decay=0.01
        )
        self._step = 0

    def run(self, held_out: Lessons, every: int = 100) -> None:
        """Train to the recipe's last step."""
        self._resume()
        started, begun = time.monotonic(), self._step
        while self._step < self.recipe.steps:
            loss = self._learn()
            if self._step % every == 0 or self._step == self.recipe.steps:
                self._keep()
                shown = [round(share, 4) for share in self.overlaps(held_out)]
                print(
                    f"{self.recipe.name} step {self._step}/{self.recipe.steps} loss {loss:.4f} "
                    f"overlaps {shown} {time.monotonic() - started:.0f} s from step {begun}",
                    flush=True,
                )

    def save(self, folder: Path, held_out: Lessons) -> list[float]:
        """Write the checkpoint in bfloat16. Returns the rounded weights' `overlaps`."""
        for tensor in self._named.values():
            tensor.data = tensor.data.bfloat16().float()
        shares = self.overlaps(held_out)
        for part in (self.model, self.heads.layers):
            part.bfloat16()
        export(self.model, self.heads, folder)
        return shares

    @torch.no_grad()
    def overlaps(self, lessons: Lessons) -> list[float]:
        """The mean share of audio drafts that are accepted, by the model and each MTP layer."""
        sums = torch.zeros(len(self.recipe.weights), 2)
        for rows in torch.arange(len(lessons.ids)).split(self.recipe.batch):
            part = lessons.part(rows)
            p, judged = part.labels.float().exp(), _audio(part)
            for head, q in enumerate(self._drafts(part.ids, len(self.heads.layers))):
                shared = torch.minimum(p, q.exp()).sum(-1)
                sums[head] += torch.stack([(judged * shared).sum(), judged.sum()])
        return (sums[:, 0] / sums[:, 1]).tolist()

    def _drafts(self, ids: torch.Tensor, depth: int) -> Iterator[torch.Tensor]:
        """Log-probabilities of the tokens from FIRST_LABEL on, by the model and by each of its
        first MTP layers.
        """
        hidden = self.model.model(ids, use_cache=False).last_hidden_state
        yield self.model.lm_head(hidden[:, FIRST_LABEL - 1 : -1]).log_softmax(-1)
        for head, state in enumerate(teacher_forced_hidden(self.heads, ids, hidden, depth), 1):
            yield project(self.heads, state[:, FIRST_LABEL - 1 - head : -1]).log_softmax(-1)

    def _learn(self) -> float:
        """One step of AdamW, with a short rise of the rate and a cosine towards zero."""
        recipe = self.recipe
        generator = torch.Generator().manual_seed(recipe.seed * 1_000_003 + self._step)
        chosen = torch.randint(len(self.lessons.ids), (recipe.batch,), generator=generator)
        part = self.lessons.part(chosen)
        audio, done = _audio(part), self._step / recipe.schedule
        share = min(1.0, max(0.0, (done - recipe.overlap_from) / 0.2))
        p, losses = part.labels.float(), []
        # A last layer that drafts no audio tokens rests at three steps of four.
        depth = len(self.heads.layers) - (recipe.weights[-1] == 0 and self._step % 4 > 0)
        for weight, q in zip(recipe.weights, self._drafts(part.ids, depth), strict=False):
            each = (1 - share) * torch.nn.functional.kl_div(q, p, log_target=True, reduction="none")
            each = each.sum(-1)
            if share > 0:
                each = each + share * (1 - torch.minimum(p.exp(), q.exp()).sum(-1))
            counts = part.new * recipe.background + audio * weight
            losses.append((counts * each).sum() / part.new.sum())
        scale = cosine_share(done)
        for group in self._optimizer.param_groups:
            group["lr"] = recipe.rate * scale
        loss = torch.stack(losses).sum()
        self._optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self._named.values(), 1.0)
        self._optimizer.step()
        self._step += 1
        return loss.item()

    def _keep(self) -> None:
        tensors = {}
        for name, tensor in self._named.items():
            tensors[WEIGHTS + name] = tensor.detach().clone()
            for kind in MOMENTS:
                tensors[f"{kind}.{name}"] = self._optimizer.state[tensor][kind].clone()
        about = {"step": str(self._step), "recipe": self._recipe_text()}
        write_whole(tensors, self.checkpoint, about)

    def _resume(self) -> None:
        """Go on from a checkpoint of the same recipe; one of another recipe is left alone."""
        if not self.checkpoint.is_file():
            return
        with safe_open(self.checkpoint, "pt") as file:
            about = file.metadata()
        if about.get("recipe") != self._recipe_text():
            return
        tensors, self._step = load_file(self.checkpoint), int(about["step"])
        for name, tensor in self._named.items():
            tensor.data.copy_(tensors[WEIGHTS + name])
            self._optimizer.state[tensor] = {kind: tensors[f"{kind}.{name}"] for kind in MOMENTS}

    def _recipe_text(self) -> str:
        return json.dumps(dataclasses.asdict(self.recipe), sort_keys=True)


def _audio(lessons: Lessons) -> torch.Tensor:
    """(rows, positions): 1 for sampled audio tokens, else 0."""
    ids = lessons.ids[:, FIRST_LABEL:]
    return lessons.new * ((ids >= FIRST_AUDIO) & (ids < FIRST_AUDIO + CODES)).float()
