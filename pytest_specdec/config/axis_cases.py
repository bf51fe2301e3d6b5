"""The values of axes in the cases of a test: targets, template flags, draft sampling."""

from __future__ import annotations

from pathlib import Path

from ..cases.drafter import SUFFIX, DrafterSpec, PromptLookupSpec, RegisteredSpec
from ..cases.drafting import AS_TARGET, DraftSampling, drafting_of, effective
from ..cases.sampling import Sampling
from ..cases.template_flags import TemplateFlags
from ..common.errors import RequestError
from .axis_options import DRAFTING, TARGET, TEMPLATE, values_of
from .settings import Marker, Settings

_RENDERING = ("replay", "decode")
"""Engines that render the messages here, with a template's flags."""


def draftings(
    settings: Settings, marker: Marker, sampling: Sampling, drafter: DrafterSpec, engine: str
) -> tuple[DraftSampling, ...]:
    """How drafts are drawn, each way that changes their rounds once. Raises RequestError for an
    engine whose drafter's probabilities are given.
    """
    given = values_of(settings.value(DRAFTING, marker))
    found = dict.fromkeys(effective(drafting_of(drafting), sampling) for drafting in given)
    certain = isinstance(drafter, RegisteredSpec) and drafter.name == SUFFIX
    if list(found) == [AS_TARGET] or certain or isinstance(drafter, PromptLookupSpec):
        return (AS_TARGET,)
    if engine == "logprobs":
        raise RequestError(
            "a server's log-probabilities are those at its own settings, so --specdec-drafting "
            "cannot be applied to them; leave it out, or use --specdec-engine=replay"
        )
    return tuple(found)


def flags_of(settings: Settings, marker: Marker, engine: str) -> tuple[TemplateFlags | None, ...]:
    """The flags of the chat template. Raises RequestError for an engine that renders messages
    elsewhere.
    """
    given = values_of(settings.value(TEMPLATE, marker))
    flags = tuple(found if found is not None and found.values else None for found in given)
    if flags != (None,) and engine not in _RENDERING:
        raise RequestError(
            f"engine {engine!r} does not render messages with --specdec-template's flags, and its "
            f"texts would be others; use --specdec-engine={' or '.join(_RENDERING)}, or leave it "
            "out"
        )
    return flags


def target_names(settings: Settings, marker: Marker, targets: tuple[str, ...]) -> tuple[str, ...]:
    """What tells targets apart in the names of cases: the folder's name where there are several, or
    the marker, else the ini file, has a list, of one perhaps; otherwise nothing. So a case keeps
    its name when the command line narrows a list. Raises RequestError for two of one name.
    """
    written = marker[TARGET] if marker[TARGET] is not None else settings.ini[TARGET]
    if len(targets) == 1 and not isinstance(written, tuple):
        return ("",)
    names = tuple(Path(target).name for target in targets)
    if len({name.casefold() for name in names}) < len(names):
        raise RequestError(
            f"two of the targets {', '.join(targets)} have one name, and would share a baseline; "
            "rename the folder of one"
        )
    return tuple(f"target-{name}" for name in names)
