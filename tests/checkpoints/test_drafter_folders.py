"""A folder is drafted with by the type that claims it: by its kind, or by what another package
recognises.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from helpers.packages import installed
from helpers.support import ROOT
from safetensors.numpy import save_file

from pytest_specdec.cases.drafter import (
    DRAFTER_TYPES,
    DraftModelSpec,
    OwnHeadsSpec,
    RegisteredSpec,
)
from pytest_specdec.checkpoints.checkpoint import open_checkpoint
from pytest_specdec.checkpoints.drafter_folders import recognised
from pytest_specdec.common.errors import RequestError

EAGLE = {"model_type": "eagle"}
RECOGNISER = "def recognises(config):\n    return config.get('drafter') == 'table'"


@pytest.fixture
def packages(tmp_path: Path) -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def install(packages: ExitStack, folder: Path, name: str, source: str = "") -> None:
    """A package that registers the type of its name."""
    points = {DRAFTER_TYPES.group: f"{name} = of_{name}"}
    packages.enter_context(installed(folder / f"site-{name}", f"of_{name}", source, points))


def folder_of(folder: Path, config: dict[str, object]) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    save_file({"table": np.zeros(4, dtype="float32")}, folder / "heads.safetensors")
    return folder


def test_a_kind_of_folder_is_refused_until_a_type_of_its_name_is_registered(
    packages: ExitStack, tmp_path: Path
) -> None:
    folder = folder_of(tmp_path / "heads", EAGLE)
    named = DraftModelSpec(str(folder))
    assert recognised(named) == named
    with pytest.raises(RequestError, match=r"holds an EAGLE head, a kind .* not supported yet"):
        open_checkpoint(folder)
    install(packages, tmp_path, "eagle")
    assert recognised(named) == RegisteredSpec("eagle", folder.resolve())
    with pytest.raises(RequestError) as refused:
        open_checkpoint(folder)
    assert str(refused.value) == (
        f"{folder} holds an EAGLE head and not a complete model; name it as the drafter: "
        f"--specdec-draft={folder}"
    )


def test_a_built_in_type_takes_one_line_and_is_not_imported_to_recognise_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    types = DRAFTER_TYPES.built_in | {"eagle": "pytest_specdec.no_such_module"}
    monkeypatch.setattr(DRAFTER_TYPES, "built_in", types)
    folder = folder_of(tmp_path / "heads", EAGLE)
    assert recognised(DraftModelSpec(str(folder))) == RegisteredSpec("eagle", folder.resolve())


def test_a_type_of_another_package_recognises_its_folders(
    packages: ExitStack, tmp_path: Path
) -> None:
    table = folder_of(tmp_path / "table", {"drafter": "table"})
    other = folder_of(tmp_path / "other", {"drafter": "other"})
    install(packages, tmp_path, "table", RECOGNISER)
    install(packages, tmp_path, "silent", "recognises = None")
    install(packages, tmp_path, "none", "")
    assert recognised(DraftModelSpec(str(table))) == RegisteredSpec("table", table.resolve())
    assert recognised(DraftModelSpec(str(other))) == DraftModelSpec(str(other))


def test_a_folder_that_two_types_claim_is_refused(packages: ExitStack, tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "heads", EAGLE | {"drafter": "table"})
    install(packages, tmp_path, "eagle")
    install(packages, tmp_path, "table", RECOGNISER)
    with pytest.raises(RequestError) as refused:
        recognised(DraftModelSpec(str(folder)))
    assert str(refused.value) == (
        f"{folder} is a drafter of the types eagle and table; name the one that is meant: "
        f"eagle:{folder}"
    )


@pytest.mark.parametrize("content", ["{", "[]", None])
def test_a_folder_that_cannot_be_read_is_left_to_be_refused_when_it_is_opened(
    packages: ExitStack, tmp_path: Path, content: str | None
) -> None:
    install(packages, tmp_path, "table", RECOGNISER)
    folder = tmp_path / "broken"
    folder.mkdir()
    if content is not None:
        (folder / "config.json").write_text(content)
    assert recognised(DraftModelSpec(str(folder))) == DraftModelSpec(str(folder))


def test_what_is_no_folder_here_stays_as_it_is(packages: ExitStack, tmp_path: Path) -> None:
    install(packages, tmp_path, "table", RECOGNISER)
    for drafter in (OwnHeadsSpec(), DraftModelSpec("owner/name"), RegisteredSpec("table", None)):
        assert recognised(drafter) == drafter


def test_a_folder_is_recognised_without_torch(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "heads", EAGLE)
    code = (
        "import sys\n"
        "from pytest_specdec.cases.drafter import parse_drafter\n"
        "from pytest_specdec.checkpoints.drafter_folders import recognised\n"
        f"recognised(parse_drafter({str(folder)!r}))\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, timeout=60)
