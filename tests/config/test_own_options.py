"""Messages that name pytest's options, for the readers of commands."""

from __future__ import annotations

import argparse

import pytest

from pytest_specdec.__main__ import COMMANDS, main
from pytest_specdec.config.own_options import own_options, with_own_options


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("use --specdec-k=3", "use --k=3"),
        ("raise --specdec-new-tokens", "raise --new-tokens"),
        ("a server: --specdec-url=http://127.0.0.1:8000", "a server: http://127.0.0.1:8000"),
        ("check --specdec-url.", "check URL."),
        ("pass --specdec-target= and --specdec-draft=.", "pass --target= and --draft=."),
        ("use --specdec-engine=replay", "use --specdec-engine=replay"),
        ("use --specdec-temperature=0", "use --specdec-temperature=0"),
        ("--specdec-soak-hours", "--specdec-soak-hours"),
    ],
)
def test_options_that_the_command_has_are_named_as_it_has_them(message: str, shown: str) -> None:
    assert with_own_options(message, _names("check-engine")) == shown


def test_arguments_without_an_option_are_no_options_of_pytest() -> None:
    """`profile REPORT` does not have pytest's --specdec-report."""
    message = "write one by --specdec-report=report.json"
    assert with_own_options(message, _names("profile")) == message


def test_errors_of_commands_name_their_options(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check-engine", "localhost"]) == 2
    assert capsys.readouterr().err == (
        "error: 'localhost' is not a server's URL; write for example http://localhost:8000\n"
    )


def _names(command: str) -> dict[str, str]:
    parser = argparse.ArgumentParser()
    COMMANDS[command][0].add(parser)
    return own_options(parser)
