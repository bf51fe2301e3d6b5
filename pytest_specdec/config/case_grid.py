"""From settings and a marker to the grid of cases that a test function runs over."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path

from ..cases.case import (
    LOOKUP,
    MEASURE,
    OWN_HEADS,
    REPLAYING,
    SERVED,
    Case,
    TextKey,
    checked_rule,
    is_lossy,
)
from ..cases.drafter import AddedDrafter, parse_drafter
from ..cases.drafter_extensions import check_use, recognised
from ..cases.rules import is_replayable
from ..common.errors import RequestError
from .settings import Marker, Settings, first

DEFAULT_K = (8,)
DEFAULT_NEW_TOKENS = 128
DEFAULT_MARGIN = 0.005


def cases(settings: Settings, marker: Marker, test_folder: Path) -> tuple[Case, ...]:
    """Every (k, depth) cell of one test, command line over marker over ini over default.

    Empty when the target's own heads are asked for at depth 0 only, or prompt lookup at others.
    Raises RequestError for a missing target, drafter or prompt file, or a rule that does not go
    with the temperature or engine.
    """
    line, ini = settings.command_line, settings.ini
    drafter, label = _drafter(settings, marker, test_folder)
    depths = first(
        line.depth, marker.depth, ini.depth, default=(1,) if drafter == OWN_HEADS else (0,)
    )
    if drafter in (OWN_HEADS, LOOKUP):
        depths = tuple(depth for depth in depths if (depth > 0) == (drafter == OWN_HEADS))
    temperature = first(line.temperature, marker.temperature, ini.temperature, default=1.0)
    texts = TextKey(
        suite=suite_name(test_folder, settings.root),
        target=_target(settings, marker, test_folder),
        prompts=_prompts(marker, test_folder),
        prompt_limit=first(line.prompts, marker.prompt_limit, ini.prompts, default=None),
        new_tokens=first(
            line.new_tokens, marker.new_tokens, ini.new_tokens, default=DEFAULT_NEW_TOKENS
        ),
        temperature=temperature,
        seed=settings.scalar("seed", default=0),
        top_k=first(line.top_k, marker.top_k, ini.top_k, default=0),
        top_p=first(line.top_p, marker.top_p, ini.top_p, default=1.0),
        served=settings.engine == "logprobs",
    )
    engine = settings.engine
    judged = first(line.judged, marker.judged, ini.judged, default=None)
    if judged is not None:
        _check_judged(drafter, engine)
    rule = _rule(marker.rule, temperature, engine)
    margin = first(line.margin, marker.margin, ini.margin, default=DEFAULT_MARGIN)
    costs = _costs(settings, marker, test_folder)
    check_use(
        parse_drafter(drafter),
        engine,
        judged=judged is not None,
        measured_costs=costs == MEASURE,
    )
    ks = first(line.k, marker.k, ini.k, default=DEFAULT_K)
    return tuple(
        Case(
            texts=texts,
            drafter=drafter,
            label=label,
            k=k,
            depth=depth,
            rule=rule,
            margin=margin,
            costs=costs,
            engine=engine,
            judged=judged,
        )
        for k, depth in itertools.product(ks, depths)
    )


def suite_name(test_folder: Path, root: Path) -> str:
    """The test folder below the root, without a leading `suites`: the baselines' subfolder."""
    try:
        parts = test_folder.relative_to(root).parts
    except ValueError:
        parts = (test_folder.name,)
    parts = parts[1:] if parts[:1] == ("suites",) else parts
    return "/".join(parts) or "main"


def locate(name: str, folder: Path) -> str:
    """A path below `folder` if there is one, made absolute; else the name unchanged, a hub id
    perhaps.
    """
    path = Path(name).expanduser()
    if (folder / path).is_dir():
        return str((folder / path).resolve())
    looks_like_hub_id = not path.is_absolute() and name.count("/") == 1 and name[0] not in "./~"
    return name if looks_like_hub_id else str((folder / path).resolve())


def _target(settings: Settings, marker: Marker, test_folder: Path) -> str:
    line, ini = settings.command_line.target, settings.ini.target
    for name, folder in (
        (line, settings.invoked_from),
        (marker.target, test_folder),
        (ini, settings.root),
    ):
        if name is not None:
            return locate(name, folder)
    if settings.url is not None:
        return SERVED
    raise RequestError(
        f"no target model for the tests in {test_folder}; pass --specdec-target=PATH or set it in "
        "the marker"
    )


def _drafter(settings: Settings, marker: Marker, test_folder: Path) -> tuple[str, str]:
    """The drafter and its label. A marker's `mtp` or `prompt-lookup` stays: `--specdec-draft`
    replaces models only.
    """
    line, ini = settings.command_line.draft, settings.ini.draft
    if marker.drafter is not None and _is_named(marker.drafter):
        return marker.drafter, marker.drafter
    label = Path(marker.drafter).name if marker.drafter else "draft"
    for name, folder in (
        (line, settings.invoked_from),
        (marker.drafter, test_folder),
        (ini, settings.root),
    ):
        if name is not None:
            return (name, name) if _is_named(name) else (_locate_drafter(name, folder), label)
    if settings.url is not None:
        return SERVED, SERVED
    raise RequestError(
        f"no drafter for the tests in {test_folder}; pass --specdec-draft=PATH, {OWN_HEADS} for "
        "the target's own heads, "
        f"or {LOOKUP}"
    )


def _is_named(drafter: str) -> bool:
    """Whether the drafter is a name and no files: `mtp`, `prompt-lookup`, or a type that another
    package adds.
    """
    kind = parse_drafter(drafter)
    return drafter in (OWN_HEADS, LOOKUP) or (
        isinstance(kind, AddedDrafter) and kind.folder is None
    )


def _locate_drafter(name: str, folder: Path) -> str:
    """A drafter with its path made absolute; `NAME:FOLDER` for a type that another package adds."""
    if isinstance(kind := parse_drafter(name), AddedDrafter):
        return f"{kind.name}:{locate(str(kind.folder), folder)}"
    return str(recognised(parse_drafter(locate(name, folder))))


def replaced_drafter(settings: Settings, marker: Marker, test_folder: Path) -> str | None:
    """The marker's or ini file's words for another drafter than --specdec-draft's, which a run
    without it measures; or None.
    """
    if settings.command_line.draft is None or (
        marker.drafter is None and settings.ini.draft is None
    ):
        return None
    command_line = dataclasses.replace(settings.command_line, draft=None)
    plain = dataclasses.replace(settings, command_line=command_line)
    if _drafter(plain, marker, test_folder)[0] == _drafter(settings, marker, test_folder)[0]:
        return None
    return (
        f"specdec_draft = {settings.ini.draft} in the ini file"
        if marker.drafter is None
        else f"drafter={marker.drafter!r}"
    )


def _prompts(marker: Marker, test_folder: Path) -> Path:
    return (test_folder / (marker.prompts or "prompts.jsonl")).resolve()


def _costs(settings: Settings, marker: Marker, test_folder: Path) -> Path | str | None:
    if (
        str(first(settings.command_line.costs, marker.costs, settings.ini.costs, default=""))
        == MEASURE
    ):
        return MEASURE
    if settings.command_line.costs is None and marker.costs is not None:
        return (test_folder / marker.costs).resolve()
    return settings.path("costs")


def _check_judged(drafter: str, engine: str) -> None:
    if engine != "replay":
        raise RequestError(
            f"--specdec-judged takes other tokens as given and engine {engine!r} decodes them all; "
            "use --specdec-engine=replay"
        )
    if drafter == LOOKUP:
        raise RequestError(
            f"--specdec-judged needs a model's probabilities, and {LOOKUP} has none; leave one of "
            "them out"
        )


def _rule(rule: str | None, temperature: float, engine: str) -> str:
    """Greedy decoding is verified greedily; sampling by rejection unless the marker says
    otherwise.
    """
    rule = checked_rule(rule, temperature)
    if (
        rule != "greedy" and temperature == 0
    ):  # the same rounds, and they would have a baseline of their own
        raise RequestError(f"rule {rule!r} does not go with temperature 0; greedy is temperature 0")
    if is_lossy(rule) and engine != "decode":
        raise RequestError(
            f"rule {rule!r} is lossy: its text is not the target's to be replayed; use "
            "--specdec-engine=decode"
        )
    if engine in REPLAYING and not is_replayable(rule):
        raise RequestError(
            f"rule {rule!r} does not say with what probability it accepts a given token, so it "
            "cannot be replayed; use --specdec-engine=decode"
        )
    return rule
