"""Without hypothesis or torch, the names say in one message which extra brings them."""

from __future__ import annotations

import subprocess
import sys

import pytest

BLOCKED = """
import importlib.abc, sys

class Blocked(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {names!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Blocked())
"""


def without(names: set[str], code: str) -> subprocess.CompletedProcess[str]:
    """Run Python code as if these packages were not installed."""
    command = [sys.executable, "-c", BLOCKED.format(names=names) + code]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.parametrize(
    ("missing", "name"),
    [
        ("hypothesis", "assert_lossless"),
        ("torch", "assert_lossless"),
        ("torch", "flat_batch"),
        ("torch", "assert_q_contract"),
    ],
)
def test_a_missing_package_is_named_with_the_extra(missing: str, name: str) -> None:
    run = without({missing}, f"from pytest_specdec.lossless import {name}")
    assert run.returncode == 1
    lines = run.stderr.splitlines()
    assert lines[-1] == (
        f"pytest_specdec.common.errors.RequestError: {name} needs {missing}, which is not "
        "installed; "
        "run: pip install 'pytest-specdec[lossless]'"
    )
    assert len(lines) < 10


def test_the_extra_is_enough() -> None:
    """Neither transformers nor safetensors is needed for a sampler."""
    code = """
import torch
from pytest_specdec.lossless import assert_lossless

def verify(p, q, drafts):
    own = torch.multinomial(p, 1)[:, 0]
    accepted = int((own[:-1] == drafts).long().cumprod(0).sum())
    return own[: accepted + 1].tolist()

print(assert_lossless(verify, max_examples=3))
"""
    run = without({"transformers", "safetensors", "tokenizers"}, code)
    assert run.stdout == "verify is lossless: exact in 3 rounds\n", run.stderr


def test_a_missing_module_of_our_own_is_not_taken_for_a_missing_package() -> None:
    code = """
import importlib
from pytest_specdec import lossless
lossless._HOMES["nothing"] = "nowhere"
lossless.nothing
"""
    run = without(set(), code)
    assert (
        run.stderr.splitlines()[-1]
        == "ModuleNotFoundError: No module named 'pytest_specdec.lossless.nowhere'"
    )
