"""EAGLE-3 heads for targets of many families: the definition, decode and replay agree."""

from __future__ import annotations

from pathlib import Path

import pytest
from decoding.drafters.test_eagle3 import check_probabilities
from decoding.drafters.test_eagle3_rounds import K, steps_of
from helpers.eagle3 import write_head
from helpers.eagle3_reference import Reference
from helpers.families import FAMILIES, LAYERS, load_family, make_family
from helpers.serial_drafting import check_greedy_rounds
from helpers.support import edit_config
from helpers.tiers import some

from pytest_specdec.decoding.loading import LoadedModel

IDS = (0, 2, LAYERS)
"""The states that heads read: embeddings, and the last layer's output before the norm, too."""
OTHERS = [name for name in FAMILIES if name not in ("llama", "qwen3")]
DECODED = ["mistral", "gemma2", "gemma3", "qwen3_moe", "gpt_oss", "gpt2", "bloom"]
SCALED = ["gemma2", "gemma3_text", "gemma3"]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, LoadedModel]:
    folder = tmp_path_factory.mktemp("families")
    return {name: make_family(FAMILIES[name], folder / name) for name in OTHERS}


@pytest.mark.parametrize("name", OTHERS)
def test_every_acceptance_probability_is_that_of_the_definition(
    models: dict[str, LoadedModel], tmp_path: Path, name: str
) -> None:
    target, family = models[name], FAMILIES[name]
    head = head_for(target, tmp_path)
    check_probabilities(target, head, IDS, family.layers(target.model))


@pytest.mark.parametrize("name", some(DECODED, 2))
def test_greedy_rounds_are_those_of_serial_decoding(
    models: dict[str, LoadedModel], tmp_path: Path, name: str
) -> None:
    family, folder = FAMILIES[name], models[name].checkpoint.folder
    target, head = load_family(folder, family.dtype), head_for(models[name], tmp_path)
    reference = Reference(head, target.model, IDS, family.layers(target.model))
    check_greedy_rounds(target, head, steps_of(reference), K)


@pytest.mark.parametrize("name", SCALED)
def test_shared_embeddings_are_read_as_stored_and_not_as_the_target_scales_them(
    models: dict[str, LoadedModel], tmp_path: Path, name: str
) -> None:
    """So SafeAILab, SpecForge and speculators train, and vLLM drafts. With a norm over the
    embedding the two differ by its epsilon alone, so this head has a large one.
    """
    target, family = models[name], FAMILIES[name]
    head = edit_config(head_for(target, tmp_path), rms_norm_eps=0.1)
    check_probabilities(target, head, IDS, family.layers(target.model))


def head_for(target: LoadedModel, folder: Path) -> Path:
    return write_head(folder / "head", target.checkpoint.folder, ids=IDS)
