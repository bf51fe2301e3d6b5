"""What config.json of an EAGLE-3 head says of the points that programs read in several ways."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from ..checkpoints.eagle3_checks import Eagle3Files
from ..checkpoints.eagle3_config import names_states
from .eagle3_reading import Eagle3Reading

FIELD = "eagle_aux_hidden_state_layer_ids"
Ids = tuple[int, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Eagle3Spelling:
    """The spelling of a folder, as it is or as it will be once corrected."""

    packaging: str
    """`SafeAILab`, `SpecForge` or `speculators`."""
    top: Ids | None
    """Ids at the top, transformers' `hidden_states`."""
    outputs: Ids | None
    """Ids of `eagle_config`, outputs of layers."""
    says_residual: bool
    """Whether `norm_before_residual` is there."""

    @classmethod
    def of(cls, files: Eagle3Files) -> Eagle3Spelling:
        """As the folder is."""
        config, fields = files.config, files.checkpoint.config
        outputs = config.layer_ids if config.ids_are_outputs else None
        both = outputs is not None and names_states(fields)
        shifted = tuple(number + 1 for number in outputs or ())
        return cls(
            packaging=config.packaging,
            top=shifted if both else None if outputs is not None else config.layer_ids,
            outputs=outputs,
            says_residual=fields.get("norm_before_residual") is not None,
        )

    def corrected(self, written: Eagle3Reading, best: Eagle3Reading, layers: int) -> Eagle3Spelling:
        """Once the corrections that take loaders from `written` to `best` have been made."""
        changed = self
        if best.norm_before_residual != written.norm_before_residual:
            changed = dataclasses.replace(changed, says_residual=True)
        if best.states != written.states:
            top, outputs = spelled(best.states, layers)
            changed = dataclasses.replace(changed, top=top, outputs=outputs)
        return changed

    def said(self) -> str:
        """How config.json names the ids, in a few words: `[1, 4, 6] in eagle_config`."""
        parts = []
        if self.outputs is not None:
            parts.append(f"{list(self.outputs)} in eagle_config, outputs of layers")
        if self.top is not None:
            parts.append(f"{list(self.top)} at the top")
        return " and ".join(parts) or "no ids"


def spelled(states: Sequence[int], layers: int) -> tuple[Ids | None, Ids | None]:
    """The ids at the top and those of `eagle_config` that name states in every program: both, since
    programs read one or the other; none in `eagle_config` for the embeddings, which are no output.
    """
    top = tuple(sorted(min(number, layers) for number in states))
    return top, tuple(number - 1 for number in top) if top[0] else None
