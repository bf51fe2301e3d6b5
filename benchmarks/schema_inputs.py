"""Values that hypothesis makes from the schemas of files, read by their readers.

    python benchmarks/schema_inputs.py [--examples 2000] [--only KIND]

Mutants (`fuzz_inputs.py`) stay near files that are right. These are built from the types alone: each
field at the edges of its range or beyond, texts of any letters, lists and tables of any length, a
field left out or of another type now and then. What is asked of readers is the same: one message of
our own, or a value that makes sense, within a second. Exit status 1 where a value shows a fault.
"""

from __future__ import annotations

import argparse
import functools
import json
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
from fuzz_inputs import Kind, Result, _digested, _tried, kinds, tiny_checkpoint
from hypothesis import HealthCheck, Phase, Verbosity, given, seed, settings
from hypothesis import strategies as st

from pytest_specdec.baselines.evidence_and_tokens import EvidenceFile, TokenMap
from pytest_specdec.engines.adapters.trace_format import Header, Line
from pytest_specdec.engines.part_files import ShardPart
from pytest_specdec.engines.servers.payloads import Completion
from pytest_specdec.records.record import Record
from pytest_specdec.records.text_set import TextSet
from pytest_specdec.report.profile_gate import PublishedProfile
from pytest_specdec.report.published import PublishedTable
from pytest_specdec.report.schema import ReportDocument
from pytest_specdec.speedup import profile_file

Schema = Mapping[str, Any]
EDGES = (0, 1, -1, 2, 0.5, 1.0, 1e-9, 2**31, 2**53, 2**63, 1e300, -1e300, 5e-324)
ODD = (None, True, "", "x", [], {}, -1, 1e300, [[]], "\x1b[0m", "\u2028")
_DEEPEST = 6


def values(of: Any) -> st.SearchStrategy[Any]:
    """Values of a type of msgspec, most of them by its schema."""
    (schema,), definitions = msgspec.json.schema_components((of,), ref_template="{name}")
    return _values(schema, definitions, 0)


def _values(schema: Schema, definitions: Schema, depth: int) -> st.SearchStrategy[Any]:
    """Mostly what the schema asks for; something else one time in many."""
    odd = st.sampled_from(ODD)
    right = _right(schema, definitions, depth)
    return st.integers(0, 300).flatmap(lambda chance: right if chance else odd)


def _right(schema: Schema, definitions: Schema, depth: int) -> st.SearchStrategy[Any]:
    if "$ref" in schema:
        name = str(schema["$ref"])
        # A definition may hold itself.
        return st.deferred(lambda: _values(definitions[name], definitions, depth + 1))
    if "anyOf" in schema:
        return st.one_of([_right(one, definitions, depth) for one in schema["anyOf"]])
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    return _OF_TYPE.get(schema.get("type", ""), _anything)(schema, definitions, depth)


def _numbers(schema: Schema, definitions: Schema, depth: int) -> st.SearchStrategy[Any]:
    least = schema.get("minimum", schema.get("exclusiveMinimum", -(2**53)))
    most = schema.get("maximum", schema.get("exclusiveMaximum", 2**53))
    edges = st.sampled_from([least, most, *EDGES])
    inside: st.SearchStrategy[Any] = st.integers(int(least), max(int(most), int(least)))
    small: st.SearchStrategy[Any] = st.integers(max(int(least), 0), max(int(least), 0) + 8)
    if schema["type"] == "number":
        inside = st.floats(float(least), float(most), allow_nan=False, allow_infinity=False)
        small = st.floats(max(float(least), 0.0), max(float(least), 0.0) + 1)
    # Near the least value: numbers that go together are seldom large ones.
    return st.one_of(small, small, small, inside, edges)


def _texts(schema: Schema, definitions: Schema, depth: int) -> st.SearchStrategy[Any]:
    words = st.sampled_from(["a", "draft", "0123456789abcdef", "float32", "replay", "vllm"])
    return st.one_of(words, words, st.text(max_size=20))


def _lists(schema: Schema, definitions: Schema, depth: int) -> st.SearchStrategy[Any]:
    if depth > _DEEPEST:
        return st.just([])
    if "prefixItems" in schema:
        return st.tuples(
            *(_values(item, definitions, depth + 1) for item in schema["prefixItems"])
        ).map(list)
    items = schema.get("items") or {}
    of = _values(items, definitions, depth + 1) if isinstance(items, dict) else _anything()
    return st.lists(of, max_size=5)


def _objects(schema: Schema, definitions: Schema, depth: int) -> st.SearchStrategy[Any]:
    if depth > _DEEPEST:
        return st.just({})
    if "properties" not in schema:
        of = schema.get("additionalProperties")
        inner = _values(of, definitions, depth + 1) if isinstance(of, dict) else _anything()
        keys = st.one_of(st.sampled_from(["a", "b", "0", "1", "4", "8"]), st.text(max_size=8))
        return st.dictionaries(keys, inner, max_size=4)
    fields = {
        name: _values(field, definitions, depth + 1) for name, field in schema["properties"].items()
    }
    required = set(schema.get("required", ()))
    whole = st.fixed_dictionaries(
        {name: of for name, of in fields.items() if name in required},
        optional={name: of for name, of in fields.items() if name not in required},
    )
    names = st.sampled_from(sorted(fields))
    return st.integers(0, 100).flatmap(
        lambda chance: whole if chance else st.builds(_without, whole, names)
    )


def _without(value: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: one for key, one in value.items() if key != name} | {"unknown": 1}


def _anything(
    schema: Schema | None = None, definitions: Schema | None = None, depth: int = 0
) -> st.SearchStrategy[Any]:
    return st.sampled_from([*ODD, *EDGES])


_OF_TYPE = {
    "integer": _numbers,
    "number": _numbers,
    "string": _texts,
    "array": _lists,
    "object": _objects,
    "boolean": lambda schema, definitions, depth: st.booleans(),
    "null": lambda schema, definitions, depth: st.none(),
}


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()


def _stored(value: Any) -> bytes:
    """With the digest of its content, as somebody writes it who knows how."""
    return _digested(_json(value))


def _lines(rows: tuple[Any, list[Any]]) -> bytes:
    return b"".join(_json(row) + b"\n" for row in (rows[0], *rows[1]))


_CONFIG = st.fixed_dictionaries(
    {},
    optional={
        name: st.one_of(st.integers(-1, 64), _anything())
        for name in (
            "vocab_size",
            "hidden_size",
            "num_hidden_layers",
            "num_attention_heads",
            "num_key_value_heads",
            "intermediate_size",
            "max_position_embeddings",
            "num_mtp_layers",
            "num_nextn_predict_layers",
            "head_dim",
            "rope_parameters",
            "quantization_config",
            "text_config",
            "eos_token_id",
            "layer_types",
        )
    },
).map(lambda fields: _json({"model_type": "llama", "architectures": ["LlamaForCausalLM"]} | fields))


@functools.cache
def strategies() -> dict[str, st.SearchStrategy[bytes]]:
    """By kind of `fuzz_inputs`: whole files."""
    return {
        "records": values(Record).map(_stored),
        "texts": values(TextSet).map(_stored),
        "token maps": values(TokenMap).map(_stored),
        "evidence": values(EvidenceFile).map(_stored),
        "prompts": st.lists(
            st.dictionaries(
                st.sampled_from(["prompt", "messages", "category", "key"]),
                st.one_of(st.text(max_size=20), _anything(), values(list[dict[str, str]])),
            ),
            max_size=6,
        ).map(lambda rows: b"".join(_json(row) + b"\n" for row in rows)),
        "profiles": values(profile_file._Profile).map(_json),
        "traces": st.tuples(values(Header), st.lists(values(Line), max_size=3)).map(_lines),
        "config.json": _CONFIG,
        "answers": values(Completion).map(_json),
        "parts": values(ShardPart).map(_json),
        "reports": values(ReportDocument).map(_json),
        "profiles of speculation": values(PublishedProfile).map(_json),
        "published runs": values(PublishedTable).map(_json),
        "metrics": st.lists(
            st.tuples(
                st.sampled_from(["a_total", "vllm:spec_decode_num_accepted_tokens_total", "b"]),
                st.dictionaries(st.sampled_from(["position", "engine"]), st.text(max_size=6)),
                st.one_of(st.floats(), st.integers(-5, 2**70)),
            ),
            max_size=8,
        ).map(_metrics_page),
    }


def _metrics_page(samples: list[tuple[str, dict[str, str], float]]) -> bytes:
    def line(name: str, labels: dict[str, str], value: float) -> str:
        inside = ",".join(f"{key}={json.dumps(text)}" for key, text in labels.items())
        return f"{name}{{{inside}}} {value}\n"

    return "".join(line(*sample) for sample in samples).encode(errors="surrogatepass")


def made(kind: Kind, folder: Path, examples: int, number: int = 0) -> Result:
    """Read so many values of a kind."""
    result, turn = Result(), iter(range(10**9))

    @seed(number)
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=(Phase.generate,),
        verbosity=Verbosity.quiet,
        suppress_health_check=list(HealthCheck),
    )
    @given(strategies()[kind.name])
    def read(raw: bytes) -> None:
        if fault := _tried(kind, raw, folder / str(next(turn)), result):
            result.faults.append(f"{kind.name}: {fault}: {raw[:300]!r}")

    read()
    return result


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--examples", type=int, default=2000, help="of each kind")
    parser.add_argument("--only", action="append", help="a kind; may be given more than once")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    faults, total = [], 0
    with tempfile.TemporaryDirectory() as name:
        every = {kind.name: kind for kind in kinds(tiny_checkpoint(Path(name) / "tiny"))}
        print(f"{'kind':26}{'values':>8}{'refused':>9}{'accepted':>9}{'slowest':>10}{'faults':>7}")
        for kind in asked.only or strategies():
            result = made(every[kind], Path(name) / kind, asked.examples, asked.seed)
            count = result.refused + result.accepted
            print(
                f"{kind:26}{count:8}{result.refused:9}{result.accepted:9}"
                f"{result.slowest * 1e3:7.0f} ms{len(result.faults):7}",
                flush=True,
            )
            print(*result.faults[:10], sep="\n", end="\n" if result.faults else "")
            faults += result.faults
            total += count
    print(f"{total} values, {len(faults)} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
