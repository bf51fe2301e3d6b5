"""`python -m pytest_specdec` itself: help that names defaults, and one message for whatever is
wrong.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import pytest

from pytest_specdec.__main__ import COMMANDS, main
from pytest_specdec.common.errors import MeasurementError
from pytest_specdec.config.options import OPTIONS


def options(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for subparser in action.choices.values():
                yield from options(subparser)
        elif action.option_strings and action.dest != "help":
            yield action


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_every_option_names_its_default_or_is_required(name: str) -> None:
    parser = argparse.ArgumentParser()
    COMMANDS[name][0].add(parser)
    grouped = {
        action.dest
        for group in parser._mutually_exclusive_groups
        for action in group._group_actions
    }
    for action in options(parser):
        assert action.help, action.dest
        assert action.required or action.dest in grouped or "(default" in action.help, action.dest


def test_defaults_in_help_are_as_one_would_write_them(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["costs", "--help"])
    assert caught.value.code == 0
    assert "(default 1,2,3,4,8,12,16)" in " ".join(capsys.readouterr().out.split())


def test_every_option_of_pytest_with_a_value_that_it_has_by_itself_names_it() -> None:
    silent = {
        option.name
        for option in OPTIONS
        if "(default: " not in option.help_text and "(required)" not in option.help_text
    }
    assert silent == {
        "url",
        "draft-url",
        "hidden-states",
        "update",
        "prune",
        "processors",
        "accumulate",
        "report",
        "tree",
        "shard",
        "ray",
        "ray-gpus",
        "offload",
    }  # none unless given


def test_an_interrupted_command_says_so_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(arguments: argparse.Namespace) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(COMMANDS["baseline"][0], "run", interrupted)
    assert main(["baseline", "diff", "a", "b"]) == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_an_error_of_ours_is_one_line_and_exit_status_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def failing(arguments: argparse.Namespace) -> int:
        raise MeasurementError("cause; cure")

    monkeypatch.setattr(COMMANDS["baseline"][0], "run", failing)
    assert main(["baseline", "diff", "a", "b"]) == 2
    assert capsys.readouterr().err == "error: cause; cure\n"


@pytest.mark.parametrize(
    "arguments",
    [[], ["speedup"], ["costs", "--k", "0", "--target", "x"], ["policies"], ["nothing"]],
)
def test_bad_arguments_are_exit_status_2(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "error: " in capsys.readouterr().err.splitlines()[-1]
