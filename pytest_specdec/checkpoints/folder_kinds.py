"""What a folder holds that is not a complete causal language model: drafter heads, adapters, other
formats.

Recognised by the configuration, the names of the tensors and the names of the files alone, so that
it costs nothing. A kind of drafter is refused until a type of its name is registered in
`cases.drafter.DRAFTER_TYPES`; from then on that type drafts with the folder.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from ..cases.drafter import (
    DFLASH,
    DOMINO,
    DRAFTER_TYPES,
    DSPARK,
    EAGLE3,
    HYDRA,
    MEDUSA,
    PEAGLE,
)

PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
"""Endings of weights that are pickled; they are never opened."""

_HEADS = (
    "draft with a draft model, mtp or prompt-lookup, or measure a server that drafts with it: "
    "--specdec-engine=vllm "
    "--specdec-url=URL, without a drafter"
)


@dataclasses.dataclass(frozen=True)
class Kind:
    """A kind of folder, who packs it so where there are several, and what can be done with it
    today.
    """

    name: str
    packaging: str = ""
    cure: str = ""
    """Empty for drafters."""
    drafter: str = ""
    """The name of the type of drafter, registered or not; empty for other folders."""

    def refusal(self, folder: Path) -> str:
        """The message for a folder of this kind that was named as a model: cause; cure."""
        packed = f" ({self.packaging})" if self.packaging else ""
        if self.cure:
            return f"{folder} holds {self.name}{packed}; {self.cure}"
        if self.drafter in DRAFTER_TYPES:
            return (
                f"{folder} holds {self.name}{packed} and not a complete model; name it as the "
                f"drafter: --specdec-draft={folder}"
            )
        return (
            f"{folder} holds {self.name}{packed}, a kind of drafter that is not supported yet; "
            f"{_HEADS}"
        )


EAGLE, ASSISTANT = "eagle", "assistant"
_GEMMA_4_ASSISTANT = re.compile(r"gemma4(_unified)?_?assistant")
_IN_WORDS = {
    EAGLE3: "an EAGLE-3 head",
    EAGLE: "an EAGLE head",
    PEAGLE: "a P-EAGLE head",
    DFLASH: "a DFlash drafter",
    DSPARK: "a DSpark drafter",
    DOMINO: "a Domino drafter",
    MEDUSA: "Medusa heads",
    HYDRA: "Hydra heads",
    ASSISTANT: "an assistant that reads its target's keys and values",
}
"""Types of drafters that folders hold, by name."""

ADAPTER = Kind(
    "an adapter (LoRA or the like) and not a complete model",
    cure="merge it into its base model with peft's merge_and_unload() and name the folder of the "
    "merged model",
)
GGUF = Kind(
    "GGUF weights only", cure="name the transformers checkpoint that they were converted from"
)
PICKLED = Kind(
    "pickled weights only, which are never loaded",
    cure="convert them: model.save_pretrained(folder) writes safetensors",
)

FROZEN_KEYS = Kind(
    "a Gemma 4 assistant, which drafts on its target's keys and values",
    cure="it is not replayed: transformers and vLLM place its drafts at different positions, and "
    "in transformers they depend on drafts that were rejected (docs/drafters.md); measure a server "
    "that drafts with it by its own counters, --specdec-engine=vllm --specdec-url=URL, or draft "
    "with a draft model or prompt-lookup",
)
_SPECULATORS = {
    "eagle3": EAGLE3,
    "eagle": EAGLE,
    "peagle": PEAGLE,
    "dflash": DFLASH,
    "dspark": DSPARK,
    "medusa": MEDUSA,
}
"""By `speculators_model_type`, or the algorithm of `speculators_config`."""
_ARCHITECTURES = (
    (r"p[-_]?eagle", PEAGLE),
    (r"eagle[-_]?3(?!.*vl)", EAGLE3),
    (r"eagle(?!.*vl)", EAGLE),
    (r"dspark", DSPARK),
    (r"domino", DOMINO),
    (r"dflash", DFLASH),
    (r"medusa", MEDUSA),
    (r"hydra", HYDRA),
    (r"assistant", ASSISTANT),
)
"""By the name of the class in `architectures`, or `model_type`; the first that is found in it.
(Eagle-VL is a model.)
"""
_FIELDS = (
    ("draft_vocab_size", EAGLE3),
    ("eagle_config", EAGLE3),
    ("eagle_aux_hidden_state_layer_ids", EAGLE3),
    ("markov_rank", DSPARK),
    ("dflash_config", DFLASH),
    ("medusa_num_heads", MEDUSA),
    ("hydra_num_heads", HYDRA),
)
"""By a field that only their configurations have."""
_BY_TENSORS = "recognised by its tensors"


def kind_of(
    config: Mapping[str, Any] | None, files: Collection[str], tensors: Callable[[], Collection[str]]
) -> Kind | None:
    """The kind of a folder; None for a complete model.

    `config` is what config.json holds, None without one; `files` are the folder's file names;
    `tensors` gives the names of the tensors and is asked last, where there is a safetensors file.
    """
    if "adapter_config.json" in files:
        return ADAPTER
    if config is not None and (kind := _by_config(config)):
        return kind
    if not any(name.endswith(".safetensors") for name in files):
        if any(name.endswith(".gguf") for name in files):
            return GGUF
        return PICKLED if any(name.endswith(PICKLES) for name in files) else None
    return None if config is None else _by_tensors(tensors())


def _by_config(config: Mapping[str, Any]) -> Kind | None:
    speculators = config.get("speculators_config")
    if speculators is not None or config.get("speculators_model_type") is not None:
        inner = speculators.get("algorithm") if isinstance(speculators, Mapping) else None
        named = str(config.get("speculators_model_type") or inner)[:40]
        if named in _SPECULATORS:
            return _drafter(_SPECULATORS[named], "packed by speculators")
        return Kind(f"a drafter of the kind {named!r}", "packed by speculators")
    classes = config.get("architectures")
    words = [*(classes if isinstance(classes, list) else []), config.get("model_type")]
    names = [word.lower() for word in words if isinstance(word, str)]
    inner = config.get("dflash_config")
    if isinstance(inner, Mapping) and inner.get("projector_type") in (DSPARK, DOMINO):
        return _drafter(inner["projector_type"])
    if any(_GEMMA_4_ASSISTANT.match(word) for word in names):
        return FROZEN_KEYS
    for pattern, name in _ARCHITECTURES:
        if any(re.search(pattern, word) for word in names):
            return _drafter(name, "packed by SpecForge or AngelSlim" if name == EAGLE3 else "")
    for field, name in _FIELDS:
        if config.get(field) is not None:
            return _drafter(name, "packed by SafeAILab" if name == EAGLE3 else "")
    return None


def _drafter(name: str, packaging: str = "") -> Kind:
    return Kind(_IN_WORDS[name], packaging, drafter=name)


def _by_tensors(names: Collection[str]) -> Kind | None:
    """No causal language model has a layer `fc` of its own, nor numbered heads beside its
    layers.
    """
    if any(".lora_A." in name or ".lora_B." in name for name in names):
        return ADAPTER
    if "fc.weight" in names:
        eagle3 = any(
            name in ("d2t", "t2d") or name.startswith("midlayer.") or ".hidden_norm." in name
            for name in names
        )
        return _drafter(EAGLE3 if eagle3 else EAGLE, _BY_TENSORS)
    if any(name.startswith("hydra_mlp.") for name in names):
        return _drafter(HYDRA, _BY_TENSORS)
    if any(
        re.match(
            r"(medusa_heads?\.|lm_heads\.)?\d+\.(\d+\.linear\.)?weight$|blocks\.0\.layers\.0\.",
            name,
        )
        for name in names
    ):
        return _drafter(MEDUSA, _BY_TENSORS)
    return None
