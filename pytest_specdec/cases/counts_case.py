"""The case of counts that a test hands over: its name and k are known, its models are not."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

from ..common.errors import RequestError
from .case import Case, TextKey
from .drafter import DraftModelSpec

COUNTS = "counts"
"""Stands for the engine of such counts, in records and reports."""
NOT_STATED = "not stated"
"""Stands for the models, the rule and the environment of such counts."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+=@-]{0,199}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class CountsCase(Case):
    """A case without models, prompts and sampling settings. It is judged as sampled: nothing is
    known that would make two runs equal.
    """

    given_name: str

    @classmethod
    def of(cls, name: str, *, suite: str, k: int, margin: float) -> CountsCase:
        """The case of a gate's name, which must be one, see `checked_name`."""
        texts = TextKey(
            suite=suite,
            target=NOT_STATED,
            prompts=Path(NOT_STATED),
            prompt_limit=None,
            new_tokens=1,
            temperature=1.0,
            seed=0,
        )
        return cls(
            texts=texts,
            drafter=DraftModelSpec(NOT_STATED),
            label=name,
            k=k,
            depth=0,
            rule=NOT_STATED,
            margin=margin,
            engine=COUNTS,
            given_name=name,
        )

    @property
    def name(self) -> str:
        """As the test names the gate: the file stem of its baseline."""
        return self.given_name

    @property
    def describes_models(self) -> bool:
        return False


def checked_name(name: object) -> str:
    """A gate's name. Raises RequestError for one that cannot be a file's on every system."""
    if not isinstance(name, str) or not _NAME.fullmatch(name) or name.endswith("."):
        text = repr(name)
        shown = text if len(text) <= 60 else text[:57] + "..."
        raise RequestError(
            f"{shown} cannot name a gate, whose baseline is the file NAME.json; use up to 200 "
            "letters, digits and ._+=@-, a letter or digit first"
        )
    return name
