"""Decode with a drafter beside plain decoding on the embedded pair, greedily: tokens per second, as
a ratio in one run (`benchmarks/decode_speed.py`, which takes any pair).
"""

from __future__ import annotations

import decode_speed
import pytest
from helpers.embedded import Pair
from helpers.support import EMBEDDED

PROMPTS, NEW = 8, 96
LEAST = {"text-draft": 0.8, "text-eagle3": 1.05, "mtp": 0.8}
"""The ratio that each keeps at least. A pass of so small a target costs little more than the calls
it is made of, and each draft of a model or of an MTP layer costs a good part of it: only the head
of one layer gains here.
"""


@pytest.mark.parametrize(
    ("name", "k", "depth"), [("text-draft", 4, 0), ("text-eagle3", 3, 0), ("mtp", 3, 3)]
)
def test_tokens_per_second_beside_plain(
    pair: Pair, benchmark, capsys: pytest.CaptureFixture[str], name: str, k: int, depth: int
) -> None:
    prompts = pair.prompts[:: len(pair.prompts) // PROMPTS][:PROMPTS]
    drafter = {"text-draft": pair.draft, "mtp": "mtp"}.get(name, str(EMBEDDED / name))
    drafting = decode_speed.Drafting(drafter, k, depth)
    (speeds,) = benchmark.pedantic(
        decode_speed.compared, (pair.target, [drafting], prompts), {"new": NEW}
    )
    benchmark.extra_info.update(ratio=round(speeds.ratio, 2))
    with capsys.disabled():
        print(f"\n{name}, k={k}\n{speeds.table()}")
    assert speeds.differing == 0
    assert speeds.ratio >= LEAST[name]
