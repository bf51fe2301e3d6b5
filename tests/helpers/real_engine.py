"""Real engines in this process on the embedded pair; skipped, with what to do, where an engine is
not installed.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from helpers.support import EMBEDDED
from pytest_specdec.cases.case import Case, TextKey
from pytest_specdec.cases.drafter import DraftModelSpec
from pytest_specdec.engines.external import ExternalEngine
from pytest_specdec.engines.models import ModelPool

PROMPTS = EMBEDDED.parent / "engines" / "prompts.jsonl"
TARGET, DRAFT = (str(EMBEDDED / f"text-{role}") for role in ("target", "draft"))
PACKAGES = {
    "llama-cpp": "xllamacpp",
    "onnxruntime": "onnxruntime_genai",
    "openvino": "openvino_genai",
    "vllm": "vllm",
}
FORMS = {"llama-cpp": "gguf", "onnxruntime": "onnx", "openvino": "openvino"}


def installed(name: str) -> bool:
    return importlib.util.find_spec(PACKAGES[name]) is not None


def real(name: str) -> ExternalEngine:
    """An engine that is here, and its form of the pair."""
    if not installed(name):
        pytest.skip(
            f"{PACKAGES[name]} is not installed here; make engine-{name} runs this in an "
            "environment of its own"
        )
    if not Path(TARGET, FORMS[name]).is_dir():
        pytest.skip(
            f"the pair has no {FORMS[name]} form; python suites/models/convert.py {FORMS[name]}"
        )
    return ExternalEngine(name, ModelPool("cpu"))


def case(
    name: str,
    *,
    k: int = 3,
    temperature: float = 0.0,
    draft: str = DRAFT,
    prompts: int = 6,
    seed: int = 0,
) -> Case:
    texts = TextKey("engines", TARGET, PROMPTS, prompts, 64, temperature, seed)
    return Case(
        texts=texts,
        drafter=DraftModelSpec(draft),
        label="text-draft",
        k=k,
        depth=0,
        rule="rejection" if temperature else "greedy",
        margin=0.005,
        engine=name,
    )
