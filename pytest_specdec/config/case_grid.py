"""From settings and a marker to the grid of cases that a test function runs over."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path

from ..cases.case import MEASURE, REPLAYING, SERVED, Case, TextKey, checked_rule, is_lossy
from ..cases.drafter import (
    AddedSpec,
    DrafterSpec,
    DraftModelSpec,
    OwnHeadsSpec,
    PromptLookupSpec,
    ServedSpec,
    parse_drafter,
)
from ..cases.drafter_extensions import check_use, recognised
from ..cases.rules import is_replayable
from ..common.errors import RequestError
from .options import (
    COSTS,
    DEPTH,
    DRAFT,
    ENGINE,
    EROSION,
    JUDGED,
    MARGIN,
    NEW_TOKENS,
    PROMPT_FILE,
    PROMPTS,
    RULE,
    SEED,
    TARGET,
    TEMPERATURE,
    TOP_K,
    TOP_P,
    K,
)
from .settings import Marker, Settings


def cases(settings: Settings, marker: Marker, test_folder: Path) -> tuple[Case, ...]:
    """Every (k, depth) cell of one test.

    Empty when the target's own heads are asked for at depth 0 only, or prompt lookup at others.
    Raises RequestError for a missing target, drafter or prompt file, or a rule that does not go
    with the temperature or engine.
    """
    drafter, label = _drafter(settings, marker, test_folder)
    engine = settings.value(ENGINE)
    judged = settings.value(JUDGED, marker)
    if judged is not None:
        _check_judged(drafter, engine)
    texts = _texts(settings, marker, test_folder)
    rule = _rule(settings.value(RULE, marker), texts.temperature, engine)
    costs = _costs(settings, marker, test_folder)
    check_use(drafter, engine, judged=judged is not None, measured_costs=costs == MEASURE)
    cells = itertools.product(settings.value(K, marker), _depths(settings, marker, drafter))
    return tuple(
        Case(
            texts=texts,
            drafter=str(drafter),
            label=label,
            k=k,
            depth=depth,
            rule=rule,
            margin=settings.value(MARGIN, marker),
            erosion=settings.value(EROSION, marker),
            costs=costs,
            engine=engine,
            judged=judged,
        )
        for k, depth in cells
    )


def _texts(settings: Settings, marker: Marker, test_folder: Path) -> TextKey:
    return TextKey(
        suite=suite_name(test_folder, settings.root),
        target=_target(settings, marker, test_folder),
        prompts=(test_folder / settings.value(PROMPT_FILE, marker)).resolve(),
        prompt_limit=settings.value(PROMPTS, marker),
        new_tokens=settings.value(NEW_TOKENS, marker),
        temperature=settings.value(TEMPERATURE, marker),
        seed=settings.value(SEED),
        top_k=settings.value(TOP_K, marker),
        top_p=settings.value(TOP_P, marker),
        served=settings.value(ENGINE) == "logprobs",
    )


def _depths(settings: Settings, marker: Marker, drafter: DrafterSpec) -> tuple[int, ...]:
    """The depths that the drafter has: own heads draft with at least one layer, prompt lookup with
    none.
    """
    own_heads = isinstance(drafter, OwnHeadsSpec)
    depths = settings.value(DEPTH, marker)
    if depths is None:
        return (1,) if own_heads else (0,)
    if own_heads or isinstance(drafter, PromptLookupSpec):
        return tuple(depth for depth in depths if (depth > 0) == own_heads)
    return depths


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
    given = settings.given(TARGET, marker, test_folder)
    if given is not None:
        return locate(given.value, given.folder)
    if settings.url is not None:
        return SERVED
    raise RequestError(
        f"no target model for the tests in {test_folder}; pass --specdec-target=PATH or set it in "
        "the marker"
    )


def _drafter(settings: Settings, marker: Marker, test_folder: Path) -> tuple[DrafterSpec, str]:
    """The drafter and its label.

    The `mtp` or `prompt-lookup` of a marker stays: `--specdec-draft` replaces models only, and
    under the label of the marker's model.
    """
    in_marker = marker[DRAFT]
    if in_marker is not None and _without_files(drafter := parse_drafter(in_marker)):
        return drafter, in_marker
    given = settings.given(DRAFT, marker, test_folder)
    if given is not None:
        if _without_files(drafter := parse_drafter(given.value)):
            return drafter, given.value
        label = Path(in_marker).name if in_marker else "draft"
        return _locate_drafter(drafter, given.folder), label
    if settings.url is not None:
        return ServedSpec(), str(ServedSpec())
    raise RequestError(
        f"no drafter for the tests in {test_folder}; pass --specdec-draft=PATH, {OwnHeadsSpec()} "
        f"for the target's own heads, or {PromptLookupSpec()}"
    )


def _without_files(drafter: DrafterSpec) -> bool:
    """Whether a word names the drafter: `mtp`, `prompt-lookup`, or a type that another package
    adds. A folder of that name is written `./mtp`.
    """
    added = isinstance(drafter, AddedSpec) and drafter.folder is None
    return added or isinstance(drafter, OwnHeadsSpec | PromptLookupSpec)


def _locate_drafter(drafter: DrafterSpec, folder: Path) -> DrafterSpec:
    """A drafter with its path made absolute."""
    if isinstance(drafter, AddedSpec):
        return AddedSpec(drafter.name, Path(locate(str(drafter.folder), folder)))
    return recognised(DraftModelSpec(locate(str(drafter), folder)))


def replaced_drafter(settings: Settings, marker: Marker, test_folder: Path) -> str | None:
    """Where --specdec-draft replaces a drafter: how the marker or the ini file names that one. A
    run without the option measures it. None where nothing is replaced.
    """
    in_marker, in_ini = marker[DRAFT], settings.ini[DRAFT]
    if settings.command_line[DRAFT] is None or (in_marker is None and in_ini is None):
        return None
    without = dataclasses.replace(settings, command_line=settings.command_line.without(DRAFT))
    if _drafter(without, marker, test_folder)[0] == _drafter(settings, marker, test_folder)[0]:
        return None
    return (
        f"{DRAFT.ini_name} = {in_ini} in the ini file"
        if in_marker is None
        else f"{DRAFT.marker}={in_marker!r}"
    )


def _costs(settings: Settings, marker: Marker, test_folder: Path) -> Path | str | None:
    if str(settings.value(COSTS, marker)) == MEASURE:
        return MEASURE
    path = settings.path(COSTS, marker, test_folder)
    in_marker = settings.command_line[COSTS] is None and marker[COSTS] is not None
    return path.resolve() if path is not None and in_marker else path


def _check_judged(drafter: DrafterSpec, engine: str) -> None:
    if engine != "replay":
        raise RequestError(
            f"--specdec-judged takes other tokens as given and engine {engine!r} decodes them all; "
            "use --specdec-engine=replay"
        )
    if isinstance(drafter, PromptLookupSpec):
        raise RequestError(
            f"--specdec-judged needs a model's probabilities, and {drafter} has none; leave one of "
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
            f"rule {rule!r} is lossy: its texts cannot be replayed with the target; use "
            "--specdec-engine=decode"
        )
    if engine in REPLAYING and not is_replayable(rule):
        raise RequestError(
            f"rule {rule!r} does not say with what probability it accepts a given token, so it "
            "cannot be replayed; use --specdec-engine=decode"
        )
    return rule
