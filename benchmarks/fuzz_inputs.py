"""Seeded mutants of everything that is read: stored files, prompts, profiles, traces, checkpoints,
cards, URLs, options and markers.

    python benchmarks/fuzz_inputs.py [--mutants 1000] [--seed 0] [--only KIND] [--runs 4]

Each mutant is refused by one message of our own (cause; cure), or accepted, and then holds what
every such value must hold. Either within a second. A table is printed; exit status 1 where a mutant
shows a fault. `--runs` starts pytest itself on so many refused mutants of each kind of file and
looks for exit status 4.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from card_inputs import card_kinds
from further_inputs import further_kinds
from invariants import (
    wrong_checkpoint,
    wrong_evidence,
    wrong_map,
    wrong_marker,
    wrong_option,
    wrong_profile,
    wrong_prompts,
    wrong_record,
    wrong_texts,
    wrong_trace,
    wrong_url,
)
from mutants import mutate
from served_inputs import served_kinds

from pytest_specdec.baselines.evidence_and_tokens import EvidenceFile, TokenMap
from pytest_specdec.baselines.store import load
from pytest_specdec.baselines.writing import DIGEST, digest_of
from pytest_specdec.cases.prompts import read_prompts
from pytest_specdec.checkpoints.checkpoint import Checkpoint, open_checkpoint
from pytest_specdec.checkpoints.tokenizer_files import check_tokenizer_config
from pytest_specdec.common.errors import SpecdecError
from pytest_specdec.common.printable import escaped
from pytest_specdec.common.strict_json import JsonError, parse_json
from pytest_specdec.config.options import OPTIONS
from pytest_specdec.config.parsers import server_url
from pytest_specdec.config.settings import Marker
from pytest_specdec.engines.adapters.trace import read_trace
from pytest_specdec.records.record import Record
from pytest_specdec.records.text_set import TextSet
from pytest_specdec.speedup.cost_profile import CostProfile

ROOT = Path(__file__).parent.parent
SECONDS = 1.0
"""Longest time of a mutant."""
MEMORY = 1024
"""MiB that all may take, the process itself included."""
_ALARM = 20
"""Seconds after which a reader is stopped."""
_MARKERS = (
    {"k": [4, 8], "depth": [0], "temperature": 1.0},
    {"top_k": 5, "top_p": 0.5, "new_tokens": 24, "margin": 0.01},
    {
        "target": "models/target",
        "drafter": "mtp",
        "prompts": "prompts.jsonl",
        "judged": "3:9:2",
        "prompt_limit": 4,
    },
)
_URLS = (
    "http://localhost:8000",
    "https://[::1]:8080/v1",
    "http://user:word@host/x?key=1",
    "http://10.0.0.1:80/a/b/",
)


@dataclasses.dataclass(frozen=True)
class Kind:
    """One kind of input: how it is read, and what must hold of every value that the reader
    accepts.
    """

    name: str
    originals: Sequence[bytes]
    read: Callable[[bytes, Path], Any]
    """From a mutant and an empty folder."""
    wrong: Callable[[Any], Iterator[str]]
    """What is wrong with an accepted value."""
    lines: bool = False
    place: str = ""
    """Where pytest finds the file in a project; empty for what is no file of its own."""


@dataclasses.dataclass
class Result:
    """What became of a kind's mutants."""

    refused: int = 0
    accepted: int = 0
    slowest: float = 0.0
    faults: list[str] = dataclasses.field(default_factory=list)
    rejects: list[bytes] = dataclasses.field(default_factory=list)
    """The first mutants that were refused."""


def fuzz(kind: Kind, others: Sequence[bytes], count: int, seed: int, folder: Path) -> Result:
    """Read `count` mutants of a kind, after its originals, which must be accepted."""
    result = Result()
    for number, original in enumerate(kind.originals):
        plain = Result()
        if fault := _tried(kind, original, folder / f"original {number}", plain):
            result.faults.append(f"{kind.name}, original {number}: {fault}")
        if plain.refused and kind.name != "URLs":  # one of these is meant to be refused
            result.faults.append(f"{kind.name}, original {number}: refused")
    for number in range(count):
        rng = random.Random(f"{seed} {kind.name} {number}")
        how, mutant = mutate(rng.choice(kind.originals), others, rng, lines=kind.lines)
        if fault := _tried(kind, mutant, folder / str(number), result):
            result.faults.append(f"{kind.name} {number} ({how}): {fault}")
    return result


def _tried(kind: Kind, mutant: bytes, folder: Path, result: Result) -> str | None:
    """The fault that a mutant shows; None without."""
    folder.mkdir(parents=True)
    start = time.thread_time()  # of this thread: a busy machine is not a reader's fault
    signal.signal(signal.SIGALRM, _stop)
    signal.alarm(_ALARM)
    try:
        value = kind.read(mutant, folder)
    except (SpecdecError, argparse.ArgumentTypeError) as error:
        result.refused += 1
        if len(result.rejects) < 200:
            result.rejects.append(mutant)
        fault = _message_fault(str(error))
    except Exception as error:
        fault = f"{type(error).__name__}: {str(error)[:200]}"
    else:
        result.accepted += 1
        fault = _nonsense(kind, value)
    finally:
        signal.alarm(0)
    seconds = time.thread_time() - start
    result.slowest = max(result.slowest, seconds)
    return fault or (f"{seconds:.1f} s" if seconds > SECONDS else None)


def _nonsense(kind: Kind, value: Any) -> str | None:
    """What is wrong with an accepted value; that somebody else's reader refuses it is wrong,
    too.
    """
    try:
        problems = list(kind.wrong(value))
    except Exception as error:
        problems = [f"{type(error).__name__}: {error}"]
    return f"accepted: {'; '.join(problems)[:300]}" if problems else None


def _stop(signum: int, frame: object) -> None:
    raise TimeoutError(f"no end within {_ALARM} s")


def _message_fault(message: str) -> str | None:
    cause, _, cure = message.partition("; ")
    if not cause or not cure:
        return f"no cause and cure: {message[:200]!r}"
    if escaped(message) != message or len(message) > 1500:
        return f"cannot be shown: {message[:200]!r}"
    return None


# The kinds


def kinds(tiny: Path) -> list[Kind]:
    """Every kind of input; `tiny` is a small checkpoint to make mutants of."""
    text, weights = ROOT / "baselines" / "text", (tiny / "model.safetensors").read_bytes()
    record = _fewer(text / "text-draft-k4-depth0-t1.json", "counts")
    header, body = _parts(weights)
    return [
        _stored(
            "records",
            Record,
            wrong_record,
            [record, _fewer(text / "mtp-k4-depth3-t1.json", "counts")],
        ),
        _stored(
            "texts",
            TextSet,
            wrong_texts,
            [_fewer(text / "texts" / f"t{t}-n128-s0.json", "texts") for t in (0, 1)],
        ),
        _stored(
            "token maps",
            TokenMap,
            wrong_map,
            [_fewer(text / "tokens" / "text-draft-head0-t1-n128-s0.json", "tokens")],
        ),
        _stored("evidence", EvidenceFile, wrong_evidence, [_evidence(record)]),
        Kind(
            "prompts",
            [_prompts()],
            _reader(read_prompts, "prompts.jsonl"),
            wrong_prompts,
            True,
            "suites/fuzz/prompts.jsonl",
        ),
        Kind(
            "profiles",
            [(ROOT / "suites" / "text" / "costs.json").read_bytes()],
            _reader(CostProfile.load, "costs.json"),
            wrong_profile,
            place="costs.json",
        ),
        Kind("traces", _traces(), _reader(read_trace, "run.jsonl"), wrong_trace, True, "run.jsonl"),
        Kind(
            "config.json",
            [(tiny / "config.json").read_bytes()],
            _checkpoint(tiny, "config.json"),
            wrong_checkpoint,
            place="draft/config.json",
        ),
        Kind(
            "safetensors headers",
            [header],
            _checkpoint(tiny, "model.safetensors", lambda own: _joined(own, body)),
            wrong_checkpoint,
            place="draft/model.safetensors",
        ),
        Kind(
            "weight indexes",
            [_index(tiny)],
            _checkpoint(tiny, "model.safetensors.index.json", shard=True),
            wrong_checkpoint,
        ),
        Kind(
            "other checkpoint files",
            [(tiny / f"{name}_config.json").read_bytes() for name in ("generation", "tokenizer")],
            _other_files(tiny),
            lambda found: iter(()),
        ),
        Kind(
            "URLs",
            [json.dumps(url).encode() for url in _URLS],
            lambda raw, folder: server_url(_text_of(raw)),
            wrong_url,
        ),
        Kind("options", [_options()], _option, wrong_option, True),
        Kind("markers", [json.dumps(own).encode() for own in _MARKERS], _marker, wrong_marker),
        *(
            Kind(*served)
            for served in (*served_kinds(), *further_kinds(wrong_profile), *card_kinds())
        ),
    ]


def _stored(
    name: str, shape: Any, wrong: Callable[[Any], Iterator[str]], originals: list[bytes]
) -> Kind:
    def read(raw: bytes, folder: Path) -> Any:
        path = folder / "stored.json"
        path.write_bytes(_digested(raw) if zlib.crc32(raw) % 2 else raw)
        return load(path, shape)

    originals += [_older(originals[0])]
    place = {
        "records": "baselines/fuzz/draft-k4-depth0-t1.json",
        "texts": "baselines/fuzz/texts/t1-n24-s0.json",
    }
    return Kind(name, originals, read, wrong, place=place.get(name, ""))


def _digested(raw: bytes) -> bytes:
    """A stored file with the digest of its content, as somebody writes it who knows how; others
    stay as they are.
    """
    try:
        data = parse_json(raw.decode())
    except (UnicodeDecodeError, JsonError):
        return raw
    if not isinstance(data, dict) or data.pop(DIGEST, None) is None:
        return raw
    return json.dumps(data | {DIGEST: digest_of(data)}, indent=1).encode()


def _fewer(path: Path, field: str, most: int = 5) -> bytes:
    """A stored file with its first prompts alone."""
    data = json.loads(path.read_text())
    for name in (field, "logprobs"):
        if name in data:
            data[name] = dict(list(data[name].items())[:most])
    return _digested(json.dumps(data, indent=1).encode())


def _older(raw: bytes) -> bytes:
    """A stored file as schema 1 had it: without a digest."""
    data = json.loads(raw)
    for name in (DIGEST, *(("case", "seed") if "case" in data else ())):
        del data[name]
    return json.dumps(data | {"schema": 1}, indent=1).encode()


def _evidence(record: bytes) -> bytes:
    data = json.loads(record)
    night = {"p_value": 0.25, "fingerprints": data["fingerprints"], "counts": data["counts"]}
    evidence = {
        "schema": data["schema"],
        DIGEST: "",
        "baseline": "0123456789abcdef",
        "nights": [night, night],
    }
    return _digested(json.dumps(evidence, indent=1).encode())


def _prompts() -> bytes:
    rows: list[dict[str, Any]] = [
        {"category": "prose", "prompt": f"Once upon a time {row}"} for row in range(4)
    ]
    rows += [
        {"category": "chat", "messages": [{"role": "user", "content": f"Hello {row}"}]}
        for row in range(2)
    ]
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def _traces() -> list[bytes]:
    header = {
        "schema": 1,
        "engine": "mine 2",
        "k": 3,
        "depth": 0,
        "temperature": 0.0,
        "top_p": 1.0,
        "new_tokens": 24,
        "seed": 0,
    }
    rows = [
        {
            "key": "a",
            "prompt_ids": [1, 2, 3],
            "new_ids": [5, 6, 7, 8],
            "rounds": [[3, 1], [1, 0]],
            "seconds": 0.5,
            "draft_ms": [1.0],
        },
        {
            "prompt": "b",
            "prompt_ids": [4],
            "new_ids": [5, 6, 7, 8],
            "totals": {"drafted": 6, "accepted": 1, "rounds": 2},
        },
    ]
    sums = [
        {"messages": [{"role": "user", "content": "c"}], "emitted": 4, "finish_reason": "stop"},
        {"pooled": {"drafted": 6, "accepted": 1, "rounds": 2, "per_position": [1, 0, 0]}},
    ]
    return [
        "".join(json.dumps(row) + "\n" for row in (header, *lines)).encode()
        for lines in (rows, sums)
    ]


def _reader(read: Callable[[Path], Any], name: str) -> Callable[[bytes, Path], Any]:
    def of_file(raw: bytes, folder: Path) -> Any:
        (folder / name).write_bytes(raw)
        return read(folder / name)

    return of_file


def _checkpoint(
    tiny: Path, name: str, made: Callable[[bytes], bytes] = lambda raw: raw, *, shard: bool = False
) -> Callable[[bytes, Path], Checkpoint]:
    def read(raw: bytes, folder: Path) -> Checkpoint:
        for path in tiny.iterdir():
            if path.name != name:
                target = (
                    "model-00001-of-00001.safetensors"
                    if shard and path.suffix == ".safetensors"
                    else path.name
                )
                os.link(path, folder / target)
        (folder / name).write_bytes(made(raw))
        return open_checkpoint(folder)

    return read


def _other_files(tiny: Path) -> Callable[[bytes, Path], None]:
    generation = _checkpoint(tiny, "generation_config.json")

    def read(raw: bytes, folder: Path) -> None:
        (folder / "tokenizer").mkdir()
        (folder / "tokenizer" / "tokenizer_config.json").write_bytes(raw)
        check_tokenizer_config(folder / "tokenizer")
        (folder / "model").mkdir()
        generation(raw, folder / "model")

    return read


def _parts(weights: bytes) -> tuple[bytes, bytes]:
    """The header of a safetensors file, and its tensors."""
    end = 8 + int.from_bytes(weights[:8], "little")
    return weights[8:end], weights[end:]


def _joined(header: bytes, body: bytes) -> bytes:
    return len(header).to_bytes(8, "little") + header + body


def _index(tiny: Path) -> bytes:
    names = sorted(json.loads(_parts((tiny / "model.safetensors").read_bytes())[0]))
    weight_map = {
        name: "model-00001-of-00001.safetensors" for name in names if name != "__metadata__"
    }
    return json.dumps({"metadata": {"total_size": 1}, "weight_map": weight_map}, indent=1).encode()


def _text_of(raw: bytes) -> str:
    """A mutant of a JSON string as the shell would hand it over: bytes that are no UTF-8 become
    halves of surrogates.
    """
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError):
        value = raw.decode(errors="surrogateescape")
    return value if isinstance(value, str) else str(raw.decode(errors="surrogateescape"))


def _options() -> bytes:
    values = {
        "k": "4,8",
        "depth": "0,3",
        "temperature": "0.7",
        "top-k": "40",
        "top-p": "0.9",
        "judged": "41:297:2",
        "prompts": "8",
        "new-tokens": "64",
        "seed": "3",
        "alpha": "1%",
        "margin": "0.005",
        "repeats": "2",
        "costs-margin": "10%",
        "target": "a/b",
        "draft": "models/draft",
        "url": "http://localhost:8000",
        "draft-url": "http://[::1]:80",
        "engine": "replay",
        "device": "cpu",
        "costs": "costs.json",
        "baselines": "baselines",
        "report": "out.json",
        "verifier": "a:b",
        "update": "new",
    }
    return b"\n".join(json.dumps([name, value]).encode() for name, value in values.items())


def _option(raw: bytes, folder: Path) -> tuple[str, Any]:
    """One of the lines, one that was changed where there is one, parsed by its option."""
    known, by_name = _options().split(b"\n"), {option.name: option for option in OPTIONS}
    changed = [row for row in raw.split(b"\n") if row not in known] or known[:1]
    try:
        name, value = json.loads(changed[0])
    except (ValueError, TypeError, RecursionError):
        name, value = "k", changed[0].decode(errors="surrogateescape")
    name = name if isinstance(name, str) and name in by_name else "k"
    text = value if isinstance(value, str) else json.dumps(value)
    return name, by_name[name].parser(text)


def _marker(raw: bytes, folder: Path) -> Marker:
    """Values of Python, which markers hold, as far as a mutant of JSON has them."""
    sys.set_int_max_str_digits(0)
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError):
        value = {"k": _text_of(raw)}
    finally:
        sys.set_int_max_str_digits(4300)
    return Marker.from_pytest_mark(
        (), value if isinstance(value, dict) else {"target": value}, "test_it.py::test_it"
    )


# pytest itself


def end_to_end(kind: Kind, mutants: Sequence[bytes], tiny: Path, folder: Path) -> list[str]:
    """Start pytest on a project with one spoilt file: it must end with exit status 4 and one
    message.
    """
    faults = []
    for number, mutant in enumerate(mutants):
        project = _project(folder / f"{kind.name}-{number}", tiny)
        path = project / kind.place
        path.parent.mkdir(parents=True, exist_ok=True)
        content = (
            _joined(mutant, _parts((tiny / "model.safetensors").read_bytes())[1])
            if path.suffix == ".safetensors"
            else mutant
        )
        path.unlink(missing_ok=True)
        path.write_bytes(content)
        engine = (
            ["--specdec-engine=trace", "--specdec-url=run.jsonl"] if kind.name == "traces" else []
        )
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "--specdec-costs=costs.json",
            *engine,
        ]
        done = subprocess.run(
            command, cwd=project, capture_output=True, text=True, timeout=120, check=False
        )
        said = done.stdout + done.stderr
        if done.returncode != 4 or "Traceback" in said or "INTERNALERROR" in said:
            faults.append(
                f"{kind.name}, pytest, {number}: exit status {done.returncode}: {said[-300:]!r}"
            )
    return faults


def _project(folder: Path, tiny: Path) -> Path:
    suite = folder / "suites" / "fuzz"
    suite.mkdir(parents=True)
    (folder / "pytest.ini").write_text("[pytest]\n")
    (folder / "draft").mkdir()
    for path in tiny.iterdir():
        os.link(path, folder / "draft" / path.name)
    (suite / "prompts.jsonl").write_bytes(_prompts())
    (folder / "costs.json").write_bytes((ROOT / "suites" / "text" / "costs.json").read_bytes())
    marker = f"target={str(tiny)!r}, drafter='../../draft', k=4, depth=0, new_tokens=24"
    (suite / "test_fuzz.py").write_text(
        f"import pytest\n\n@pytest.mark.specdec({marker})\ndef test_it(specdec_run, "
        "specdec_baseline):\n"
        "    assert specdec_run == specdec_baseline\n"
    )
    return folder


def tiny_checkpoint(folder: Path) -> Path:
    """The configuration and weights of a small Llama, made without torch."""
    import numpy as np
    from safetensors.numpy import save_file

    folder.mkdir(parents=True, exist_ok=True)
    rng, width = np.random.default_rng(0), 16
    shapes = {"model.embed_tokens.weight": (32, width), "model.norm.weight": (width,)}
    for layer in range(2):
        at = f"model.layers.{layer}."
        shapes |= {f"{at}self_attn.{name}_proj.weight": (width, width) for name in "qkvo"}
        shapes |= {f"{at}mlp.{name}_proj.weight": (2 * width, width) for name in ("gate", "up")}
        shapes |= {f"{at}mlp.down_proj.weight": (width, 2 * width)}
        shapes |= {f"{at}{name}_layernorm.weight": (width,) for name in ("input", "post_attention")}
    save_file(
        {name: rng.normal(size=shape).astype("float32") for name, shape in shapes.items()},
        folder / "model.safetensors",
        metadata={"format": "pt"},
    )
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": 32,
        "hidden_size": width,
        "head_dim": 8,
        "intermediate_size": 2 * width,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "max_position_embeddings": 128,
        "rms_norm_eps": 1e-6,
        "rope_parameters": {"rope_theta": 1e4, "rope_type": "default"},
        "tie_word_embeddings": True,
        "bos_token_id": 0,
        "eos_token_id": 1,
        "attention_bias": False,
        "hidden_act": "silu",
    }
    (folder / "config.json").write_text(json.dumps(config, indent=1))
    (folder / "generation_config.json").write_text(
        json.dumps({"bos_token_id": 0, "eos_token_id": [1, 2]})
    )
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 128})
    )
    return folder


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--mutants", type=int, default=1000, help="of each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", action="append", help="a kind; may be given more than once")
    parser.add_argument("--runs", type=int, default=4, help="runs of pytest for each kind of file")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        tiny = tiny_checkpoint(Path(name) / "tiny")
        every = kinds(tiny)
        faults, total = [], 0
        print(f"{'kind':24}{'mutants':>8}{'refused':>9}{'accepted':>9}{'slowest':>10}{'faults':>7}")
        for kind in every:
            if asked.only and kind.name not in asked.only:
                continue
            others = [
                original for other in every if other is not kind for original in other.originals
            ]
            result = fuzz(
                kind, others, asked.mutants, asked.seed, Path(name) / "mutants" / kind.name
            )
            if kind.place:
                picked = random.Random(asked.seed).sample(
                    result.rejects, min(asked.runs, len(result.rejects))
                )
                result.faults += end_to_end(kind, picked, tiny, Path(name) / "projects")
            found, total = len(result.faults), total + asked.mutants
            print(
                f"{kind.name:24}{asked.mutants:8}{result.refused:9}{result.accepted:9}{result.slowest * 1e3:7.0f} ms{found:7}",
                flush=True,
            )
            for fault in result.faults[:20]:
                print(fault, flush=True)
            faults += result.faults
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    if most > MEMORY:
        faults.append(f"{most} MiB of memory")
    print(f"{total} mutants, {len(faults)} faults, {most} MiB of memory at most")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
