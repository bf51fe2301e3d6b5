"""docs/fields.md from the types of stored files and reports:
`python benchmarks/fields_page.py > docs/fields.md`.

A field's meaning is the docstring under it, or stands in MEANINGS. tests/test_docs_fields.py fails
if the page is out of date or a field has no meaning.
"""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Iterator
from typing import Any

import msgspec

from pytest_specdec.baselines.evidence_and_tokens import EvidenceFile, TokenMap, TokenRow
from pytest_specdec.records.accumulated import AccumulatedRun
from pytest_specdec.records.case_costs import CaseCosts
from pytest_specdec.records.conditions import Conditions, Environment, Fingerprints
from pytest_specdec.records.prompt_counts import PromptCounts, SmoothedCounts, StoredContexts
from pytest_specdec.records.record import Record
from pytest_specdec.records.replaced import ReplacedRecord
from pytest_specdec.records.text_set import TextSet
from pytest_specdec.report.schema import report_schema

STORED = {
    "Record": (Record, "`baselines/<suite>/<case>.json`"),
    "Conditions": (Conditions, "`conditions` of a record"),
    "Fingerprints": (Fingerprints, "`fingerprints` of a record or an accumulated run"),
    "Environment": (Environment, "`environment` of a record"),
    "PromptCounts": (PromptCounts, "a prompt's row in `counts` and in each of `again`"),
    "SmoothedCounts": (SmoothedCounts, "`smoothed` of a row"),
    "StoredContexts": (StoredContexts, "`contexts` of a row"),
    "CaseCosts": (CaseCosts, "`costs` of a record"),
    "ReplacedRecord": (ReplacedRecord, "an entry of `replaced`"),
    "TextSet": (TextSet, "`baselines/<suite>/texts/<texts>.json`"),
    "TokenMap": (TokenMap, "`baselines/<suite>/tokens/<drafter>-head<h>-<texts>.json`"),
    "TokenRow": (TokenRow, "a prompt's entry in `tokens`"),
    "EvidenceFile": (EvidenceFile, "`baselines/<suite>/evidence/<case>.json`"),
    "AccumulatedRun": (AccumulatedRun, "an entry of `nights`"),
}
"""Types of stored files, and where they stand."""

MEANINGS = {
    "Fingerprints.drafter": "hash of the drafter's tensors and configuration",
    "Fingerprints.target": "hash of the target's tensors and configuration",
    "accept": "acceptance of each new token in 64 levels, a character a token: 0-9, A-Z, a-z, + and -",
    "acceptance_length": "tokens emitted per round",
    "acceptance_rate": "accepted over drafted tokens",
    "accepted": "accepted drafts by position",
    "baselines": "how many were compared",
    "before": "in the baseline",
    "best": "whether it is the best",
    "categories": "acceptance length by category of prompts",
    "category": "the prompt's category",
    "category_errors": "standard errors of `categories`, clustered by prompt",
    "changed": "what differs from the baseline: weights, code, environment",
    "checks": "what the oracle and the conformance test found",
    "comparison": "its comparison",
    "conditional": "conditional acceptance by position",
    "conditional_error": "standard errors of `conditional`, clustered by prompt",
    "conditions": "what has to be the same for a comparison",
    "counts": "the counts by prompt key",
    "count": "number of samples",
    "definition": "id of the counting rule",
    "depth": "MTP layers per drafter pass",
    "deviation": "standard deviation",
    "device": "`cpu` or `cuda`, with the model of the GPU where one is known",
    "draft_ms": "drafting of one round, in milliseconds",
    "drafted": "drafted tokens by position",
    "drafter": "the drafter",
    "drop": "relative drop of the judged metric",
    "dtype": "number format of the weights",
    "effective_share": "share of contexts that carry the estimate's weight",
    "efficiency": "expected accepted over drafted tokens per round",
    "engine": "how it was measured",
    "estimate": "what decided the verdict, null where the metric of the emitted texts did",
    "environment": "where it was measured",
    "expected_accepted": "drafts accepted per round, without the bonus token",
    "fingerprints": "what is under test",
    "from_best": "difference from the best",
    "from_previous": "difference from the one before it",
    "id": "suite and name of the case",
    "k": "draft tokens per round",
    "least": "smallest",
    "machine": "where costs were measured",
    "mean": "mean",
    "message": "what was found, in words",
    "most": "largest",
    "name": "name",
    "new_tokens": "tokens of text per prompt",
    "nights": "the accumulated runs, oldest first",
    "now": "in this run",
    "p_value": "p-value of the permutation test, adjusted for all cases of the session",
    "passes": "whether it passes",
    "platform": "operating system and processor",
    "prompts": "hash of the prompt keys, or their number in a report",
    "python": "version of Python",
    "rate": "acceptance rate of one round",
    "reason": "why the verdict was given, in words",
    "repeats": "number of runs",
    "request_speedup_interval": "its 95 % interval, empty where it is unknown",
    "rounds": "verifications by the target; expectations where they are replayed",
    "rule": "verification rule",
    "samples": "number of timed samples; in a report the first rounds of all prompts",
    "same_texts": "whether the texts are the same",
    "schema": "version of the file's form",
    "session": "what the session ran",
    "smallest_detectable_drop": "the drop that the gate fails at least 4 times in 5",
    "smoothed": "counts of a greedy case with the draft at the temperature `smoothing`",
    "software": "versions that costs were measured with",
    "speedup": "theoretical speed-up, null without costs",
    "starts": "starts of rounds in the text",
    "suite": "the suite",
    "survival": "share of rounds that accepted positions 1 to i",
    "target": "the target",
    "target_ms": "one step of the target, in milliseconds",
    "temperature": "sampling temperature, 0 for greedy",
    "template": "fingerprint of the chat template, null without one",
    "text": "fingerprint of the text",
    "texts": "token ids of each prompt's new tokens, by prompt key",
    "tokenizer": "fingerprint of the tokenizer",
    "tokens": "rows by prompt key",
    "top_k": "sampled among the likeliest, 0 for all",
    "top_p": "sampled among the likeliest that make up this share, 1 for all",
    "torch": "version of torch, empty without it",
    "transformers": "version of transformers, empty without it",
    "unseen": "probability that no text shows, where filters leave tokens out",
    "verdict": "[verdict](reference.md#verdicts)",
    "verify_ms": "verification of k drafts, in milliseconds",
    "worst": "the prompts whose first rounds accept least",
    "seed": "seed of the texts",
    "fell_after": "the candidate after which acceptance fell, null where it did not",
    "candidates": "conclusions on [candidates](compare-checkpoints.md), where several were compared",
    "baseline": "the stored metrics, empty without a baseline",
}
"""Meanings of fields whose names say nearly everything."""

HEAD = """# Fields of records and reports

Every field of the files that pytest-specdec stores and of the `.json` report
(`python benchmarks/fields_page.py > docs/fields.md` writes this page from the code). Stored files are strict JSON: an
unknown field is an error. Numbers are finite, and a value that does not exist is null. Times are milliseconds, drops are
relative. [reference.md](reference.md#files) says when each file is written, [glossary.md](glossary.md) defines the terms.
"""
REPORT = """## The report

`--specdec-report=FILE.json` writes a `ReportDocument`. [report.schema.json](report.schema.json) is its JSON Schema. Later
versions of schema 1 add fields and change none.
"""


def stored_fields(of: Any) -> Iterator[tuple[str, str, str]]:
    """Name in the file, type and meaning of each field of a stored type."""
    _, components = msgspec.json.schema_components([of], ref_template="{name}")
    properties = components[of.__name__]["properties"]
    described = _docstrings(of)
    encoded = dict(zip(of.__struct_encode_fields__, of.__struct_fields__, strict=True))
    for name, schema in properties.items():
        meaning = described.get(encoded[name]) or _meaning(of.__name__, name)
        yield name, _type(schema), meaning


def report_fields() -> dict[str, list[tuple[str, str, str]]]:
    """The fields of each type of the .json report."""
    return {
        name: [
            (field, _type(schema), schema.get("description") or _meaning(name, field))
            for field, schema in definition["properties"].items()
        ]
        for name, definition in report_schema()["$defs"].items()
    }


def _meaning(of: str, field: str) -> str:
    return MEANINGS.get(f"{of}.{field}") or MEANINGS.get(field, "")


def _docstrings(of: Any) -> dict[str, str]:
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(of))).body
    assert isinstance(tree, ast.ClassDef)
    return {
        field.target.id: " ".join(str(after.value.value).split())
        for field, after in zip(tree.body, tree.body[1:], strict=False)
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(after, ast.Expr)
        and isinstance(after.value, ast.Constant)
    }


def _type(schema: dict[str, Any]) -> str:
    if "anyOf" in schema:
        return " or ".join(_type(part) for part in schema["anyOf"])
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "enum" in schema:
        return " or ".join(f"`{value}`" for value in schema["enum"])
    if schema.get("type") == "array":
        inner = _type(schema["items"]) if isinstance(schema.get("items"), dict) else "anything"
        return f"list of {inner}"
    if schema.get("type") == "object":
        inner = schema.get("additionalProperties")
        return f"object of {_type(inner)}" if isinstance(inner, dict) and inner else "object"
    return str(schema.get("type", "anything"))


def _table(fields: list[tuple[str, str, str]]) -> str:
    lines = ["| field | type | meaning |", "|---|---|---|"]
    for name, kind, meaning in fields:
        cell = re.sub(r"(?<!\\)\|", r"\\|", meaning).rstrip(".")
        lines.append(f"| `{name}` | {kind} | {cell} |")
    return "\n".join(lines) + "\n"


def page() -> str:
    """The page."""
    parts = [HEAD, "## Stored files\n"]
    for name, (of, place) in STORED.items():
        parts += [f"### {name}\n", f"{place}.\n", _table(list(stored_fields(of)))]
    parts.append(REPORT)
    for name, fields in sorted(
        report_fields().items(), key=lambda pair: (pair[0] != "ReportDocument", pair[0])
    ):
        parts += [f"### {name}\n", _table(fields)]
    return "\n".join(parts)


if __name__ == "__main__":
    print(page(), end="")
