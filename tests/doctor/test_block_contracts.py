"""The doctor on block drafters: what is wrong in their files, or that nothing is."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from helpers.blocks import edit_config
from helpers.support import EMBEDDED

from pytest_specdec.checkpoints.checkpoint import open_checkpoint
from pytest_specdec.common.errors import RequestError
from pytest_specdec.doctor.checks import check_drafter

FAULTS = {
    "another mask token": ({"mask_token_id": 1024}, "so the mask has no embedding"),
    "ids of inputs": ({"target_layer_ids": [1, 2, 3]}, "names the layers"),
    "no rotary base": ({"rope_theta": None}, "has no rope_theta"),
    "no block": ({"block_size": None}, "has no block_size"),
}


@pytest.mark.parametrize(("fields", "message"), FAULTS.values(), ids=FAULTS)
def test_what_is_wrong_in_the_files_is_named(
    tmp_path: Path, fields: dict[str, object], message: str
) -> None:
    folder = tmp_path / "head"
    shutil.copytree(EMBEDDED / "text-dflash", folder)
    edit_config(folder, **fields)
    with pytest.raises(RequestError, match=message):
        check_drafter(open_checkpoint(EMBEDDED / "text-target"), str(folder))


def test_right_files_pass_all_checks() -> None:
    check_drafter(open_checkpoint(EMBEDDED / "text-target"), str(EMBEDDED / "text-dflash"))
