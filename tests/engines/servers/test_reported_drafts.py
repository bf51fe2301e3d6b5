"""What servers report of their drafters, beside the drafter of a case."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from helpers.reports import request
from helpers.support import EMBEDDED

from pytest_specdec.engines.adapter_api import DrafterKind
from pytest_specdec.engines.servers.reported_drafts import contradiction

KINDS: dict[str, DrafterKind] = {
    "EAGLE3": "eagle3",
    "STANDALONE": "model",
    "NGRAM": "prompt-lookup",
}
HEAD = EMBEDDED / "text-eagle3"


def said(drafter: str, method: str, path: str | Path | None = None) -> str | None:
    named = None if path is None else str(path)
    return contradiction(request(drafter=drafter), KINDS, method=method, path=named)


@pytest.mark.parametrize(
    ("drafter", "method", "words"),
    [
        ("eagle3:heads/a", "STANDALONE", "it drafts by STANDALONE and the case drafts with eagle3"),
        ("owner/draft", "EAGLE3", "it drafts by EAGLE3 and the case drafts with model (owner/dr"),
        ("prompt-lookup", "EAGLE3", "it drafts by EAGLE3 and the case drafts with prompt-lookup"),
        ("eagle3:heads/a", "SOMETHING", "it drafts by SOMETHING and the case drafts with eagle3"),
    ],
)
def test_another_method_is_another_drafter(drafter: str, method: str, words: str) -> None:
    reason = said(drafter, method)
    assert reason is not None
    assert reason.startswith(words)


def test_a_drafter_that_only_the_server_has_is_any() -> None:
    assert [said("served", method) for method in KINDS] == [None, None, None]


def test_a_folder_of_other_weights_is_another_drafter(tmp_path: Path) -> None:
    copied = shutil.copytree(HEAD, tmp_path / "copied")
    assert said(f"eagle3:{HEAD}", "EAGLE3", HEAD) is None
    assert said(f"eagle3:{HEAD}", "EAGLE3", copied) is None
    other = EMBEDDED / "deep-eagle3"
    assert said(f"eagle3:{HEAD}", "EAGLE3", other) == (
        f"it drafts with {other} and the case names {HEAD}"
    )


def test_names_of_the_hub_are_compared() -> None:
    cached = "/cache/models--Owner--Head/snapshots/0123"
    assert said(f"eagle3:{cached}", "EAGLE3", "owner/head") is None
    assert said(f"eagle3:{cached}", "EAGLE3", "owner/other") is not None
    assert said("owner/draft", "STANDALONE", "Owner/Draft") is None
    assert said("owner/draft", "STANDALONE", "owner/other") is not None


@pytest.mark.parametrize("path", ["/models/on/another/machine", "./head", None])
def test_what_cannot_be_told_is_not_refused(path: str | None) -> None:
    assert said(f"eagle3:{HEAD}", "EAGLE3", path) is None
    assert said("eagle3", "EAGLE3", path) is None
