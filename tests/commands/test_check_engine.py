"""`check-engine` asks for the cases that its options name, and reads folders from where it runs."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest
from helpers.support import EMBEDDED

from pytest_specdec.cases.case import SERVED
from pytest_specdec.cases.drafter import DraftModelSpec, OwnHeadsSpec, ServedSpec
from pytest_specdec.cases.prompts import read_prompts
from pytest_specdec.commands import check_engine
from pytest_specdec.commands.check_engine import PROMPTS, _cases


def options(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    check_engine.add(parser)
    return parser.parse_args(["http://localhost:8000", *words])


def test_a_greedy_and_a_sampled_case_of_the_servers_own_models() -> None:
    greedy, sampled = _cases(options("--k", "3", "--texts", "4", "--seed", "2"), "vllm")
    assert (greedy.temperature, sampled.temperature) == (0.0, 1.0)
    assert (greedy.rule, sampled.rule) == ("greedy", "rejection")
    assert (greedy.target, greedy.drafter) == (SERVED, ServedSpec())
    assert (greedy.k, greedy.texts.prompts, greedy.texts.prompt_limit) == (3, PROMPTS, 4)
    assert (greedy.texts.new_tokens, greedy.texts.seed) == (64, 2)


def test_folders_start_where_the_command_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(EMBEDDED)
    models = ["--target", "text-target", "--draft", "text-draft"]
    greedy, _ = _cases(options("--k", "3", *models), "vllm")
    assert greedy.target == str(EMBEDDED / "text-target")
    assert greedy.drafter == DraftModelSpec(str(EMBEDDED / "text-draft"))


@pytest.mark.parametrize(("k", "depth"), [(2, 2), (8, 3)])
def test_own_heads_draft_with_as_many_layers_as_there_are(k: int, depth: int) -> None:
    named = ["--target", str(EMBEDDED / "text-target"), "--draft", "mtp"]
    greedy, _ = _cases(options("--k", str(k), *named), "vllm")
    assert (greedy.drafter, greedy.depth) == (OwnHeadsSpec(), depth)


def test_our_own_prompts_have_letters_of_several_bytes() -> None:
    prompts = read_prompts(Path(PROMPTS))
    assert len(prompts) == 8
    assert sum(not (prompt.text or "").isascii() for prompt in prompts) >= 2
