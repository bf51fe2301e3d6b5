"""The token ids that end a target's texts, by its files, and the fingerprint that they are part
of.
"""

from __future__ import annotations

from typing import Any

from .checkpoint import Checkpoint
from .json_files import read_json


def configured_ends(checkpoint: Checkpoint) -> frozenset[int]:
    """By config.json."""
    fields = (checkpoint.config.get("eos_token_id"), checkpoint.text_config.get("eos_token_id"))
    return frozenset().union(*map(token_ids, fields))


def end_ids(checkpoint: Checkpoint) -> frozenset[int]:
    """Those that texts end by: of generation_config.json or, without one, of config.json.

    Raises RequestError for a file that is not JSON.
    """
    path = checkpoint.folder / "generation_config.json"
    if not path.is_file():
        return configured_ends(checkpoint)
    defaults = read_json(path, "save the checkpoint again")
    return token_ids(defaults.get("eos_token_id") if isinstance(defaults, dict) else None)


def target_fingerprint(checkpoint: Checkpoint) -> str:
    """Of all that decides the texts that a target emits: its model and, where
    generation_config.json names other ends than config.json, these. Without, it is the model's
    fingerprint, which covers config.json.
    """
    ends = end_ids(checkpoint)
    if not ends or ends == configured_ends(checkpoint):
        return checkpoint.model_fingerprint
    return f"{checkpoint.model_fingerprint}-eos{'.'.join(map(str, sorted(ends)))}"


def token_ids(value: Any) -> frozenset[int]:
    """Token ids of a field that holds one, a list of them, or none."""
    values = value if isinstance(value, list | tuple) else [value]
    return frozenset(
        token for token in values if isinstance(token, int) and not isinstance(token, bool)
    )
