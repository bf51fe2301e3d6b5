"""--specdec-top-k and --specdec-top-p: texts and baselines of their own, from the line or the
marker.
"""

from __future__ import annotations

import json

import pytest

FILTERED = ("--specdec-top-k=5", "--specdec-top-p=0.9", "--specdec-k=4", "--specdec-depth=0")
WRITTEN = {
    "letters/texts/t1-topk5-topp0.9-n24-s0.json",
    "letters/tiny-draft-k4-depth0-t1-topk5-topp0.9.json",
}


def test_filters_have_baselines_and_texts_of_their_own(project) -> None:
    project.create(*FILTERED)
    assert set(project.baselines) == WRITTEN
    texts, record = (json.loads(project.baselines[name]) for name in sorted(WRITTEN))
    assert (texts["top_k"], texts["top_p"]) == (5, 0.9)
    assert (record["conditions"]["top_k"], record["conditions"]["top_p"]) == (5, 0.9)
    project.run(*FILTERED, ok=True)
    result = project.run("--specdec-k=4", "--specdec-depth=0", ok=False)
    result.stdout.fnmatch_lines(["*no baseline at *tiny-draft-k4-depth0-t1.json; create it*"])


def test_the_marker_filters_like_the_line_and_the_line_wins(project) -> None:
    project.write_test("""
import pytest

@pytest.mark.specdec(target={target!r}, drafter={draft!r}, k=4, new_tokens=24, top_k=5, top_p=0.9)
def test_draft(specdec_run, specdec_baseline):
    assert specdec_run == specdec_baseline
""")
    project.create()
    assert set(project.baselines) == WRITTEN
    project.run(*FILTERED, ok=True)
    project.create("--specdec-top-k=0", "--specdec-top-p=1")
    assert set(project.baselines) - WRITTEN == {
        "letters/texts/t1-n24-s0.json",
        "letters/tiny-draft-k4-depth0-t1.json",
    }


@pytest.mark.parametrize("engine", ["replay", "decode"])
def test_filters_change_what_is_accepted(project, engine: str) -> None:
    lengths = [
        project.report(
            f"--specdec-engine={engine}", "--specdec-k=4", "--specdec-depth=0", *filters
        )[0]["acceptance_length"]
        for filters in ((), ("--specdec-top-k=1",), ("--specdec-temperature=0",))
    ]
    assert lengths[0] != lengths[1]
    # One token left is greedy decoding, by another rule.
    assert lengths[1] == pytest.approx(lengths[2])
