"""Texts that were sampled and that no baseline holds yet, kept between runs: a first run's, or an
interrupted one's.

One file for each set of texts that tests ask for, in a folder that git ignores. What was kept is
used only for the very target, tokenizer, template, sampling settings, seed, device and number
format. These files are a convenience: one that is damaged or cannot be written is reported and
never an error.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from ..baselines.store import load, write_all
from ..baselines.writing import dumps
from ..cases.case import TextKey
from ..cases.prompts import Prompt, read_prompts
from ..common.errors import BaselineError
from ..records.record import SCHEMA
from ..records.text_set import TextSet

MOST_FILES, MOST_BYTES = 64, 1 << 26
"""What is kept in all; beyond it the files that were written first are deleted."""

Texts = dict[str, tuple[int, ...]]
"""New tokens by prompt key."""


class KnownTexts(NamedTuple):
    """The texts of one key that need not be sampled."""

    texts: Texts
    """Stored with the baselines, or else kept."""
    kept: Texts
    """Those of them that are kept only."""
    missing: list[int]
    """Positions of the prompts whose texts are yet to be sampled."""


def wanted_texts(key: TextKey, *, target: str, tokenizer: str, template: str | None) -> TextSet:
    """The set of texts that a key asks of a target, without a text; `target` and `tokenizer` are
    fingerprints, `template` is a hash.
    """
    return TextSet(
        schema=SCHEMA,
        target=target,
        tokenizer=tokenizer,
        template=template,
        new_tokens=key.new_tokens,
        temperature=key.temperature,
        seed=key.seed,
        texts={},
        top_k=key.top_k,
        top_p=key.top_p,
        processors=key.processors_name,
    )


class KeptTexts:
    """The kept texts of one environment, under `folder`/texts; None keeps nothing."""

    def __init__(self, folder: Path | None, environment: str) -> None:
        self._folder = None if folder is None else folder / "texts"
        self._environment = hashlib.sha256(environment.encode()).hexdigest()[:8]
        self._notes: dict[TextKey, list[str]] = {}

    def path(self, key: TextKey) -> Path | None:
        """Where the texts of a key are kept."""
        return (
            None
            if self._folder is None
            else self._folder / key.suite / f"{key.name}-{self._environment}.json"
        )

    def notes(self, key: TextKey) -> tuple[str, ...]:
        """What went wrong with the texts of a key."""
        return tuple(self._notes.get(key, ()))

    def known(
        self, key: TextKey, wanted: TextSet, prompts: Sequence[Prompt], stored: TextSet | None
    ) -> KnownTexts:
        """What is known of a key's texts. What is kept is deleted once baselines hold it all."""
        texts = dict(stored.texts) if stored is not None and stored.fits(wanted) else {}
        missing = [row for row, prompt in enumerate(prompts) if prompt.key not in texts]
        if not missing and key.prompt_limit is None:
            self.forget(key)
        kept = self.read(key, wanted) if missing else {}
        missing = [row for row in missing if prompts[row].key not in kept]
        return KnownTexts(texts=kept | texts, kept=kept, missing=missing)

    def read(self, key: TextKey, wanted: TextSet) -> Texts:
        """The kept texts that fit, by prompt key; none from a file that is missing, damaged or of
        something else.
        """
        path = self.path(key)
        if path is None:
            return {}
        try:
            stored = load(path, TextSet)
        except BaselineError:
            self._note(key, f"kept texts in {path} were damaged and have been sampled again")
            return {}
        return dict(stored.texts) if stored is not None and stored.fits(wanted) else {}

    def write(self, key: TextKey, wanted: TextSet, texts: Texts) -> None:
        """Replace what is kept for a key, without texts of prompts that left its file."""
        path = self.path(key)
        if path is None or self._folder is None:
            return
        keys = {prompt.key for prompt in read_prompts(key.prompts)}
        kept = {name: text for name, text in texts.items() if name in keys}
        try:
            write_all(
                {
                    self._folder / ".gitignore": "*\n",
                    path: dumps(msgspec.structs.replace(wanted, texts=kept)),
                }
            )
        except BaselineError as error:
            self._note(key, f"sampled texts could not be kept for the next run: {error}")
        else:
            self._prune(path)

    def forget(self, key: TextKey) -> None:
        """Delete what is kept for a key: a baseline holds it now."""
        if (path := self.path(key)) is not None:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)

    def _prune(self, newest: Path) -> None:
        assert self._folder is not None
        with contextlib.suppress(OSError):
            files = [
                (path.stat().st_mtime_ns, path, path.stat().st_size)
                for path in self._folder.rglob("*.json")
            ]
            others = sorted((file for file in files if file[1] != newest), reverse=True)
            room = MOST_BYTES - newest.stat().st_size
            for rank, (_, path, size) in enumerate(others, 2):
                room -= size
                if rank > MOST_FILES or room < 0:
                    path.unlink(missing_ok=True)

    def _note(self, key: TextKey, note: str) -> None:
        self._notes.setdefault(key, []).append(note)
