"""Measures exhibits: the correct decoder once for each setting, and the broken one."""

from __future__ import annotations

import dataclasses
import functools
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.support import EMBEDDED, edit_config
from museum.edits import Edit
from museum.exhibits import Exhibit, Setting
from safetensors.torch import load_file, save_file

from pytest_specdec.acceptance.counts import Array
from pytest_specdec.cases.case import Case, TextKey, default_rule
from pytest_specdec.cases.drafter import parse_drafter
from pytest_specdec.config.options import MARGIN
from pytest_specdec.decoding.decode import Decoded
from pytest_specdec.engines.models import ModelPool
from pytest_specdec.engines.own.decode_engine import DecodeEngine
from pytest_specdec.gate.judge import judge
from pytest_specdec.gate.verdict import Verdict
from pytest_specdec.judging.comparison import Run
from pytest_specdec.records.record import Record

NEW_TOKENS = 64
PROMPTS = EMBEDDED.parent / "text" / "prompts.jsonl"


class Watched(ModelPool):
    """Decodes in batches of a given size and keeps every round."""

    batch: int
    decoded: Decoded

    def decode(self, case: Case, prompts: Any, **options: Any) -> Decoded:
        self.decoded = super().decode(case, prompts, **{"batch_size": self.batch, **options})
        return self.decoded


@dataclasses.dataclass(frozen=True)
class Measured:
    """A record, and the texts and rounds that it counts."""

    record: Record
    decoded: Decoded

    def against(self, before: Measured) -> Verdict:
        return judge(
            now=self.record.as_measured(), before=before.record.as_measured(), margin=MARGIN.default
        )

    @property
    def starts(self) -> dict[tuple[int, int], int]:
        """Accepted tokens of every counted round, by text and position of its first draft."""
        decoded = self.decoded
        return {
            (row, played.start): played.accepted
            for row, (text, rounds) in enumerate(zip(decoded.texts, decoded.rounds, strict=True))
            for played in rounds
            if played.start + decoded.k <= len(text.ids)
        }


def conditionals(before: Measured, now: Measured) -> tuple[Array, Array]:
    """Conditional acceptance by position, of the rounds that both start at the same place of the
    same text.

    Between all rounds it differs at every position, since other rounds start at other places. Of
    different texts there is no better comparison.
    """
    if now.decoded.texts != before.decoded.texts:
        return before.record.as_counts().conditional, now.record.as_counts().conditional
    old, new = before.starts, now.starts
    shared = sorted(old.keys() & new.keys())
    return _conditional([old[at] for at in shared], now.decoded.k), _conditional(
        [new[at] for at in shared], now.decoded.k
    )


def _conditional(accepted: list[int], k: int) -> Array:
    reached = (np.array(accepted)[:, None] >= np.arange(k)).sum(0)
    held = (np.array(accepted)[:, None] > np.arange(k)).sum(0)
    return np.divide(held, reached, out=np.full(k, np.nan), where=reached > 0)


class Lab:
    """Measures on every second prompt of the embedded suite; edited checkpoints go to `folder`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._prompts = folder / "prompts.jsonl"
        self._prompts.write_text("".join(PROMPTS.read_text().splitlines(keepends=True)[::2]))
        self._models = Watched("cpu")
        self._engine = DecodeEngine(self._models)
        self._checkpoint = functools.cache(self._edited)
        self.baseline = functools.cache(self.measure)

    def broken(self, exhibit: Exhibit, setting: Setting | None = None) -> Measured:
        """Decode with an exhibit's defect, by default in its own setting."""
        with pytest.MonkeyPatch.context() as patch:
            if exhibit.defect is not None:
                exhibit.defect(patch)
            return self.measure(
                setting or exhibit.setting, *([] if exhibit.edit is None else [exhibit.edit])
            )

    def measure(self, setting: Setting, *edits: Edit, seed: int = 0) -> Measured:
        """Decode as a setting says, with further edits of the drafter's checkpoint."""
        models = {role: str(EMBEDDED / f"text-{role}") for role in ("target", "draft")}
        if edits := setting.edits + edits:
            models[setting.role] = str(self._checkpoint(setting.role, edits))
        texts = TextKey(
            "museum",
            models["target"],
            self._prompts,
            setting.prompts,
            NEW_TOKENS,
            setting.temperature,
            seed,
        )
        drafter, rule = (
            models.get(setting.drafter, setting.drafter),
            default_rule(setting.temperature),
        )
        case = Case(
            texts=texts,
            drafter=parse_drafter(drafter),
            label=setting.drafter,
            k=setting.k,
            depth=setting.depth,
            rule=rule,
            margin=MARGIN.default,
        )
        self._models.batch = setting.batch
        record = Run(case, [self._engine.measure(case)], engine=self._engine.name).record
        return Measured(record, self._models.decoded)

    def _edited(self, role: str, edits: tuple[Edit, ...]) -> Path:
        """A copy of a checkpoint with edits made to its tensors."""
        folder = self._folder / "-".join([role, *(edit.__name__ for edit in edits)])
        shutil.copytree(EMBEDDED / f"text-{role}", folder)
        weights = load_file(folder / "model.safetensors")
        for edit in edits:
            edit(weights)
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
        if "lm_head.weight" in weights:
            edit_config(folder, tie_word_embeddings=False)
        return folder
