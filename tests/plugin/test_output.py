"""The fixture specdec_output: everything that an engine returns for a case, on one page."""

from __future__ import annotations

import pytest

TEST = """
import pytest

@pytest.mark.specdec(target={target!r}, drafter={draft!r}, k=4, new_tokens=24, batch=[1, 3])
def test_output(specdec_output):
    assert specdec_output.right, specdec_output.message
    print({result.name: result.outcome.value for result in specdec_output.results})
    print([result.words for result in specdec_output.results if result.name == "batches"])
"""


def test_our_decoder_is_right_in_the_batches_of_the_marker(project) -> None:
    project.write_test(TEST.replace("{result", "{{result").replace("results})", "results}})"))
    result = project.run("--specdec-engine=decode", "-s", ok=True)
    result.stdout.fnmatch_lines(["*'endings': 'ok', 'texts': 'ok', 'batches': 'ok'*"])
    result.stdout.fnmatch_lines(["*acceptance length * at 1, * at 3'*"])
    assert not project.stored


def test_a_decoder_that_goes_on_after_eos_fails_with_the_place(
    project, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pytest_specdec.engines.text_endings import TargetEnds

    every = TargetEnds(frozenset(range(64)), frozenset(range(64)))
    monkeypatch.setattr("pytest_specdec.engines.model_checks.target_ends", lambda checkpoint: every)
    project.write_test(TEST.replace("{result", "{{result").replace("results})", "results}})"))
    result = project.run("--specdec-engine=decode", ok=False)
    result.stdout.fnmatch_lines(["*endings: prompt * continues after token *, which ends a text*"])
