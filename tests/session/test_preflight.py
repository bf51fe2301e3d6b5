"""What is refused before a model is loaded, at a price that does not grow with the grid."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from helpers.fruit import fruit_case, with_texts

from pytest_specdec.baselines.store import BaselineStore
from pytest_specdec.session import preflight


def test_files_are_looked_at_once_for_each_pair_and_not_for_each_case(
    tiny_target: Path, tiny_draft: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = fruit_case(tiny_target, tiny_draft, tmp_path)
    looked: list[str] = []
    look = preflight.case_checkpoint
    monkeypatch.setattr(
        preflight, "case_checkpoint", lambda name: looked.append(name) or look(name)
    )

    def files_of(ks: int, temperatures: int) -> int:
        cells = [
            dataclasses.replace(with_texts(case, temperature=1 + at / 100), k=k, depth=depth)
            for at in range(temperatures)
            for k in range(1, ks + 1)
            for depth in range(3)
        ]
        looked.clear()
        preflight.check(cells, BaselineStore(tmp_path / "baselines"))
        return len(looked)

    few = files_of(ks=2, temperatures=1)
    assert files_of(ks=32, temperatures=1) == few
    assert files_of(ks=32, temperatures=9) <= few + 8 * 3  # a few for each set of texts
