"""What an exhibit of the museum of acceptance bugs is: a defect, and the setting that it is shown in."""

from __future__ import annotations

import dataclasses

from museum import defects, edits

from pytest_specdec.cases.case import OWN_HEADS


@dataclasses.dataclass(frozen=True)
class Setting:
    """What is decoded, and how."""

    drafter: str
    """`draft`, the target's own heads, or the folder of an EAGLE-3 head in `suites/models`."""
    k: int
    depth: int
    temperature: float = 0.0
    batch: int = 40
    prompts: int | None = None
    """How many of the prompts; all unless given."""
    edits: tuple[edits.Edit, ...] = ()
    """What is done to the drafter's checkpoint, for the baseline too."""
    target: str = "text-target"
    """Its folder in `suites/models`."""

    @property
    def folder(self) -> str:
        """That of the checkpoint that drafts."""
        return {OWN_HEADS: self.target, "draft": "text-draft"}.get(self.drafter, self.drafter)


@dataclasses.dataclass(frozen=True)
class Exhibit:
    """A defect: where it was found, how it works, and where it shows."""

    name: str
    source: str
    """The issue or pull request that reports it: `owner/repository#number`."""
    mechanism: str
    setting: Setting
    defect: defects.Defect | None = None
    """Breaks the decoder."""
    edit: edits.Edit | None = None
    """Breaks the drafter's checkpoint."""
    first: int = 1
    """The first draft position that it can touch: those before are accepted as ever."""
    falls: int = 1
    """A position whose conditional acceptance falls."""
    hides: Setting | None = None
    """Where the same defect changes nothing at all."""
    target_edit: edits.Edit | None = None
    """Breaks the target's checkpoint for an EAGLE-3 head, though the target is the same model."""
    same_texts: bool = True
    """Whether greedy texts are the same."""
    gate: str = "regressed"
    """The gate's verdict."""
    doctor: str = ""
    """Part of what the doctor names: a correction, or an engine."""
