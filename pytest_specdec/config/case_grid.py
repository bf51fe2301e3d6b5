"""From settings and a marker to the grid of cases that a test function runs over."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from pathlib import Path

from ..cases.case import MEASURE, REPLAYING, SERVED, TRACE, Case, TextKey, checked_rule, is_lossy
from ..cases.drafter import (
    EAGLE3,
    WITHOUT_DEPTH,
    DrafterSpec,
    DraftModelSpec,
    OwnHeadsSpec,
    PromptLookupSpec,
    RegisteredSpec,
    ServedSpec,
    parse_drafter,
)
from ..cases.processors import ProcessorSpec
from ..cases.rules import is_replayable
from ..checkpoints.drafter_folders import largest_k, recognised
from ..common.errors import RequestError
from .axis_cases import draftings, flags_of, target_names
from .axis_options import values_of
from .candidates import candidates, is_pattern
from .engines import OWN
from .options import (
    BATCH,
    COSTS,
    DEPTH,
    DRAFT,
    ENGINE,
    EROSION,
    JUDGED,
    MARGIN,
    NEW_TOKENS,
    PROCESSORS,
    PROMPT_FILE,
    PROMPTS,
    RULE,
    SEED,
    TARGET,
    TEMPERATURE,
    TOP_K,
    TOP_P,
    TREE,
    K,
)
from .settings import Marker, Settings
from .tree_cases import checked_tree_case, tree_rule

_DRAFTING = ("replay", "decode", "hidden-states")
"""Engines that draft with every registered type."""
_PROCESSING = ("replay", "decode")
"""Engines that apply logits processors."""


@dataclasses.dataclass(frozen=True)
class _Drafter:
    """A drafter of a test, and its names in cases."""

    spec: DrafterSpec
    label: str
    candidate: str = ""


def cases(
    settings: Settings, marker: Marker, test_folder: Path, *, batches: bool = True
) -> tuple[Case, ...]:
    """Every (k, depth, batch) cell of one test; with a pattern of drafters, every cell of each
    candidate. Without `batches` its cells have no number of texts at once.

    Empty when the target's own heads are asked for at depth 0 only, a drafter without MTP layers at
    others, or heads on the command line for more drafts than they make. Raises RequestError for a
    missing target, drafter or prompt file, a pattern that matches nothing, or a rule that does not
    go with the temperature or engine.
    """
    engine = settings.value(ENGINE)
    judged = settings.value(JUDGED, marker)
    drafters = _drafters(settings, marker, test_folder)
    if judged is not None:
        _check_judged(drafters[0].spec, engine)
    if _processors(settings, marker) is not None:
        _check_processors(engine, judged=judged is not None)
    texts = _texts(settings, marker, test_folder, engine)
    tree = settings.value(TREE, marker)
    if marker[TREE] is not None and marker[K] is not None:
        raise RequestError(
            "the marker has k= and tree=, and a tree has its own depth; leave one of them out"
        )
    rules = _rule if tree is None else functools.partial(tree_rule, tree)
    rule = rules(settings.value(RULE, marker), texts[0].temperature, engine)
    costs = _costs(settings, marker, test_folder)
    ways = draftings(settings, marker, texts[0].sampling, drafters[0].spec, engine)
    for drafter in drafters:
        if isinstance(drafter.spec, RegisteredSpec):
            _check_registered(drafter.spec, engine, judged=judged is not None, costs=costs)
    sizes = (settings.value(BATCH, marker) if batches else None) or (None,)
    if sizes != (None,):
        _check_batches(engine)
    first = drafters[0].spec
    ks, depths = _ks(settings, marker, first), _depths(settings, marker, first)
    cells = itertools.product(
        texts, ways, ks if tree is None else (tree.depth,), depths, sizes, drafters
    )
    return tuple(
        checked_tree_case(
            texts=key,
            drafter=drafter.spec,
            label=drafter.label,
            k=k,
            depth=depth,
            rule=rule,
            margin=settings.value(MARGIN, marker),
            erosion=settings.value(EROSION, marker),
            costs=costs,
            engine=engine,
            judged=judged,
            batch=batch,
            drafting=drafting,
            tree=tree,
            candidate=drafter.candidate,
        )
        for key, drafting, k, depth, batch, drafter in cells
    )


def _texts(
    settings: Settings, marker: Marker, test_folder: Path, engine: str
) -> tuple[TextKey, ...]:
    """The texts of each target under each of the template's flags."""
    targets = _targets(settings, marker, test_folder)
    names = target_names(settings, marker, targets)
    pairs = itertools.product(zip(targets, names, strict=True), flags_of(settings, marker, engine))
    return tuple(
        TextKey(
            suite=suite_name(test_folder, settings.root),
            target=target,
            prompts=(test_folder / settings.value(PROMPT_FILE, marker)).resolve(),
            prompt_limit=settings.value(PROMPTS, marker),
            new_tokens=settings.value(NEW_TOKENS, marker),
            temperature=settings.value(TEMPERATURE, marker),
            seed=settings.value(SEED),
            top_k=settings.value(TOP_K, marker),
            top_p=settings.value(TOP_P, marker),
            served=engine == "logprobs",
            processors=_processors(settings, marker),
            target_name=name,
            flags=flags,
        )
        for (target, name), flags in pairs
    )


def _processors(settings: Settings, marker: Marker) -> ProcessorSpec | None:
    """The processors of a test; None where they change nothing, as `none` on the command line."""
    spec = settings.value(PROCESSORS, marker)
    return spec if spec is not None and spec.name else None


def _ks(settings: Settings, marker: Marker, drafter: DrafterSpec) -> tuple[int, ...]:
    """The numbers of drafts; of those that are given for all tests none that the drafter's heads do
    not reach. The marker's own are refused later, with a message of their own.
    """
    most, named = largest_k(drafter), marker[K]
    if most is None or (named is not None and settings.command_line[K] is None):
        return settings.value(K, marker)
    return tuple(k for k in settings.value(K, marker) if k <= most)


def _depths(settings: Settings, marker: Marker, drafter: DrafterSpec) -> tuple[int, ...]:
    """The depths that the drafter has: own heads draft with at least one layer, drafters without
    MTP layers with none.
    """
    own_heads = isinstance(drafter, OwnHeadsSpec)
    depths = settings.value(DEPTH, marker)
    if depths is None:
        return (1,) if own_heads else (0,)
    flat = isinstance(drafter, RegisteredSpec) and drafter.name in WITHOUT_DEPTH
    if own_heads or flat or isinstance(drafter, PromptLookupSpec):
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


def _targets(settings: Settings, marker: Marker, test_folder: Path) -> tuple[str, ...]:
    given = settings.given(TARGET, marker, test_folder)
    if given is not None:
        return tuple(dict.fromkeys(locate(name, given.folder) for name in values_of(given.value)))
    if settings.url is not None:
        return (SERVED,)
    raise RequestError(
        f"no target model for the tests in {test_folder}; pass --specdec-target=PATH or set it in "
        "the marker"
    )


def _drafters(settings: Settings, marker: Marker, test_folder: Path) -> tuple[_Drafter, ...]:
    """The drafter of a test, or the candidates of a pattern, at least one.

    The `mtp` or `prompt-lookup` of a marker stays: `--specdec-draft` replaces models only, and
    under the label of the marker's model.
    """
    in_marker = marker[DRAFT]
    if in_marker is not None and _without_files(drafter := parse_drafter(in_marker)):
        return (_Drafter(drafter, in_marker),)
    given = settings.given(DRAFT, marker, test_folder)
    if given is not None:
        if _without_files(drafter := parse_drafter(given.value)):
            return (_Drafter(drafter, given.value),)
        named = in_marker is not None and not is_pattern(in_marker, test_folder)
        label = Path(in_marker).name if in_marker and named else "draft"
        return _expanded(drafter, given.folder, label)
    if settings.url is not None:
        return (_Drafter(ServedSpec(), str(ServedSpec())),)
    raise RequestError(
        f"no drafter for the tests in {test_folder}; pass --specdec-draft=PATH, {OwnHeadsSpec()} "
        f"for the target's own heads, or {PromptLookupSpec()}"
    )


def _expanded(drafter: DrafterSpec, folder: Path, label: str) -> tuple[_Drafter, ...]:
    """A drafter with its path made absolute; where that is a pattern, one for each folder that it
    matches. A single one is a drafter like any other.
    """
    prefix, colon, path = str(drafter).partition(":")
    if isinstance(drafter, DraftModelSpec):
        prefix, colon, path = "", "", drafter.path
    if not is_pattern(path, folder):
        return (_Drafter(locate_drafter(drafter, folder), label),)
    matches = candidates(path, folder)
    return tuple(
        _Drafter(
            locate_drafter(parse_drafter(f"{prefix}{colon}{match.path}"), folder),
            label,
            match.name if len(matches) > 1 else "",
        )
        for match in matches
    )


def _without_files(drafter: DrafterSpec) -> bool:
    """Whether a word names the drafter: `mtp`, `prompt-lookup` or another registered type. A folder
    of that name is written `./mtp`.
    """
    named = isinstance(drafter, RegisteredSpec) and drafter.folder is None
    return named or isinstance(drafter, OwnHeadsSpec | PromptLookupSpec)


def locate_drafter(drafter: DrafterSpec, folder: Path) -> DrafterSpec:
    """A drafter with its path made absolute; one without files is left as it is."""
    if _without_files(drafter):
        return drafter
    if isinstance(drafter, RegisteredSpec):
        return RegisteredSpec(drafter.name, Path(locate(str(drafter.folder), folder)))
    return recognised(DraftModelSpec(locate(str(drafter), folder)))


def replaced_models(settings: Settings, marker: Marker, test_folder: Path) -> dict[str, str]:
    """Which of `target` and `drafter` the command line replaces, and how the marker or the ini file
    names it. A run without the option measures that one.
    """
    models = {"target": (TARGET, _targets), "drafter": (DRAFT, _drafters)}
    replaced = {}
    for role, (option, read) in models.items():
        in_marker, in_ini = marker[option], settings.ini[option]
        if settings.command_line[option] is None or (in_marker is None and in_ini is None):
            continue
        command_line = settings.command_line.without(option)
        without = dataclasses.replace(settings, command_line=command_line)
        if read(without, marker, test_folder) == read(settings, marker, test_folder):
            continue
        replaced[role] = (
            f"{option.ini_name} = {in_ini} in the ini file"
            if in_marker is None
            else f"{option.marker}={in_marker!r}"
        )
    return replaced


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


def _check_processors(engine: str, *, judged: bool) -> None:
    """Refuse what does not apply logits processors. Raises RequestError."""
    if engine not in _PROCESSING:
        raise RequestError(
            f"engine {engine!r} does not apply logits processors, and its counts would be those of "
            f"other texts; use --specdec-engine={' or '.join(_PROCESSING)}, or leave "
            "--specdec-processors out"
        )
    if judged:
        raise RequestError(
            "--specdec-judged takes tokens as given that processors would change; leave it or "
            "--specdec-processors out"
        )


def _check_batches(engine: str) -> None:
    """Refuse an engine whose counts no batch changes. Raises RequestError."""
    if engine in REPLAYING or engine == TRACE:
        raise RequestError(
            f"engine {engine!r} decodes nothing, so no number of texts at once changes its counts; "
            "leave --specdec-batch out, or use an engine that decodes"
        )


def _check_registered(
    drafter: RegisteredSpec, engine: str, *, judged: bool, costs: Path | str | None
) -> None:
    """Refuse what drafters of registered types are not used for. Raises RequestError."""
    # Engines of others declare whether they draft with EAGLE-3 heads, and are asked when they run.
    if engine not in _DRAFTING and (drafter.name != EAGLE3 or engine in OWN):
        raise RequestError(
            f"engine {engine!r} does not draft with {drafter.name!r}; use "
            f"--specdec-engine={' or '.join(_DRAFTING)}"
        )
    if judged:
        raise RequestError(
            f"--specdec-judged does not go with the drafter {drafter.name!r}; leave one of them out"
        )
    if costs == MEASURE and drafter.name != EAGLE3:
        raise RequestError(
            f"--specdec-costs=measure does not time {drafter.name!r}; name a file of costs"
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
