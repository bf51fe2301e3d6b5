"""A trained head and a target whose residual stream is rotated, as QuaRot does before it quantises:
the target's own distribution is the same, and the head's drafts are not accepted.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import doctor_proof
import torch
from helpers.eagle3 import edit_tensors
from helpers.misread import MODELS
from safetensors.torch import load_file, save_file

from pytest_specdec.cases.case import Sampling
from pytest_specdec.decoding.loading import load_model
from pytest_specdec.doctor.diagnosis import DoctorOutcome, diagnose
from pytest_specdec.doctor.eagle3_patient import Eagle3Patient

READS = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")
GATED = ("mlp.gate_proj", "mlp.up_proj")
WRITES = ("self_attn.o_proj", "mlp.down_proj")


def rotated(folder: Path, turn: torch.Tensor) -> Path:
    """The embedded target with x turned to x @ turn everywhere between its layers."""
    shutil.copytree(MODELS / "text-target", folder, ignore=shutil.ignore_patterns("openvino"))
    config = json.loads((folder / "config.json").read_text())
    layers = config["num_hidden_layers"]
    config = {name: value for name, value in config.items() if "mtp" not in name}
    (folder / "config.json").write_text(json.dumps(config | {"tie_word_embeddings": False}))
    held = {name: tensor.double() for name, tensor in load_file(folder / FILE).items()}
    embeddings = held["model.embed_tokens.weight"]
    made = {
        "model.embed_tokens.weight": embeddings @ turn,
        "model.norm.weight": torch.ones_like(held["model.norm.weight"]),
        "lm_head.weight": embeddings * held["model.norm.weight"] @ turn,
    }
    for layer in range(layers):
        prefix = f"model.layers.{layer}."
        for norm, names in (("input_layernorm", READS), ("post_attention_layernorm", GATED)):
            scale = held[f"{prefix}{norm}.weight"]
            made[f"{prefix}{norm}.weight"] = torch.ones_like(scale)
            for name in names:
                made[f"{prefix}{name}.weight"] = held[f"{prefix}{name}.weight"] * scale @ turn
        for name in WRITES:
            made[f"{prefix}{name}.weight"] = turn.T @ held[f"{prefix}{name}.weight"]
    save_file({name: tensor.float().contiguous() for name, tensor in made.items()}, folder / FILE)
    return folder


FILE = "model.safetensors"


def test_the_states_are_turned_back(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(3)
    turn = torch.linalg.qr(torch.randn(128, 128, generator=generator).double()).Q
    target = load_model(str(rotated(tmp_path / "target", turn)), "cpu")
    texts = doctor_proof.texts_of("text-target", 0, 16, 32)
    before = load_file(MODELS / "text-target" / FILE)["model.embed_tokens.weight"]
    head = Path(shutil.copytree(MODELS / "text-eagle3", tmp_path / "head"))
    edit_tensors(head, embed_tokens__weight=before.clone())
    patient = Eagle3Patient(target, head, texts, Sampling(1.0), 3)
    found = diagnose(patient, patient.nothing)
    assert found.outcome is DoctorOutcome.MISREAD
    assert patient.words(found.findings.best) == "the target's states turned back"
    assert (
        "multiply each block of columns by the same rotation"
        in patient.cures(found.findings.best)[0]
    )
    right = doctor_proof.examined(
        MODELS / "text-eagle3", "text-target", count=16, new_tokens=32, k=3
    )
    length = right.findings.length(right.findings.written)
    assert abs(found.findings.length(found.findings.best) - length) < 1e-3
