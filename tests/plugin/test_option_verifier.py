"""--specdec-verifier and the fixture specdec_verifier: the user's own sampler under the property
tests.
"""

from __future__ import annotations

import pytest

TEST = """
import pytest
from pytest_specdec.lossless import assert_lossless

def test_sampler(specdec_verifier):
    assert_lossless(specdec_verifier, k=1, max_examples=5)
"""
SAMPLERS = """
import torch

def right(target_probs, draft_probs, draft_tokens):
    return torch.multinomial(target_probs[0], 1)

def wrong(target_probs, draft_probs, draft_tokens):
    return [int(draft_tokens[0])]

number = 1
"""
ONE_LINE = """
import pytest
from samplers import wrong

@pytest.fixture
def specdec_verifier():
    return wrong
"""


@pytest.fixture
def samplers(pytester: pytest.Pytester) -> pytest.Pytester:
    pytester.makepyfile(test_mine=TEST, samplers=SAMPLERS)
    return pytester


def test_without_it_our_own_rule_is_tested(samplers: pytest.Pytester) -> None:
    samplers.runpytest().assert_outcomes(passed=1)


def test_a_right_sampler_passes(samplers: pytest.Pytester) -> None:
    samplers.runpytest("--specdec-verifier=samplers:right").assert_outcomes(passed=1)


def test_a_wrong_one_fails_with_the_smallest_distributions(samplers: pytest.Pytester) -> None:
    result = samplers.runpytest("--specdec-verifier=samplers:wrong")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "E * wrong is not lossless (exact): ?0? is emitted with probability 1 where the target "
            "has 0 *",
            "E *p = ?0, 1?  q = ?1, 0?",
        ]
    )


def test_the_ini_file_names_it_too(samplers: pytest.Pytester) -> None:
    samplers.makeini("[pytest]\nspecdec_verifier = samplers:wrong\n")
    samplers.runpytest().assert_outcomes(failed=1)


def test_a_fixture_of_ones_own_wins(samplers: pytest.Pytester) -> None:
    samplers.makeconftest(ONE_LINE)
    samplers.runpytest("--specdec-verifier=samplers:right").assert_outcomes(failed=1)


@pytest.mark.parametrize(
    ("named", "message"),
    [
        (
            "nowhere:verify",
            "*--specdec-verifier=nowhere:verify: No module named 'nowhere'; name module:function*",
        ),
        (
            "samplers:absent",
            "*--specdec-verifier=samplers:absent: *has no attribute 'absent'; name module:function*",
        ),
        (
            "samplers:number",
            "*--specdec-verifier=samplers:number is not a function; name one of target_probs*",
        ),
    ],
)
def test_what_is_no_sampler_is_said(samplers: pytest.Pytester, named: str, message: str) -> None:
    result = samplers.runpytest(f"--specdec-verifier={named}")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines([message])
    result.stdout.no_fnmatch_line("*During handling*")


@pytest.mark.parametrize("named", ["samplers", "samplers:", ":right", "samplers.py:right()"])
def test_what_names_nothing_is_a_usage_error(samplers: pytest.Pytester, named: str) -> None:
    result = samplers.runpytest(f"--specdec-verifier={named}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*does not name a function; write module:function*"])
