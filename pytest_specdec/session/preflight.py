"""All that can be refused before a model is loaded, so that a mistake costs seconds and reads as
one.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
import sys
from collections.abc import Collection, Iterable
from pathlib import Path

from ..baselines.store import BaselineStore
from ..cases.case import MEASURE, REPLAYING, SERVED, TRACE, Case, TextKey
from ..cases.drafter import EAGLE3, RegisteredSpec
from ..checkpoints.checkpoint import (
    Checkpoint,
    case_checkpoint,
    check_not_itself,
    check_pair,
)
from ..checkpoints.drafter_folders import check_drafts
from ..checkpoints.eagle3_checks import check_eagle3
from ..checkpoints.loadable import check_quantised
from ..checkpoints.state_folders import state_files, state_folder
from ..checkpoints.template_variables import check_variables
from ..checkpoints.tokenizer_files import check_chat_template
from ..common.errors import EXTRAS, BaselineError, RequestError, naming_extras
from ..config.dividing import RAY, SHARD
from ..config.engines import DIVIDED, HIDDEN_STATES
from ..config.options import ACCUMULATE, ENGINE, KEEP, PRUNE, UPDATE
from ..config.settings import Settings
from ..gate.permutation import can_resolve, too_few
from ..speedup.cost_profile import CostProfile

_IN_PROCESS = ("replay", "decode", "hidden-states")
"""Engines that load models and tokenizers into this process."""


def check(cases: Iterable[Case], store: BaselineStore) -> None:
    """Refuse cases whose checkpoints, prompts, costs or baselines cannot be used.

    Raises RequestError, CostError or BaselineError. Models on the hub are checked when they are
    loaded.
    """
    cases = tuple(cases)
    # Files are looked at once for each pair: a grid has thousands of cases of a few.
    pairs = {(case.target, case.drafter, case.depth, case.k, case.drafting): case for case in cases}
    deepest = {(case.target, case.drafter, case.depth): case for case in pairs.values()}
    for case in deepest.values():
        _check_pair_of(case)
    for case in pairs.values():
        _check_most_drafts(case)
    for case in cases:
        store.record(case)
    for target_name, drafter_name in dict.fromkeys(
        (case.target, case.draft_model) for case in cases
    ):
        _check_not_itself(target_name, drafter_name)
    of_texts: dict[TextKey, list[Case]] = {}
    for case in cases:
        of_texts.setdefault(case.texts, []).append(case)
    for key, sharing in of_texts.items():
        _check_prompts(key, sharing)
        if any(case.engine in REPLAYING for case in sharing):
            _check_texts(store, key)
    for costs in {case.costs for case in cases if case.costs not in (None, MEASURE)}:
        CostProfile.load(str(costs))


def _check_pair_of(case: Case) -> None:
    """Refuse a drafter that cannot draft for the case's target at its depth."""
    target, drafter = _local(case.target), _local(case.draft_model)
    for model in (target, drafter):
        if model is not None and case.engine in _IN_PROCESS:
            check_quantised(model)
    if target is not None and (case.uses_own_heads or drafter is not None):
        check_pair(target, drafter, case.depth)
    if target is not None and isinstance(case.drafter, RegisteredSpec):
        # A server's client may have no torch, which a type's module imports.
        registered = case.drafter
        check_files = check_eagle3 if registered.name == EAGLE3 else registered.type.check
        check_files(target, registered.folder, case.depth)


def _check_most_drafts(case: Case) -> None:
    """Refuse more drafts than a drafter of a registered type has heads for."""
    registered = case.drafter
    if (
        isinstance(registered, RegisteredSpec)
        and registered.name != EAGLE3
        and registered.folder is not None
        and _local(case.target) is not None
    ):
        most = getattr(registered.type, "most_drafts", None)
        check_drafts(
            registered,
            case.k,
            most and most(registered.folder),
            trained=getattr(registered.type, "can_draft_more", False),
            drafting=case.drafting,
        )


def check_recorded(engine: str, url: str | None) -> None:
    """Refuse a recorded run that cannot be read, and a folder without hidden states. Raises
    RequestError.
    """
    if engine == TRACE and url is not None:
        from ..engines.adapters.trace import read_trace

        read_trace(Path(url))
    if engine == HIDDEN_STATES:
        state_files(state_folder(url))


def check_installed(engine: str) -> None:
    """Refuse an engine of ours where what it imports is not installed. Imports nothing. Raises
    MissingExtraError.
    """
    if engine not in _IN_PROCESS:
        return
    with naming_extras():
        for package in EXTRAS["models"]:
            if package not in sys.modules and importlib.util.find_spec(package) is None:
                raise ModuleNotFoundError(f"No module named {package!r}", name=package)


def check_alone(cases: Iterable[Case], *, worker: bool) -> None:
    """Refuse to time rounds beside other workers. Raises RequestError."""
    if worker and any(case.costs == MEASURE for case in cases):
        raise RequestError(
            "--specdec-costs=measure needs the machine for itself, and other workers run; run "
            "without -n, or name a file of costs"
        )


def check_divided(cases: Iterable[Case], settings: Settings, *, merged: bool) -> None:
    """Refuse what cannot be divided among processes, or not so. Raises RequestError."""
    shard, ray = settings.command_line[SHARD], settings.command_line[RAY]
    ways = [f"{SHARD.flag}={shard}"] * (shard is not None) + [RAY.flag] * (ray is not None)
    ways += ["merge"] * merged
    if not ways:
        return
    if len(ways) > 1:
        raise RequestError(
            f"{' and '.join(ways)} each divide the session; leave all but one of them out, in "
            "PYTEST_ADDOPTS, too"
        )
    (divided,) = ways
    if ray is None and settings.value(KEEP) != "texts":
        raise RequestError(
            f"shards measure on texts that are stored or kept, and {KEEP.flag} keeps none; leave "
            f"{divided} out, or use {RAY.flag}"
        )
    if ray is not None:
        with naming_extras():
            if importlib.util.find_spec("ray") is None:
                raise ModuleNotFoundError("No module named 'ray'", name="ray")
    engine = settings.value(ENGINE)
    if engine not in DIVIDED:
        raise RequestError(
            f"the work of engine {engine!r} cannot be divided; leave {divided} out, or use engine "
            f"{' or '.join(DIVIDED)}"
        )
    if any(case.costs == MEASURE for case in cases):
        raise RequestError(
            f"--specdec-costs=measure times the models in this process, and {divided} loads none; "
            "name a file of costs"
        )


def check_prompts_suffice(cases: Collection[Case], *, alpha: float, accumulate: bool) -> None:
    """Refuse sampled gates with too few prompts to ever fail: at alpha, which one test shares among
    all cases, or where runs are accumulated at each case's share of it. Replayed ones are exact
    while the target stays the same.

    Raises RequestError naming the number needed.
    """
    level = alpha / len(cases) if accumulate else alpha
    for key in {
        case.texts
        for case in cases
        if case.temperature > 0 and (accumulate or case.engine not in REPLAYING)
    }:
        prompts = len(key.read_prompts())
        if not can_resolve(prompts, level):
            raise RequestError(
                f"{key.prompts}: {too_few(prompts, level, f'a gate at level {level:.2g}')}"
            )


def check_distinct(cases: Iterable[Case]) -> None:
    """Refuse two different cases that would share one baseline file."""
    seen: dict[str, Case] = {}
    for case in cases:
        if (first := seen.setdefault(case.id, case)) != case:
            raise RequestError(
                f"two different cases are both called {case.id} and would share a baseline: their "
                f"{' and '.join(_differences(first, case))} differ; select one of the tests with "
                "-k, or move one to a folder (suite) of its own"
            )


def _differences(first: Case, second: Case) -> list[str]:
    """What is not the same in two cases, in the words of the marker."""
    return [
        {"prompt_limit": "numbers of prompts"}.get(field.name, field.name.replace("_", " "))
        for sides in ((first, second), (first.texts, second.texts))
        for field in dataclasses.fields(sides[0])
        if field.name != "texts" and getattr(sides[0], field.name) != getattr(sides[1], field.name)
    ]


def check_stores_nothing(cases: Iterable[Case], settings: Settings) -> None:
    """Refuse to store what is compared without baselines: several candidates. Raises
    RequestError.
    """
    names = list(dict.fromkeys(case.candidate for case in cases if case.candidate))
    for option in (UPDATE, ACCUMULATE, PRUNE):
        if names and settings.command_line[option] is not None:
            raise RequestError(
                f"{option.flag} is about the baselines of one drafter, and --specdec-draft matches "
                f"{len(names)} ({', '.join(names[:3])}{', ...' * (len(names) > 3)}); name one of "
                "them, or leave it out"
            )


def _local(name: str | None) -> Checkpoint | None:
    """The checkpoint of a folder; None for a model on the hub or a server, and without one."""
    return None if name is None else case_checkpoint(name)


def _check_not_itself(target: str, drafter: str | None) -> None:
    """Refuse a drafter that is the target, by name or by content."""
    ours, theirs = _local(target), _local(drafter)
    if ours is not None and theirs is not None:
        check_not_itself(ours, theirs)
    elif target == drafter != SERVED:
        raise RequestError(
            f"target and drafter are both {target}, and what a model drafts for itself is always "
            "accepted; name a smaller "
            "draft model, mtp or prompt-lookup"
        )


def _check_texts(store: BaselineStore, key: TextKey) -> None:
    """Refuse stored texts with tokens that their own target does not have."""
    texts, target = store.texts(key), _local(key.target)
    if (
        texts is None
        or target is None
        or target.vocabulary is None
        or texts.tokenizer != target.tokenizer_fingerprint
    ):
        return
    for prompt, ids in texts.texts.items():
        if ids and not 0 <= min(ids) <= max(ids) < target.vocabulary:
            wrong = min(ids) if min(ids) < 0 else max(ids)
            raise BaselineError(
                f"baseline {store.texts_path(key)}: prompt {prompt} has the token {wrong} and "
                f"{target.folder} knows "
                f"{target.vocabulary} tokens; restore it from version control, or delete it and "
                "run with --specdec-update=new"
            )


def _check_prompts(key: TextKey, cases: Collection[Case]) -> None:
    """Messages need a chat template; each prompt and its new tokens must fit the context of every
    model that reads them.
    """
    prompts = key.read_prompts()
    target = _local(key.target)
    in_process = any(case.engine in _IN_PROCESS for case in cases)
    if target is not None and in_process and any(prompt.messages for prompt in prompts):
        check_chat_template(target.folder)
        check_variables(target.folder, () if key.flags is None else tuple(key.flags.variables))
    drafters = dict.fromkeys(case.draft_model for case in cases)
    models = [target, *map(_local, drafters)]
    narrow = [
        (model.context, model.folder)
        for model in models
        if model is not None and model.context is not None
    ]
    if (
        not narrow
        or target is None
        or not (tokenizer := target.folder / "tokenizer.json").is_file()
    ):
        return
    context, folder = min(narrow)
    for text, length in _token_counts(
        tokenizer, tuple(prompt.text for prompt in prompts if prompt.text)
    ).items():
        if length + key.new_tokens > context:
            raise RequestError(
                f"{key.prompts}: prompt {text[:40]!r} has {length} tokens; with {key.new_tokens} "
                "new ones it is longer "
                f"than the context of {folder} ({context}); shorten it or lower "
                "--specdec-new-tokens"
            )


@functools.cache
def _token_counts(tokenizer: Path, texts: tuple[str, ...]) -> dict[str, int]:
    try:
        from tokenizers import Tokenizer
    except ImportError:  # an engine elsewhere needs none here, and refuses what is too long itself
        return {}
    try:
        encode = Tokenizer.from_file(str(tokenizer)).encode
        return {text: len(encode(text).ids) for text in texts}
    except Exception as error:  # tokenizers raises nothing narrower
        reason = str(error).splitlines()[0][:100] if str(error) else type(error).__name__
        raise RequestError(
            f"{tokenizer} cannot be used ({reason}); save the tokenizer again"
        ) from None
