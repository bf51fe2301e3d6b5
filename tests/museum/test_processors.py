"""Decoders with defects under logits processors, and right ones: exactly, by every path."""

from __future__ import annotations

import pytest
from museum.processor_defects import RIGHT, WRONG

from pytest_specdec.lossless import assert_lossless_generation


@pytest.mark.parametrize("name", RIGHT)
def test_a_right_decoder_passes(name: str) -> None:
    decoder, processor = RIGHT[name]
    found = assert_lossless_generation(decoder(processor), processors=processor, max_examples=2)
    assert str(found).endswith("of up to 3 tokens is exact on 2 toy models")


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_decoder_is_found(name: str) -> None:
    decoder, processor, _ = WRONG[name]
    with pytest.raises(AssertionError, match=r"is not lossless \(exact\): it emits .* instead of"):
        assert_lossless_generation(decoder(processor), processors=processor)
