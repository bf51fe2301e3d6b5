"""From options and markers to cases: precedence, own heads, labels, and what is refused."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.packages import installed
from helpers.records import case

from pytest_specdec.cases.case import LOOKUP, OWN_HEADS, Case, JudgedRange
from pytest_specdec.cases.drafter import DraftModelSpec, PromptLookupSpec
from pytest_specdec.cases.tree import tree_of
from pytest_specdec.common.errors import RequestError
from pytest_specdec.config.case_grid import cases, locate, replaced_models, suite_name
from pytest_specdec.config.settings import Marker, OptionValues, Settings
from pytest_specdec.session.preflight import check_distinct

PAIR: dict[str, Any] = {"target": "models/target", "drafter": "models/text-draft"}


def grid(
    root: Path,
    line: dict[str, Any] | None = None,
    marker: dict[str, Any] | None = None,
    ini: dict[str, Any] | None = None,
) -> tuple[Case, ...]:
    """The cases of a test in suites/text, called from the folder `called`."""
    settings = Settings(
        OptionValues(**(line or {})), OptionValues(**(ini or {})), root, root / "called"
    )
    return cases(settings, Marker(**(marker or {})), root / "suites" / "text")


def single_case(root: Path, **sources: dict[str, Any]) -> Case:
    (only_case,) = grid(root, **sources)
    return only_case


@pytest.mark.parametrize(
    ("name", "read", "values", "default"),
    [
        ("k", lambda located_case: (located_case.k,), ((1,), (2,), (3,)), (8,)),
        ("depth", lambda located_case: (located_case.depth,), ((1,), (2,), (3,)), (0,)),
        ("temperature", lambda located_case: located_case.temperature, (0.1, 0.2, 0.3), 1.0),
        ("new_tokens", lambda located_case: located_case.texts.new_tokens, (10, 20, 30), 128),
        ("margin", lambda located_case: located_case.margin, (0.1, 0.2, 0.3), 0.01),
        ("top_k", lambda located_case: located_case.texts.top_k, (10, 20, 30), 0),
        ("top_p", lambda located_case: located_case.texts.top_p, (0.7, 0.8, 0.9), 1.0),
        (
            "judged",
            lambda located_case: located_case.judged,
            (JudgedRange(1, 2), JudgedRange(1, 3, 2), JudgedRange(1, 4)),
            None,
        ),
    ],
)
def test_the_line_wins_over_the_marker_over_the_ini_file_over_the_default(
    tmp_path: Path,
    name: str,
    read: Callable[[Case], Any],
    values: tuple[Any, Any, Any],
    default: Any,
) -> None:
    line, marker, ini = ({name: value} for value in values)
    assert read(single_case(tmp_path, line=line, marker=PAIR | marker, ini=ini)) == values[0]
    assert read(single_case(tmp_path, marker=PAIR | marker, ini=ini)) == values[1]
    assert read(single_case(tmp_path, marker=PAIR, ini=ini)) == values[2]
    assert read(single_case(tmp_path, marker=PAIR)) == default


def test_filters_on_the_line_may_be_switched_off(tmp_path: Path) -> None:
    texts = single_case(
        tmp_path, line={"top_k": 0, "top_p": 1.0}, marker=PAIR | {"top_k": 50, "top_p": 0.9}
    ).texts
    assert (texts.top_k, texts.top_p) == (0, 1.0)


@pytest.mark.parametrize(
    ("name", "value"), [("depth", (0,)), ("temperature", 0.0), ("margin", 0.0)]
)
def test_zero_on_the_line_is_a_value(tmp_path: Path, name: str, value: Any) -> None:
    marker = PAIR | {"depth": (3,), "temperature": 0.7, "margin": 0.1}
    located_case = single_case(tmp_path, line={name: value}, marker=marker)
    assert getattr(located_case, name) == (value[0] if isinstance(value, tuple) else value)


@pytest.mark.parametrize(("role", "argument"), [("target", "target"), ("draft", "drafter")])
def test_models_follow_the_same_order_each_relative_to_its_source(
    tmp_path: Path, role: str, argument: str
) -> None:
    for folder in ("called/own", "suites/text/own", "own"):
        (tmp_path / folder).mkdir(parents=True)
    others = {name: value for name, value in PAIR.items() if name != argument}
    line, marker, ini = {role: "own"}, others | {argument: "own"}, {role: "own"}
    for sources, folder in (
        ({"line": line, "marker": marker, "ini": ini}, "called"),
        ({"marker": marker, "ini": ini}, "suites/text"),
        ({"marker": others, "ini": ini}, "."),
    ):
        located = getattr(single_case(tmp_path, **sources), argument)
        assert str(located) == str(tmp_path / folder / "own")


@pytest.mark.parametrize(
    ("marker", "complaint"),
    [
        ({"drafter": "models/draft"}, "no target model .*; pass --specdec-target=PATH"),
        ({"target": "models/target"}, "no drafter .*; pass --specdec-draft=PATH, mtp"),
        ({}, "no "),
    ],
)
def test_a_missing_model_is_refused(tmp_path: Path, marker: dict[str, Any], complaint: str) -> None:
    with pytest.raises(RequestError, match=complaint):
        grid(tmp_path, marker=marker)


def test_the_grid_is_every_k_with_every_depth(tmp_path: Path) -> None:
    located_case = grid(tmp_path, line={"k": (4, 8)}, marker=PAIR | {"depth": (0, 1, 3)})
    assert [(each.k, each.depth) for each in located_case] == list(
        itertools.product((4, 8), (0, 1, 3))
    )
    assert len({each.texts for each in located_case}) == 1


@pytest.mark.parametrize(
    ("options", "depths"),
    [({"depth": (0, 2)}, [2]), ({"depth": (0,)}, []), ({"depth": (1, 3)}, [1, 3]), ({}, [1])],
)
def test_own_heads_have_no_depth_zero(
    tmp_path: Path, options: dict[str, Any], depths: list[int]
) -> None:
    located_case = grid(tmp_path, line=options, marker=PAIR | {"drafter": OWN_HEADS})
    assert [each.depth for each in located_case] == depths
    assert all(each.label == str(each.drafter) == OWN_HEADS for each in located_case)


def test_own_heads_of_a_marker_stay_whatever_the_line_drafts_with(tmp_path: Path) -> None:
    located_case = single_case(
        tmp_path, line={"draft": "other"}, marker=PAIR | {"drafter": OWN_HEADS}
    )
    assert located_case.uses_own_heads


@pytest.mark.parametrize("source", ["line", "ini"])
def test_own_heads_may_be_asked_for_anywhere(tmp_path: Path, source: str) -> None:
    located_case = single_case(
        tmp_path, **{source: {"draft": OWN_HEADS}, "marker": {"target": "models/target"}}
    )
    assert (str(located_case.drafter), located_case.label, located_case.depth) == (
        OWN_HEADS,
        OWN_HEADS,
        1,
    )


@pytest.mark.parametrize(
    ("options", "depths"),
    [({}, [0]), ({"depth": (0, 2)}, [0]), ({"depth": (0,)}, [0]), ({"depth": (1, 3)}, [])],
)
def test_prompt_lookup_has_no_depth_but_zero(
    tmp_path: Path, options: dict[str, Any], depths: list[int]
) -> None:
    located_case = grid(tmp_path, line=options, marker=PAIR | {"drafter": LOOKUP})
    assert [each.depth for each in located_case] == depths
    assert all(each.label == str(each.drafter) == LOOKUP for each in located_case)


def test_prompt_lookup_of_a_marker_stays_whatever_the_line_drafts_with(tmp_path: Path) -> None:
    for draft in ("other", OWN_HEADS):
        located_case = single_case(
            tmp_path, line={"draft": draft}, marker=PAIR | {"drafter": LOOKUP}
        )
        assert (str(located_case.drafter), located_case.label, located_case.draft_model) == (
            LOOKUP,
            LOOKUP,
            None,
        )


@pytest.mark.parametrize("source", ["line", "ini"])
def test_prompt_lookup_may_be_asked_for_anywhere(tmp_path: Path, source: str) -> None:
    located_case = single_case(
        tmp_path, **{source: {"draft": LOOKUP}, "marker": {"target": "models/target"}}
    )
    assert (str(located_case.drafter), located_case.label, located_case.depth) == (
        LOOKUP,
        LOOKUP,
        0,
    )


def test_prompt_lookup_on_the_line_replaces_a_markers_model_under_its_own_name(
    tmp_path: Path,
) -> None:
    """It is another drafter and no newer one: the model's baselines are not what it is judged
    by.
    """
    located_case = single_case(tmp_path, line={"draft": LOOKUP}, marker=PAIR | {"depth": (0, 3)})
    assert (str(located_case.drafter), located_case.label, located_case.depth) == (
        LOOKUP,
        LOOKUP,
        0,
    )
    assert located_case.id != single_case(tmp_path, marker=PAIR).id


def test_an_eagle3_head_drafts_in_the_cells_without_mtp_layers_only(tmp_path: Path) -> None:
    marker = {"target": "models/target", "drafter": "eagle3:head"}
    for depth, depths in (((0, 1, 3), [0]), ((1, 3), [])):
        found = grid(tmp_path, line={"depth": depth}, marker=marker)
        assert [cell.depth for cell in found] == depths


def test_a_folder_named_like_a_drafter_without_a_model_is_not_taken_for_one(tmp_path: Path) -> None:
    (tmp_path / "called" / LOOKUP).mkdir(parents=True)
    named = single_case(tmp_path, line={"draft": LOOKUP}, marker={"target": "models/target"})
    assert named.drafter == PromptLookupSpec()
    in_folder = single_case(tmp_path, line={"draft": f"./{LOOKUP}"}, marker=PAIR)
    assert in_folder.drafter == DraftModelSpec(str(tmp_path / "called" / LOOKUP))


def test_the_label_stays_when_the_line_points_elsewhere(tmp_path: Path) -> None:
    stored, tried = (
        single_case(tmp_path, marker=PAIR),
        single_case(tmp_path, line={"draft": "../new/draft-7"}, marker=PAIR),
    )
    assert stored.label == tried.label == "text-draft"
    assert stored.id == tried.id
    assert str(tried.drafter) == str((tmp_path / "new/draft-7").resolve())


@pytest.mark.parametrize("source", ["line", "ini"])
def test_without_a_marker_the_label_is_plain(tmp_path: Path, source: str) -> None:
    assert (
        single_case(
            tmp_path, **{source: {"draft": "models/x"}, "marker": {"target": "models/target"}}
        ).label
        == "draft"
    )


def test_heads_have_no_cells_above_their_number_on_the_command_line(tmp_path: Path) -> None:
    folder = tmp_path / "suites" / "text" / "models" / "heads"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text('{"medusa_num_heads": 4}')
    marker = PAIR | {"drafter": "models/heads", "k": [2, 4]}
    found = [case.k for case in grid(tmp_path, marker=marker)]
    assert found == [2, 4]
    assert [case.k for case in grid(tmp_path, {"k": (3, 8)}, marker)] == [3]
    assert grid(tmp_path, {"k": (8,)}, marker) == ()
    (wrong,) = grid(tmp_path, marker=marker | {"k": [8]})  # refused with a message of its own
    assert wrong.k == 8


def test_drafting_is_part_of_a_cases_name_where_it_changes_rounds(tmp_path: Path) -> None:
    sampled = {"marker": PAIR | {"drafting": "argmax"}}
    assert single_case(tmp_path, **sampled).name == "text-draft-k8-depth0-t1-argmax"
    on_the_line = {"line": {"drafting": "temperature=0.5"}, "marker": PAIR}
    assert single_case(tmp_path, **on_the_line).name == "text-draft-k8-depth0-t1-draftt0.5"
    for unchanged in (
        {"temperature": 0},
        {"drafting": "unfiltered"},
        {"drafting": "temperature=1"},
        {"drafter": LOOKUP},
    ):
        marker = PAIR | {"drafting": "argmax"} | unchanged
        assert single_case(tmp_path, marker=marker).drafting.as_target
    with pytest.raises(RequestError, match=r"log-probabilities are those at its own settings"):
        grid(tmp_path, {"engine": "logprobs"}, PAIR | {"drafting": "argmax"})
    with pytest.raises(RequestError, match=r"drafts cannot be drawn by 'best'; use argmax"):
        grid(tmp_path, {}, PAIR | {"drafting": "best"})


def test_prompts_and_costs_of_a_marker_lie_beside_the_test(tmp_path: Path) -> None:
    located_case = single_case(
        tmp_path,
        marker=PAIR | {"prompts": "../long.jsonl", "costs": "costs.json"},
        ini={"costs": Path("ini.json")},
    )
    assert located_case.texts.prompts == tmp_path / "suites/long.jsonl"
    assert located_case.costs == tmp_path / "suites/text/costs.json"
    assert (
        single_case(tmp_path, marker=PAIR).texts.prompts == tmp_path / "suites/text/prompts.jsonl"
    )


def test_costs_of_the_line_win_and_those_of_the_ini_file_fill_in(tmp_path: Path) -> None:
    line, ini = {"costs": Path("line.json")}, {"costs": Path("ini.json")}
    assert (
        single_case(tmp_path, line=line, marker=PAIR | {"costs": "marker.json"}).costs
        == tmp_path / "called/line.json"
    )
    assert single_case(tmp_path, marker=PAIR, ini=ini).costs == tmp_path / "ini.json"
    assert single_case(tmp_path, marker=PAIR).costs is None


@pytest.mark.parametrize("source", ["line", "ini"])
def test_seed_and_number_of_prompts_are_the_sessions(tmp_path: Path, source: str) -> None:
    texts = single_case(tmp_path, **{source: {"seed": 7, "prompts": 3}, "marker": PAIR}).texts
    assert (texts.seed, texts.prompt_limit) == (7, 3)
    texts = single_case(tmp_path, marker=PAIR).texts
    assert (texts.seed, texts.prompt_limit) == (0, None)


@pytest.mark.parametrize(
    ("temperature", "rule"), [(0.0, "greedy"), (0.7, "rejection"), (1.0, "rejection")]
)
def test_the_rule_follows_the_temperature(tmp_path: Path, temperature: float, rule: str) -> None:
    assert single_case(tmp_path, line={"temperature": temperature}, marker=PAIR).rule == rule
    assert (
        single_case(tmp_path, line={"temperature": temperature}, marker=PAIR | {"rule": rule}).rule
        == rule
    )


@pytest.mark.parametrize(
    ("rule", "temperature", "complaint"),
    [
        ("greedy", 1.0, "rule 'greedy' does not go with temperature 1; greedy is temperature 0"),
        ("rejection", 0.0, "rule 'rejection' does not go with temperature 0"),
        ("block", 0.0, "rule 'block' does not go with temperature 0"),
        ("typical", 0.0, "rule 'typical' does not go with temperature 0"),
        ("best", 1.0, "verification rule 'best' is unknown; choose among rejection, greedy"),
    ],
)
def test_a_rule_that_cannot_be_is_refused(
    tmp_path: Path, rule: str, temperature: float, complaint: str
) -> None:
    with pytest.raises(RequestError, match=complaint):
        grid(tmp_path, line={"temperature": temperature}, marker=PAIR | {"rule": rule})


@pytest.mark.parametrize("engine", [{}, {"engine": "replay"}])
def test_a_lossy_rule_is_not_replayed(tmp_path: Path, engine: dict[str, Any]) -> None:
    with pytest.raises(
        RequestError,
        match=r"rule 'typical' is lossy: its texts cannot be replayed .* use --specdec-engine=decode",
    ):
        grid(tmp_path, line=engine, marker=PAIR | {"rule": "typical"})


@pytest.mark.parametrize("source", ["line", "ini"])
def test_a_lossy_rule_is_decoded_and_labelled(tmp_path: Path, source: str) -> None:
    located_case = single_case(
        tmp_path, **{source: {"engine": "decode"}, "marker": PAIR | {"rule": "typical"}}
    )
    assert located_case.name == "text-draft-k8-depth0-t1-typical-lossy-decode"


@pytest.mark.parametrize("rule", ["sample-match", "block"])
def test_a_lossless_rule_may_be_replayed_and_decoded(tmp_path: Path, rule: str) -> None:
    for engine in ("replay", "decode"):
        located_case = single_case(tmp_path, line={"engine": engine}, marker=PAIR | {"rule": rule})
        assert (located_case.rule, located_case.engine) == (rule, engine)


def test_the_engine_is_the_sessions(tmp_path: Path) -> None:
    assert single_case(tmp_path, marker=PAIR).engine == "replay"
    assert single_case(tmp_path, marker=PAIR, ini={"engine": "decode"}).engine == "decode"
    assert (
        single_case(
            tmp_path, line={"engine": "replay"}, marker=PAIR, ini={"engine": "decode"}
        ).engine
        == "replay"
    )


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("suites/text", "text"),
        ("suites/text/long", "text/long"),
        ("tests/spec", "tests/spec"),
        ("tests/suites", "tests/suites"),
        ("suites", "main"),
        (".", "main"),
        ("../elsewhere/audio", "audio"),
    ],
)
def test_a_suite_is_named_after_its_folder(tmp_path: Path, folder: str, name: str) -> None:
    assert suite_name((tmp_path / folder).resolve(), tmp_path) == name


def test_a_folder_is_found_before_a_hub_id_is_assumed(tmp_path: Path) -> None:
    assert locate("org/model", tmp_path) == "org/model"
    (tmp_path / "org/model").mkdir(parents=True)
    assert locate("org/model", tmp_path) == str(tmp_path / "org/model")


@pytest.mark.parametrize("name", ["model", "./model", "../x/model", "a/b/model"])
def test_what_cannot_be_a_hub_id_is_a_path(tmp_path: Path, name: str) -> None:
    assert locate(name, tmp_path) == str((tmp_path / name).resolve())


def test_an_absolute_path_stays(tmp_path: Path) -> None:
    assert locate(str(tmp_path / "model"), Path("/elsewhere")) == str(tmp_path / "model")


@pytest.mark.parametrize(
    "change",
    [
        {"drafter": "/models/other"},
        {"margin": 0.1},
        {"target": "/models/other"},
        {"new_tokens": 32},
    ],
)
def test_two_cases_may_not_share_a_baseline(change: dict[str, Any]) -> None:
    (field,) = change
    with pytest.raises(
        RequestError,
        match=f"two different cases are both called {case().id} .*: their "
        f"{field.replace('_', ' ')} differ; select one of the tests with -k, or move one",
    ):
        check_distinct([case(), case(**change)])


def test_one_case_in_two_tests_and_cases_of_different_names_are_fine() -> None:
    check_distinct([case(), case(), case(k=4), case(depth=1), case(suite="other")])


def test_the_markers_number_of_prompts_stands_between_line_and_ini_file(tmp_path: Path) -> None:
    marker = PAIR | {"prompt_limit": 64}
    limits = [
        single_case(
            tmp_path, line={"prompts": 1000}, marker=marker, ini={"prompts": 3}
        ).texts.prompt_limit,
        single_case(tmp_path, marker=marker, ini={"prompts": 3}).texts.prompt_limit,
        single_case(tmp_path, marker=PAIR, ini={"prompts": 3}).texts.prompt_limit,
    ]
    assert limits == [1000, 64, 3]


@pytest.mark.parametrize("source", ["line", "marker", "ini"])
@pytest.mark.parametrize("engine", ["decode", "logprobs", "vllm", "transformers", "trace"])
def test_only_replay_judges_some_tokens_and_takes_the_others_as_given(
    tmp_path: Path, engine: str, source: str
) -> None:
    sources: dict[str, dict[str, Any]] = {"line": {"engine": engine}, "marker": {**PAIR}, "ini": {}}
    sources[source]["judged"] = JudgedRange(4, 8, 2)
    with pytest.raises(
        RequestError, match=f"engine '{engine}' decodes them all; use --specdec-engine=replay"
    ):
        grid(tmp_path, **sources)


@pytest.mark.parametrize("judged", [JudgedRange(4, 8), JudgedRange(4, 8, 2)])
def test_prompt_lookup_judges_no_tokens_apart(tmp_path: Path, judged: JudgedRange) -> None:
    with pytest.raises(
        RequestError, match=f"--specdec-judged needs a model's probabilities, and {LOOKUP} has none"
    ):
        grid(tmp_path, line={"judged": judged}, marker=PAIR | {"drafter": LOOKUP})


@pytest.mark.parametrize("source", ["line", "marker", "ini"])
def test_each_number_of_texts_at_once_is_a_case(tmp_path: Path, source: str) -> None:
    sources: dict[str, dict[str, Any]] = {
        "line": {"engine": "decode"},
        "marker": {**PAIR},
        "ini": {},
    }
    sources[source]["batch"] = (1, 4, 16)
    found = grid(tmp_path, **sources)
    assert [one.batch for one in found] == [1, 4, 16]
    assert found[1].name.endswith("-decode-batch4")
    check_distinct([*found, single_case(tmp_path, line={"engine": "decode"}, marker=PAIR)])


@pytest.mark.parametrize("engine", ["replay", "logprobs", "hidden-states", "trace"])
def test_an_engine_that_decodes_nothing_has_no_texts_at_once(tmp_path: Path, engine: str) -> None:
    sources: dict[str, Any] = {"line": {"engine": engine, "batch": (4,)}, "marker": PAIR}
    with pytest.raises(RequestError, match=f"engine '{engine}' decodes nothing"):
        grid(tmp_path, **sources)


def test_steps_of_another_length_may_not_share_a_baseline() -> None:
    judged = JudgedRange(4, 8, 2)
    assert case(judged=judged).id == case(judged=JudgedRange(4, 8)).id
    with pytest.raises(RequestError, match="two different cases are both called"):
        check_distinct([case(judged=judged), case(judged=JudgedRange(4, 8))])
    check_distinct([case(judged=judged), case(judged=judged), case()])


@pytest.mark.parametrize(
    ("line", "marker", "ini", "replaced"),
    [
        ("/new", "models/old", None, "drafter='models/old'"),
        ("/new", None, "models/old", "specdec_draft = models/old in the ini file"),
        ("/new", "models/old", "/new", "drafter='models/old'"),
        ("/new", "/new", None, None),
        ("/new", None, None, None),
        (None, "models/old", None, None),
        ("/new", OWN_HEADS, None, None),
    ],
)
def test_another_drafter_than_the_command_lines_is_known(
    tmp_path: Path, line: str | None, marker: str | None, ini: str | None, replaced: str | None
) -> None:
    settings = Settings(OptionValues(draft=line), OptionValues(draft=ini), tmp_path, tmp_path)
    named = replaced_models(settings, Marker(drafter=marker), tmp_path)
    assert named == ({} if replaced is None else {"drafter": replaced})


@pytest.mark.parametrize(
    ("line", "marker", "replaced"),
    [
        ("/new", "models/old", {"target": "target='models/old'"}),
        ("/new", "/new", {}),
        ("/new", None, {}),
        (None, "models/old", {}),
    ],
)
def test_another_target_than_the_command_lines_is_known(
    tmp_path: Path, line: str | None, marker: str | None, replaced: dict[str, str]
) -> None:
    settings = Settings(OptionValues(target=line), OptionValues(), tmp_path, tmp_path)
    assert replaced_models(settings, Marker(target=marker), tmp_path) == replaced


def test_a_pattern_of_drafters_makes_every_cell_of_every_candidate(tmp_path: Path) -> None:
    for name in ("ckpt-9", "ckpt-10"):
        (tmp_path / "called" / name).mkdir(parents=True)
    (tmp_path / "suites" / "text").mkdir(parents=True)
    cells = grid(tmp_path, line={"draft": "ckpt-*", "k": (4, 8)}, marker=PAIR)
    assert [cell.id for cell in cells] == [
        f"text/text-draft@{name}-k{k}-depth0-t1" for k in (4, 8) for name in ("ckpt-9", "ckpt-10")
    ]
    assert [Path(str(cell.drafter)).name for cell in cells] == ["ckpt-9", "ckpt-10"] * 2
    assert [cell.comparison for cell in cells] == [
        f"text/text-draft-k{k}-depth0-t1" for k in (4, 4, 8, 8)
    ]


def test_a_pattern_with_one_match_is_a_drafter_like_any_other(tmp_path: Path) -> None:
    (tmp_path / "called" / "ckpt-9").mkdir(parents=True)
    by_pattern = single_case(tmp_path, line={"draft": "ckpt-*"}, marker=PAIR)
    assert by_pattern == single_case(tmp_path, line={"draft": "ckpt-9"}, marker=PAIR)
    assert by_pattern.candidate == ""


def test_own_heads_of_a_marker_are_measured_once_beside_candidates(tmp_path: Path) -> None:
    for name in ("ckpt-9", "ckpt-10"):
        (tmp_path / "called" / name).mkdir(parents=True)
    own = single_case(tmp_path, line={"draft": "ckpt-*"}, marker=PAIR | {"drafter": "mtp"})
    assert (own.uses_own_heads, own.candidate) == (True, "")


def test_a_pattern_may_follow_the_name_of_a_type(tmp_path: Path) -> None:
    for name in ("ckpt-9", "ckpt-10"):
        (tmp_path / "called" / name).mkdir(parents=True)
    points = {"pytest_specdec.drafters": "table = table_drafter"}
    with installed(tmp_path / "package", "table_drafter", "", points):
        cells = grid(tmp_path, line={"draft": "table:ckpt-*"}, marker=PAIR)
    assert [(str(cell.drafter), cell.candidate) for cell in cells] == [
        (f"table:{tmp_path / 'called' / name}", name) for name in ("ckpt-9", "ckpt-10")
    ]


def test_a_tree_is_one_case_of_its_depth(tmp_path: Path) -> None:
    for tree in ("0 1 0.0", [[0], [1], [0, 0]], {"paths": [[0], [1], [0, 0]]}):
        only = single_case(tmp_path, marker=PAIR | {"tree": tree_of(tree)}, line={"k": (4, 8)})
        assert (only.k, only.rule, str(only.tree)) == (2, "rejection", "0 1 0.0")


@pytest.mark.parametrize(
    ("marker", "message"),
    [
        ({"engine": "vllm"}, "does not draft the tree"),
        ({"judged": JudgedRange(1, 9)}, "judged"),
        ({"depth": (1,)}, "MTP heads grows no trees"),
        ({"drafter": "prompt-lookup"}, "grows no trees"),
        ({"rule": "block"}, "does not verify trees"),
        ({"rule": "naive"}, "lossy"),
        ({"rule": "traversal", "tree": tree_of("0 1 sampled")}, "use --specdec-engine=decode"),
        ({"k": (4,)}, "the marker has k= and tree=.*; leave one of them out"),
    ],
)
def test_what_does_not_go_with_trees_is_refused(
    tmp_path: Path, marker: dict[str, Any], message: str
) -> None:
    line = {"engine": marker.pop("engine")} if "engine" in marker else {}
    with pytest.raises(RequestError, match=message):
        grid(tmp_path, line=line, marker=PAIR | {"tree": tree_of("0 1 0.0")} | marker)
