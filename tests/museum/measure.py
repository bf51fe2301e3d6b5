"""Measures exhibits: the correct decoder once for each setting, and the broken one."""

from __future__ import annotations

import dataclasses
import functools
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.support import EMBEDDED
from museum.edits import Edit
from museum.exhibit import Exhibit, Setting
from safetensors.torch import load_file, save_file

from pytest_specdec.acceptance.counts import Array
from pytest_specdec.cases.case import OWN_HEADS, Case, TextKey, default_rule
from pytest_specdec.cases.drafter import parse_drafter
from pytest_specdec.checkpoints.drafter_folders import recognised
from pytest_specdec.config.options import MARGIN
from pytest_specdec.decoding.decode import Decoded
from pytest_specdec.engines.counting.oracle import Agreement
from pytest_specdec.engines.model_checks import oracle
from pytest_specdec.engines.models import ModelPool
from pytest_specdec.engines.own.decode_engine import DecodeEngine
from pytest_specdec.gate.judge import judge
from pytest_specdec.gate.verdict import Verdict
from pytest_specdec.judging.comparison import Run
from pytest_specdec.records.record import Record

NEW_TOKENS = 64
ALPHA = 1e-4
"""Error rate of one question to the oracle."""
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
    """Measures on every second prompt of the embedded suite, or with other models on prompts of
    theirs; edited checkpoints go to `folder`.
    """

    def __init__(
        self,
        folder: Path,
        *,
        models: Path = EMBEDDED,
        prompts: Path | None = None,
        new_tokens: int = NEW_TOKENS,
    ) -> None:
        self._folder, self._sound, self._new_tokens = folder, models, new_tokens
        if prompts is None:
            prompts = folder / "prompts.jsonl"
            prompts.write_text("".join(PROMPTS.read_text().splitlines(keepends=True)[::2]))
        self._prompts = prompts
        self._models = Watched("cpu")
        self.engine = DecodeEngine(self._models)
        self._checkpoint = functools.cache(self._edited)
        self.baseline = functools.cache(self.measure)

    def broken(self, exhibit: Exhibit, setting: Setting | None = None) -> Measured:
        """Decode with an exhibit's defect, by default in its own setting."""
        setting = setting or exhibit.setting
        with pytest.MonkeyPatch.context() as patch:
            if exhibit.defect is not None:
                exhibit.defect(patch)
            return self._measured(self.case(exhibit, setting), setting.batch)

    def broken_and_judged(self, exhibit: Exhibit) -> tuple[Measured, Agreement]:
        """The same, and what the oracle says of the texts and rounds; its replay has no defect."""
        measured = self.broken(exhibit)
        return measured, oracle(self.engine, self.case(exhibit), ALPHA)

    def case(self, exhibit: Exhibit, setting: Setting | None = None) -> Case:
        """That of an exhibit, with its edits of checkpoints."""
        edits = () if exhibit.edit is None else (exhibit.edit,)
        target_edits = () if exhibit.target_edit is None else (exhibit.target_edit,)
        return self._case(setting or exhibit.setting, edits, target_edits, seed=0)

    def measure(self, setting: Setting, *, seed: int = 0) -> Measured:
        """Decode as a setting says."""
        return self._measured(self._case(setting, (), (), seed), setting.batch)

    def _measured(self, case: Case, batch: int) -> Measured:
        self._models.batch = batch
        record = Run(case, [self.engine.measure(case)], engine=self.engine.name).record
        return Measured(record, self._models.decoded)

    def _case(
        self, setting: Setting, edits: tuple[Edit, ...], target_edits: tuple[Edit, ...], seed: int
    ) -> Case:
        drafting = str(self._checkpoint(setting.folder, setting.edits + edits))
        own = setting.drafter == OWN_HEADS
        target = drafting if own else str(self._checkpoint(setting.target, target_edits))
        texts = TextKey(
            "museum",
            target,
            self._prompts,
            setting.prompts,
            self._new_tokens,
            setting.temperature,
            seed,
        )
        return Case(
            texts=texts,
            drafter=recognised(parse_drafter(OWN_HEADS if own else drafting)),
            label=setting.drafter,
            k=setting.k,
            depth=setting.depth,
            rule=default_rule(setting.temperature),
            margin=MARGIN.default,
        )

    def _edited(self, name: str, edits: tuple[Edit, ...]) -> Path:
        """A checkpoint, or a copy of it with edits made to its files."""
        if not edits:
            return self._sound / name
        folder = self._folder / "-".join([name, *(edit.__name__ for edit in edits)])
        shutil.copytree(self._sound / name, folder)
        weights = load_file(folder / "model.safetensors")
        config = json.loads((folder / "config.json").read_text())
        for edit in edits:
            edit(weights, config)
        if "tie_word_embeddings" in config:
            config["tie_word_embeddings"] = "lm_head.weight" not in weights
        (folder / "config.json").write_text(json.dumps(config))
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
        return folder
