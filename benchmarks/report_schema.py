"""Prints the JSON Schema of .json reports, or with `card` that of cards:
`python benchmarks/report_schema.py > docs/report.schema.json` and
`python benchmarks/report_schema.py card > docs/card.schema.json`.
"""

from __future__ import annotations

import json
import sys

from pytest_specdec.report.schema import card_schema, report_schema


def page(of: str = "report") -> str:
    """The whole file."""
    schema = card_schema() if of == "card" else report_schema()
    return json.dumps(schema, indent=2) + "\n"


if __name__ == "__main__":
    print(page(*sys.argv[1:2]), end="")
