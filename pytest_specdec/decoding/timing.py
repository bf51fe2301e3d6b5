"""What a round's parts take on this machine, measured on the loaded pair."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable

import torch
from transformers import DynamicCache

from ..acceptance.case import draft_passes
from ..speedup.costs import CostProfile
from .environment import environment
from .heads import layer_step, project
from .loading import LoadedModel
from .ragged import new_cache

Step = Callable[[], object]


@torch.inference_mode()
def measure_costs(
    target: LoadedModel,
    drafter: LoadedModel | None,
    *,
    ks: Iterable[int],
    depths: Iterable[int],
    dtype: str = "float32",
    context: int = 128,
    repeats: int = 40,
) -> CostProfile:
    """Median milliseconds of target step, verification and drafting at batch size 1 after `context` cached tokens.

    All parts are timed in turn, `repeats` times over, so that a slow moment of the machine meets them all. A draft of
    k tokens at some depth takes ceil(k / (1 + depth)) model steps and one MTP layer step for each other token.
    """
    ks, depths = sorted(set(ks)), sorted(set(depths))
    steps: dict[str, Step] = {"target": _model_step(target, 1, context)}
    steps |= {f"verify {k}": _model_step(target, k + 1, context) for k in ks}
    if drafter is not None:
        steps["draft"] = _model_step(drafter, 1, context)
        if max(depths) > 0:
            steps["draft head"] = _head_step(drafter, context)
    if target.checkpoint.mtp_layers:
        steps["own head"] = _head_step(target, context)
    times, spread = _interleaved(steps, repeats, target.device)
    draft = {}
    if drafter is not None:
        draft = {depth: {k: _draft_ms(times, k, depth) for k in ks} for depth in depths}
    own = {depth: {k: round(k * times["own head"], 4) for k in ks} for depth in depths if depth and "own head" in times}
    where = environment(target.device, dtype)
    return CostProfile(
        verify={k: times[f"verify {k}"] for k in ks},
        draft=draft,
        target_ms=times["target"],
        own_heads=own,
        machine=f"{where.device}, {where.threads} threads, {where.dtype}, torch {where.torch}, batch 1, context {context}",
        spread=spread,
        samples=repeats,
    )


def _draft_ms(times: dict[str, float], k: int, depth: int) -> float:
    passes = draft_passes(k, depth)
    return round(passes * times["draft"] + (k - passes) * times.get("draft head", 0.0), 4)


def _model_step(model: LoadedModel, tokens: int, context: int) -> Step:
    """A cached forward pass over `tokens` tokens; the cache is cut back after each."""
    cache = new_cache(model.model.config)
    model.model(_tokens(model, context), past_key_values=cache, use_cache=True)
    new = _tokens(model, tokens)

    def step() -> object:
        logits = model.model(new, past_key_values=cache, use_cache=True).logits
        cache.crop(-tokens)
        return logits.argmax(-1)

    return step


def _head_step(model: LoadedModel, context: int) -> Step:
    """One MTP layer for one token, its projection and choice of a token."""
    heads, cache = model.heads, DynamicCache()
    width = heads.config.hidden_size
    hidden = torch.zeros(1, context, width, dtype=model.model.dtype, device=model.device)
    positions = torch.arange(context + 1, device=model.device)[None]
    mask = torch.zeros(1, 1, context, context, dtype=hidden.dtype, device=model.device)
    layer_step(heads, 0, heads.embed_tokens(_tokens(model, context)), hidden, positions[:, :-1], {"attention_mask": mask}, cache)
    new = _tokens(model, 1)

    def step() -> object:
        embeds = heads.embed_tokens(new)
        state = layer_step(heads, 0, embeds, hidden[:, :1], positions[:, -1:], {"attention_mask": None}, cache)
        cache.crop(-1)
        return project(heads, state).argmax(-1)

    return step


def _interleaved(steps: dict[str, Step], repeats: int, device: torch.device) -> tuple[dict[str, float], float]:
    """Median milliseconds of each step, and the largest inter-quartile range relative to its median."""
    samples: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(repeats + 3):
        for name, step in steps.items():
            _wait(device)
            begin = time.perf_counter()
            step()
            _wait(device)
            if turn >= 3:
                samples[name].append((time.perf_counter() - begin) * 1e3)
    medians = {name: round(statistics.median(values), 4) for name, values in samples.items()}
    quartiles = {name: statistics.quantiles(values, n=4) for name, values in samples.items()}
    return medians, round(max((q[2] - q[0]) / medians[name] for name, q in quartiles.items()), 4)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _tokens(model: LoadedModel, count: int) -> torch.Tensor:
    vocabulary: int = model.model.get_input_embeddings().num_embeddings
    return torch.arange(count, device=model.device)[None] % vocabulary
