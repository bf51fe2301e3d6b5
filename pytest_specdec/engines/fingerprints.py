"""Fingerprints of what an engine measured with: its drafter and the chat template of its target."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from ..cases.case import LOOKUP, SERVED, Case
from ..cases.prompts import Prompt
from ..checkpoints.checkpoint import Checkpoint
from ..common.bounded_files import read_bytes, read_text
from .adapter_api import Progress

if TYPE_CHECKING:
    from ..decoding.loading import LoadedModel


def drafter_fingerprint(
    case: Case, checkpoint: Checkpoint | None, ngrams: tuple[int, int] | None, report: Progress
) -> str:
    """Of the weights that draft, in `checkpoint`: the draft model's, the EAGLE-3 head's, or for own
    heads the target's; None where they are at a server.

    Prompt lookup has no weights and is known by the n-grams that it looks up.
    """
    if case.uses_lookup:
        return _lookup_fingerprint(ngrams)
    if checkpoint is None:
        return SERVED
    if case.uses_own_heads:
        return checkpoint.heads_fingerprint
    checkpoint.hash_now(report)
    heads = [checkpoint.heads_fingerprint] if case.depth else []
    return "-".join([checkpoint.model_fingerprint, *heads])


def template_of(target: LoadedModel, prompts: Sequence[Prompt]) -> str | None:
    """Of the loaded target's chat template; None where no prompt goes through it."""
    if not any(prompt.messages for prompt in prompts):
        return None
    return _template_fingerprint(target.tokenizer.chat_template) + _flags_of(prompts)


def template_in(checkpoint: Checkpoint | None, prompts: Sequence[Prompt]) -> str | None:
    """Of the chat template in the target's files, the same as `template_of` once it is loaded;
    `served` where the files are not at hand, None where no prompt goes through it.
    """
    if not any(prompt.messages for prompt in prompts):
        return None
    if checkpoint is None:
        return SERVED
    template = checkpoint.folder / "chat_template.jinja"
    if template.is_file():
        return _template_fingerprint(read_text(template)) + _flags_of(prompts)
    config = checkpoint.folder / "tokenizer_config.json"
    settings: Any = msgspec.json.decode(read_bytes(config)) if config.is_file() else {}
    return _template_fingerprint(settings.get("chat_template")) + _flags_of(prompts)


def _flags_of(prompts: Sequence[Prompt]) -> str:
    """Of what the template is given beside the messages; empty without.

    A system message that a suite's flags add is in the messages themselves.
    """
    given = sorted({prompt.variables for prompt in prompts})
    if not any(given):
        return ""
    return "-" + hashlib.sha256(repr(given).encode()).hexdigest()[:8]


def _template_fingerprint(template: str | Sequence[Mapping[str, str]] | object | None) -> str:
    """A file may list named templates, which transformers makes a mapping of."""
    if isinstance(template, list):
        template = {named["name"]: named["template"] for named in template}
    return hashlib.sha256(str(template).encode()).hexdigest()[:16]


def _lookup_fingerprint(ngrams: tuple[int, int] | None) -> str:
    """`prompt-lookup-2` for n-grams of at most 2 tokens, `prompt-lookup-2-4` for those of 2 to
    4.
    """
    if ngrams is None:
        return f"{LOOKUP}-{SERVED}"
    least, most = ngrams
    return f"{LOOKUP}-{most}" if least == 1 else f"{LOOKUP}-{least}-{most}"
