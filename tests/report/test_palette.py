"""The colours: readable on light and dark, and told apart by any eye."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import numpy as np
import pytest

from pytest_specdec.report.palette import DARK, LIGHT, SERIES, SHAPES, SIGNS, TEXT, contrast
from pytest_specdec.report.row import SEVERITY

PALETTES = pytest.mark.parametrize("colours", [LIGHT, DARK], ids=["light", "dark"])
LINEAR = np.array(
    [[0.31399, 0.63951, 0.04650], [0.15537, 0.75789, 0.08670], [0.01775, 0.10944, 0.87257]]
)
"""From linear RGB to the responses of the three cones (Hunt, Pointer, Estevez)."""
MISSING = {
    "protanopia": np.array([[0, 1.05118, -0.05116], [0, 1, 0], [0, 0, 1]]),
    "deuteranopia": np.array([[1, 0, 0], [0.95131, 0, 0.04867], [0, 0, 1]]),
}
"""What the two other cones leave of the missing one (Vienot, Brettel and Mollon, 1999)."""


def test_contrast_is_that_of_the_standard() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.478, abs=1e-3)
    assert contrast("#ffffff", "#777777") == contrast("#777777", "#ffffff")


@PALETTES
def test_words_have_the_contrast_of_level_aa(colours: Mapping[str, str]) -> None:
    for name, ground in itertools.product(TEXT, ("paper", "panel")):
        assert contrast(colours[name], colours[ground]) >= 4.5, (name, ground)


@PALETTES
def test_curves_stand_out_from_the_page(colours: Mapping[str, str]) -> None:
    for name in SERIES:
        assert contrast(colours[name], colours["paper"]) >= 3, name


@PALETTES
@pytest.mark.parametrize("blindness", MISSING)
def test_the_first_two_curves_differ_for_eyes_with_two_cones(
    colours: Mapping[str, str], blindness: str
) -> None:
    """Now and the baseline, and drafting and verifying: the pairs that are compared most."""
    first, second = (_seen(colours[name], MISSING[blindness]) for name in SERIES[:2])
    assert np.linalg.norm(first - second) > 0.25
    assert SHAPES[0] != SHAPES[1]


def _seen(colour: str, cones: np.ndarray) -> np.ndarray:
    parts = np.array([int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)])
    return np.linalg.inv(LINEAR) @ cones @ LINEAR @ parts**2.2


def test_every_verdict_has_a_sign_of_its_own() -> None:
    assert set(SIGNS) == set(SEVERITY)
    assert len({sign for sign, _ in SIGNS.values()}) == len(SIGNS)
    assert {colour for _, colour in SIGNS.values()} <= set(LIGHT)


def test_light_and_dark_have_the_same_names() -> None:
    assert LIGHT.keys() == DARK.keys()
