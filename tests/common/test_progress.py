"""Bars of commands: on terminals only, one per thing that takes time."""

from __future__ import annotations

import io

import pytest

from pytest_specdec.common.progress import CommandProgress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_sees_how_much_is_done_and_a_log_only_lines() -> None:
    for file, seen in ((Terminal(), True), (io.StringIO(), False)):
        progress = CommandProgress(file)
        progress.say("timing 40 rounds")
        for done in range(4):
            progress("replay", done, 3)
        assert file.getvalue().startswith("timing 40 rounds\n")
        assert ("replay: 100%" in file.getvalue()) == seen
        assert ("3/3" in file.getvalue()) == seen


def test_the_same_thing_twice_has_two_bars() -> None:
    file = Terminal()
    progress = CommandProgress(file)
    for _ in range(2):
        progress("loading models", 0, 1)
        progress("loading models", 1, 1)
    assert file.getvalue().count("loading models: 100%") == 2


@pytest.mark.parametrize("width", [80])
def test_bars_fit_a_terminal(width: int) -> None:
    file = Terminal()
    CommandProgress(file)("sampling texts", 3, 1000)
    assert max(map(len, file.getvalue().replace("\n", "\r").split("\r"))) <= width
