"""docs/cards.md and docs/cards/: cards of heads, by the command that anybody runs.

`python benchmarks/cards.py` measures all, in about four minutes on one core; with names
(`text-eagle3`, `smollm2-eagle3`) only those. SmolLM2's checkpoints are made by
`python suites/smollm2/build.py eagle3`.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from marked_page import marks_of, write_lines

from pytest_specdec.__main__ import main
from pytest_specdec.report.card_page import render_card

ROOT = Path(__file__).parent.parent
PAGE, FOLDER = ROOT / "docs" / "cards.md", ROOT / "docs" / "cards"
HEADS = {
    "text-eagle3": [
        "suites/models/text-eagle3",
        "--target=suites/models/text-target",
        "--prompts=suites/text/prompts.jsonl",
    ],
    "smollm2-eagle3": [
        "suites/smollm2/models/eagle3",
        "--target=suites/smollm2/models/target",
        "--prompts=suites/smollm2/prompts.jsonl",
        "--costs=suites/smollm2/costs.json",
        "--k=4",
        "--texts=16",
        "--new-tokens=32",
        "--no-doctor",
    ],
}


def measure(name: str) -> None:
    """Run the command, and put its card into the page."""
    stored = FOLDER / f"{name}.json"
    status = main(["card", *HEADS[name], "-o", str(stored.relative_to(ROOT))])
    if status:
        raise SystemExit(status)
    write_lines(PAGE, marks_of(f"cards.py {name}"), render_card(json.loads(stored.read_text())))


if __name__ == "__main__":
    os.chdir(ROOT)
    for chosen in sys.argv[1:] or HEADS:
        measure(chosen)
