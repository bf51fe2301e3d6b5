"""docs/test-your-rejection-sampler.md on the real thing: vLLM's rejection sampler, with the kernels
of its CPU build.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from typing import Any

import pytest
from helpers.support import ROOT

if importlib.util.find_spec("vllm") is None:
    pytest.skip("vllm is not installed here; make engines-vllm runs this", allow_module_level=True)
DRAWS = 20_000


@pytest.fixture
def example() -> Iterator[dict[str, Any]]:
    """The page's example, on the CPU."""
    from vllm.platforms import current_platform

    current_platform.import_kernels()
    current_platform.register_triton_kernel_overrides()
    page = (ROOT / "docs" / "test-your-rejection-sampler.md").read_text()
    (code,) = re.findall(r"```text\n(import types\n.*?)```", page, re.S)
    names: dict[str, Any] = {}
    exec(compile(code, "example", "exec"), names)
    return names


def test_it_passes_with_ragged_rows(example: dict[str, Any]) -> None:
    from pytest_specdec.lossless import assert_lossless, flat_batch

    checked = assert_lossless(flat_batch(example["vllm_rejection_sample"]), draws=DRAWS)
    assert (checked.method, checked.batches) == ("sampled", 3)
    assert "kernel" in checked.reason


def test_tokens_of_other_requests_are_found_where_a_row_has_no_drafts(
    example: dict[str, Any],
) -> None:
    """As if bonus tokens stood in another order for requests without drafts; with equal numbers it
    is right.
    """
    import torch

    from pytest_specdec.lossless import assert_lossless, flat_batch

    def shifted(
        draft_token_ids,
        num_draft_tokens,
        max_spec_len,
        cu_num_draft_tokens,
        draft_probs,
        target_logits,
        bonus_token_ids,
    ) -> Any:
        none = torch.tensor(num_draft_tokens)[:, None] == 0
        bonus = torch.where(none, bonus_token_ids.roll(1, 0), bonus_token_ids)
        flat = (
            draft_token_ids,
            num_draft_tokens,
            max_spec_len,
            cu_num_draft_tokens,
            draft_probs,
            target_logits,
            bonus,
        )
        return example["vllm_rejection_sample"](*flat)

    with pytest.raises(AssertionError, match="with 0 drafts beside rows with other numbers"):
        assert_lossless(flat_batch(shifted), draws=DRAWS)
