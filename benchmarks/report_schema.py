"""Prints the JSON Schema of .json reports: python benchmarks/report_schema.py >
docs/report.schema.json.
"""

from __future__ import annotations

import json

from pytest_specdec.report.schema import report_schema


def page() -> str:
    """The whole file."""
    return json.dumps(report_schema(), indent=2) + "\n"


if __name__ == "__main__":
    print(page(), end="")
