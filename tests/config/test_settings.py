"""Settings and markers: where values come from, what is accepted, what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pytest_specdec.cases.case import JudgedRange
from pytest_specdec.common.errors import RequestError
from pytest_specdec.config import options
from pytest_specdec.config.settings import Marker, OptionValues, Settings

WHERE = "tests/test_it.py::test_it"


def settings(line: OptionValues | None = None, ini: OptionValues | None = None) -> Settings:
    return Settings(line or OptionValues(), ini or OptionValues(), Path("/root"), Path("/called"))


def test_a_session_option_comes_from_the_line_then_the_ini_file() -> None:
    assert settings(OptionValues(seed=1), OptionValues(seed=5)).value(options.SEED) == 1
    assert settings(None, OptionValues(seed=5)).value(options.SEED) == 5
    assert settings().value(options.SEED) == options.SEED.default == 0


def test_zero_and_empty_count_as_given() -> None:
    assert settings(OptionValues(seed=0), OptionValues(seed=5)).value(options.SEED) == 0
    assert settings(OptionValues(k=())).value(options.K) == ()
    assert not OptionValues(seed=None)


def test_the_marker_stands_between_the_line_and_the_ini_file() -> None:
    line, ini, marker = OptionValues(margin=0.1), OptionValues(margin=0.3), Marker(margin=0.2)
    assert settings(line, ini).value(options.MARGIN, marker) == 0.1
    assert settings(None, ini).value(options.MARGIN, marker) == 0.2
    assert settings(None, ini).value(options.MARGIN, Marker()) == 0.3
    assert settings().value(options.MARGIN, Marker()) == options.MARGIN.default


def test_a_value_comes_with_the_folder_of_its_source() -> None:
    folder = Path("/tests")
    line, ini, marker = OptionValues(target="a"), OptionValues(target="c"), Marker(target="b")
    assert settings(line, ini).given(options.TARGET, marker, folder) == ("a", Path("/called"))
    assert settings(None, ini).given(options.TARGET, marker, folder) == ("b", folder)
    assert settings(None, ini).given(options.TARGET, Marker(), folder) == ("c", Path("/root"))
    assert settings().given(options.TARGET, Marker(), folder) is None


def test_a_source_without_one_of_its_values() -> None:
    assert OptionValues(k=(4,), seed=3).without(options.K) == OptionValues(seed=3)
    assert OptionValues(seed=3).without(options.K) == OptionValues(seed=3)
    assert Marker(drafter="mtp").without(options.DRAFT) == Marker()
    assert OptionValues() != Marker()


def test_a_source_knows_its_own_names_alone() -> None:
    with pytest.raises(KeyError):
        OptionValues(drafter="mtp")
    with pytest.raises(KeyError):
        Marker(draft="mtp")
    assert repr(OptionValues(draft="mtp")) == "OptionValues(draft='mtp')"


def test_paths_are_relative_to_where_they_were_written() -> None:
    line, ini = OptionValues(costs=Path("c.json")), OptionValues(costs=Path("i.json"))
    assert settings(line, ini).path(options.COSTS) == Path("/called/c.json")
    assert settings(None, ini).path(options.COSTS) == Path("/root/i.json")
    assert settings(OptionValues(costs=Path("/else/c.json"))).path(options.COSTS) == Path(
        "/else/c.json"
    )
    assert settings().path(options.COSTS) is None


def test_baselines_have_a_folder_by_default() -> None:
    assert settings().baselines == Path("/root/baselines")
    assert settings(OptionValues(baselines=Path("mine"))).baselines == Path("/called/mine")


def test_reports_are_written_where_pytest_was_called() -> None:
    assert settings(OptionValues(report=(Path("a.json"), Path("/b.json")))).reports == (
        Path("/called/a.json"),
        Path("/b.json"),
    )
    assert settings().reports == ()


def test_a_project_that_asks_for_nothing_hears_nothing() -> None:
    assert not settings().active
    assert settings(OptionValues(k=(4,))).active
    assert settings(None, OptionValues(alpha=0.05)).active


def test_settings_are_read_from_pytest(pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\nspecdec_k = 4, 16\nspecdec_alpha = 5%\n")
    settings = Settings.from_pytest_config(
        pytester.parseconfig("--specdec-k=8", "--specdec-report=a.json", "--specdec-report=b.json")
    )
    assert settings.command_line == OptionValues(k=(8,), report=(Path("a.json"), Path("b.json")))
    assert settings.ini == OptionValues(k=(4, 16), alpha=0.05)
    assert settings.root == settings.invoked_from == pytester.path


def test_filters_and_the_engine_are_read_from_either_source(pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\nspecdec_top_k = 40\nspecdec_top_p = 0.8\nspecdec_engine = decode\n")
    settings = Settings.from_pytest_config(
        pytester.parseconfig("--specdec-top-k=0", "--specdec-top-p=0.95")
    )
    assert settings.command_line == OptionValues(top_k=0, top_p=0.95)
    assert settings.ini == OptionValues(top_k=40, top_p=0.8, engine="decode")
    assert settings.value(options.ENGINE) == "decode"


def test_replay_is_the_engine_unless_another_is_named() -> None:
    assert settings().value(options.ENGINE) == "replay"
    both = settings(OptionValues(engine="replay"), OptionValues(engine="decode"))
    assert both.value(options.ENGINE) == "replay"


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("specdec_top_k = few", "ini option specdec_top_k: 'few' is not a whole"),
        ("specdec_top_p = 95%", "ini option specdec_top_p: '95%' is out of range"),
        (
            "specdec_engine = magic",
            "ini option specdec_engine: 'magic' is not one of replay, decode",
        ),
        ("specdec_k = 0", "ini option specdec_k: '0' is not a whole"),
        ("specdec_margin = 2", "ini option specdec_margin: '2' is out of range"),
        ("specdec_judged = 8:4", "ini option specdec_judged: '8:4' is not a range of token ids"),
        (
            "specdec_verifier = codec",
            "ini option specdec_verifier: 'codec' does not name a function",
        ),
        ("specdec_language = de", "ini option specdec_language: 'de' is not one of en, zh"),
    ],
)
def test_a_bad_ini_value_is_named(pytester: pytest.Pytester, line: str, complaint: str) -> None:
    pytester.makeini(f"[pytest]\n{line}\n")
    with pytest.raises(RequestError, match=f"{complaint}.*; (write|choose)"):
        Settings.from_pytest_config(pytester.parseconfig())


def test_baselines_are_not_updated_from_fewer_prompts(pytester: pytest.Pytester) -> None:
    with pytest.raises(
        RequestError, match=r"--specdec-update with --specdec-prompts .*; leave one of them out"
    ):
        Settings.from_pytest_config(
            pytester.parseconfig("--specdec-update=all", "--specdec-prompts=3")
        )


def test_a_folder_of_hidden_states_names_their_engine(pytester: pytest.Pytester) -> None:
    found = Settings.from_pytest_config(pytester.parseconfig("--specdec-hidden-states=states"))
    assert found.value(options.ENGINE) == "hidden-states"
    assert found.url == str(pytester.path / "states")


@pytest.mark.parametrize("other", ["--specdec-engine=replay", "--specdec-url=other"])
def test_a_folder_of_hidden_states_goes_with_no_other_engine(
    pytester: pytest.Pytester, other: str
) -> None:
    with pytest.raises(RequestError, match=r"--specdec-hidden-states with .* would name two"):
        Settings.from_pytest_config(pytester.parseconfig("--specdec-hidden-states=states", other))


def marker(**arguments: Any) -> Marker:
    return Marker.from_pytest_mark((), arguments, WHERE)


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        ({"k": 8}, Marker(k=(8,))),
        ({"k": [4, 8, 4]}, Marker(k=(4, 8))),
        ({"k": (4, 8)}, Marker(k=(4, 8))),
        ({"depth": 0}, Marker(depth=(0,))),
        ({"temperature": 0}, Marker(temperature=0.0)),
        ({"margin": 0.01}, Marker(margin=0.01)),
        ({"new_tokens": 64}, Marker(new_tokens=64)),
        ({"top_k": 50, "top_p": 0.9}, Marker(top_k=50, top_p=0.9)),
        ({"top_k": 0, "top_p": 1}, Marker(top_k=0, top_p=1.0)),
        ({"rule": "block"}, Marker(rule="block")),
        ({"judged": "41:297"}, Marker(judged=JudgedRange(41, 297))),
        (
            {"judged": "41:297:2", "prompt_limit": 64},
            Marker(judged=JudgedRange(41, 297, 2), prompt_limit=64),
        ),
        (
            {"target": Path("models/target"), "drafter": "mtp"},
            Marker(target="models/target", drafter="mtp"),
        ),
        ({"costs": "costs.json"}, Marker(costs=Path("costs.json"))),
        ({"prompts": Path("p.jsonl")}, Marker(prompts=Path("p.jsonl"))),
        ({}, Marker()),
    ],
)
def test_marker_values_are_held_to_the_options_rules(
    arguments: dict[str, Any], wanted: Marker
) -> None:
    assert marker(**arguments) == wanted


def test_a_marker_takes_keywords_only() -> None:
    with pytest.raises(
        RequestError,
        match=f"{WHERE}: the specdec marker takes keywords only; name them: target, drafter, k",
    ):
        Marker.from_pytest_mark(("models/target",), {}, WHERE)


def test_unknown_arguments_of_a_marker_are_named() -> None:
    with pytest.raises(
        RequestError,
        match=f"{WHERE}: the specdec marker has no argument draft, ks; choose among target, drafter",
    ):
        marker(ks=8, draft="x", k=8)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("k", 0),
        ("k", -4),
        ("k", "8"),
        ("k", 8.0),
        ("k", True),
        ("k", []),
        ("k", [4, 0]),
        ("k", None),
        ("depth", -1),
        ("depth", [0, "3"]),
        ("temperature", -0.5),
        ("temperature", "hot"),
        ("temperature", float("nan")),
        ("margin", 1.0),
        ("margin", -0.1),
        ("top_k", -1),
        ("top_k", 2.5),
        ("top_k", "50"),
        ("top_k", True),
        ("top_p", 0),
        ("top_p", 1.1),
        ("top_p", "0.9"),
        ("top_p", float("nan")),
        ("new_tokens", 1),
        ("new_tokens", [64, 128]),
        ("target", ""),
        ("drafter", 3),
        ("rule", None),
        ("prompts", ["a.jsonl"]),
        ("costs", False),
        ("judged", 41),
        ("judged", (41, 297)),
        ("judged", "41"),
        ("judged", "297:41"),
        ("judged", "41:297:0"),
        ("judged", ["41:297", "1:2"]),
        ("judged", None),
        ("prompt_limit", 0),
        ("prompt_limit", "64"),
        ("prompt_limit", [4, 8]),
        ("prompt_limit", True),
        ("k", 513),
        ("depth", 65),
        ("temperature", 1e-300),
        ("new_tokens", 10**7),
        ("target", "a\0b"),
        ("costs", "a" * 300),
    ],
)
def test_a_bad_value_of_a_marker_is_named_with_its_place(name: str, value: object) -> None:
    with pytest.raises(RequestError) as caught:
        marker(**{name: value})
    complaint, _, advice = str(caught.value).partition("; ")
    assert complaint.startswith(f"{WHERE}: {name}={value!r}"[:200])
    assert advice


@pytest.mark.parametrize("name", ["k", "depth", "temperature", "top_k", "top_p", "margin"])
def test_a_number_of_thousands_of_digits_is_named(name: str) -> None:
    with pytest.raises(RequestError, match=f"{name}=a huge number is "):
        marker(**{name: 10**5000})


def test_the_bad_item_of_a_list_is_named() -> None:
    with pytest.raises(RequestError, match=r"k=\[4, 0\] has 0, which is not a whole number of at"):
        marker(k=[4, 0])
    with pytest.raises(RequestError, match=r"depth=\[True\] has True, which is not an int; pass"):
        marker(depth=[True])


def test_values_of_a_marker_are_not_read_as_text() -> None:
    """A float keeps all its digits, and text that only the command line may hold is refused."""
    assert marker(temperature=0.1 + 0.2)[options.TEMPERATURE] == 0.1 + 0.2
    for name in ("k", "margin", "temperature", "new_tokens"):
        with pytest.raises(RequestError, match=f"{name}='1' is not an int"):
            marker(**{name: "1"})


def test_judged_tokens_and_language_are_read_from_either_source(
    pytester: pytest.Pytester,
) -> None:
    pytester.makeini("[pytest]\nspecdec_judged = 41:297\nspecdec_language = zh\n")
    settings = Settings.from_pytest_config(
        pytester.parseconfig("--specdec-judged=3:9:2", "--specdec-language=en")
    )
    assert settings.command_line == OptionValues(judged=JudgedRange(3, 9, 2), language="en")
    assert settings.ini == OptionValues(judged=JudgedRange(41, 297), language="zh")
    assert settings.value(options.LANGUAGE) == "en"
