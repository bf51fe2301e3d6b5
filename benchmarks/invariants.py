"""What must hold of every input that a reader accepts, written without the readers' own checks. For
`fuzz_inputs`.
"""

from __future__ import annotations

import itertools
import json
import math
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from safetensors import safe_open

from pytest_specdec.baselines.evidence_and_tokens import EvidenceFile, TokenMap
from pytest_specdec.cases.prompts import Prompt
from pytest_specdec.checkpoints.checkpoint import Checkpoint
from pytest_specdec.config.options import MARKER_ARGUMENTS
from pytest_specdec.config.settings import Marker
from pytest_specdec.engines.adapters.trace import Header, Line
from pytest_specdec.engines.servers.client import Client
from pytest_specdec.records.record import Record
from pytest_specdec.records.text_set import TextSet
from pytest_specdec.speedup.cost_profile import CostProfile


def _in(name: str, value: Any, least: float, most: float) -> Iterator[str]:
    if not (
        isinstance(value, int | float) and not isinstance(value, bool) and least <= value <= most
    ):
        yield f"{name} is {value!r}"


def _plain(name: str, text: Any) -> Iterator[str]:
    if not isinstance(text, str) or any(
        letter < " " or "\x7f" <= letter < "\xa0" or "\ud800" <= letter < "\ue000"
        for letter in text
    ):
        yield f"{name} is {text!r}"


def wrong_prompts(prompts: tuple[Prompt, ...]) -> Iterator[str]:
    if not prompts or len({prompt.key for prompt in prompts}) < len(prompts):
        yield "no prompts, or one twice"
    for prompt in prompts:
        if not prompt.category or bool(prompt.text) == bool(prompt.messages):
            yield "a prompt without category, or not one of text and messages"
        json.dumps(prompt.chat()).encode()
        (prompt.text or "").encode()


def wrong_profile(profile: CostProfile) -> Iterator[str]:
    by_depth = (profile.draft, profile.own_heads, *profile.drafters.values())
    tables = [
        profile.verify,
        profile.lookup,
        *(row for table in by_depth for row in table.values()),
    ]
    for table in tables:
        for k, ms in table.items():
            yield from _in("k", k, 1, 512)
            yield from _in("a time", ms, 1e-300, 1e9)
    for depth in itertools.chain(*by_depth):
        yield from _in("depth", depth, 0, 64)
    if not profile.verify or 0 in profile.own_heads:
        yield "no verify times, or own heads at depth 0"
    yield from _in("batch_size", profile.batch_size, 1, 2**20)
    yield from _in("spread", profile.spread, 0, 1e6)
    yield from _in("relative_error", profile.relative_error, 0, 1e6)
    yield from _in("samples", profile.samples, 0, 2**53)
    if not set(profile.extrapolated) <= set(profile.verify):
        yield "extrapolated k without times"
    yield from _plain("machine", profile.machine)


def wrong_trace(trace: tuple[Header, list[tuple[int, Line]]]) -> Iterator[str]:
    header, lines = trace
    for name, least, most in (
        ("k", 1, 512),
        ("depth", 0, 64),
        ("temperature", 0, 100),
        ("top_p", 1e-300, 1),
        ("top_k", 0, 2**31),
    ):
        yield from _in(name, getattr(header, name), least, most)
    yield from _in("new_tokens", header.new_tokens, 1, 10**6)
    yield from _in("seed", header.seed, 0, 2**62)
    yield from _plain("engine", header.engine)
    for _, line in lines:
        for token in (*line.prompt_ids, *line.new_ids):
            yield from _in("a token", token, 0, 2**31 - 1)
        for ms in (line.seconds or 0, *(line.draft_ms or ()), *(line.verify_ms or ())):
            yield from _in("a time", ms, 0, 1e12)
        if any(not 0 <= accepted <= drafted <= header.k for drafted, accepted in line.rounds or ()):
            yield "a round beyond k or its drafts"
        for sums in (line.totals, line.pooled):
            if sums is not None:
                yield from _wrong_sums(sums, header.k)


def _wrong_sums(sums: Any, k: int) -> Iterator[str]:
    if not 0 <= sums.accepted <= sums.drafted or (
        sums.rounds is not None and not sums.drafted <= k * sums.rounds
    ):
        yield f"sums {sums}"
    positions = sums.per_position
    if positions is not None and (
        sum(positions) != sums.accepted or list(positions) != sorted(positions, reverse=True)
    ):
        yield f"positions {sums}"


def _wrong_settings(of: Any) -> Iterator[str]:
    ranges = {
        "k": (1, 10**4),
        "depth": (0, 10**3),
        "temperature": (0, 1e3),
        "top_p": (1e-300, 1),
        "top_k": (0, 2**31),
    }
    for name, (least, most) in ranges.items():
        yield from _in(name, getattr(of, name), least, most)


def wrong_record(record: Record) -> Iterator[str]:
    of = record.conditions
    for name, least, most in (
        ("k", 1, 10**4),
        ("depth", 0, 10**3),
        ("temperature", 0, 1e3),
        ("top_p", 1e-300, 1),
        ("top_k", 0, 2**31),
    ):
        if name != "temperature" or of.temperature is not None:  # counts of a test have none
            yield from _in(name, getattr(of, name), least, most)
    yield from _in("new_tokens", of.new_tokens, 1, 10**7)
    yield from _in("threads", record.environment.threads, 0, 10**6)
    if record.costs is not None:
        for ms in record.costs.times:
            yield from _in("a time", ms, 1e-300, 1e12)
        yield from _in("relative_error", record.costs.relative_error, 0, 1e9)
        yield from _in("samples", record.costs.samples, 0, 2**60)
    for rows in record.runs:
        yield from _wrong_rows(rows, of.k)


def _wrong_rows(rows: Any, k: int) -> Iterator[str]:
    slack = 1e-4
    for key, row in rows.items():
        drafted = row.drafted if row.drafted is not None else (row.rounds,) * k
        ladder = [row.rounds, *row.accepted]
        if (
            len(row.accepted) != k
            or len(drafted) != k
            or not all(0 <= value < math.inf for value in (*ladder, *drafted))
        ):
            yield f"{key}: positions or ranges"
        elif any(after > before + slack for before, after in itertools.pairwise(ladder)):
            yield f"{key}: survival rises"
        elif any(
            own > of + slack or of > row.rounds + slack
            for own, of in zip(row.accepted, drafted, strict=True)
        ):
            yield f"{key}: accepted > drafted, or drafted > rounds"


def wrong_texts(texts: TextSet) -> Iterator[str]:
    for ids in texts.texts.values():
        for token in ids:
            yield from _in("a token", token, 0, 2**31 - 1)
        if not 1 <= len(ids) <= texts.new_tokens:
            yield f"{len(ids)} of {texts.new_tokens} tokens"
    yield from _in("temperature", texts.temperature, 0, 1e3)
    yield from _in("top_p", texts.top_p, 1e-300, 1)
    yield from _in("top_k", texts.top_k, 0, 2**31)
    yield from _in("new_tokens", texts.new_tokens, 1, 10**7)
    yield from _in("seed", texts.seed, 0, 2**64)


def wrong_map(tokens: TokenMap) -> Iterator[str]:
    for row in tokens.tokens.values():
        if not all(
            letter.isascii() and (letter.isalnum() or letter in "+-") for letter in row.accept
        ):
            yield f"accept is {row.accept[:40]!r}"


def wrong_evidence(evidence: EvidenceFile) -> Iterator[str]:
    for run in evidence.runs:
        yield from _in("p_value", run.p_value, 0, 1)
        for row in run.counts.values():
            yield from _wrong_rows({"a prompt": row}, len(row.accepted))


def wrong_checkpoint(found: Checkpoint) -> Iterator[str]:
    elements = sum(tensor.elements for tensor in found.model_tensors.values())
    for name in (
        "vocab_size",
        "hidden_size",
        "num_hidden_layers",
        "num_attention_heads",
        "intermediate_size",
    ):
        value = found.text_config.get(name)
        if value is not None and not isinstance(value, list):
            yield from _in(name, value, 1, elements)
    if (found.vocabulary or 32) != 32:
        yield f"a vocabulary of {found.vocabulary} with an embedding of 32"
    yield from _in("context", found.context or 1, 1, 2**31)
    yield from _wrong_tensors(found)


def _wrong_tensors(found: Checkpoint) -> Iterator[str]:
    for path in found.weight_files:
        with safe_open(path, "np") as file:  # the library's own reader must accept what we accept
            if set(file.keys()) != {
                name for name, own in found.tensors.items() if own.path == path
            }:
                yield "other tensors than safetensors finds"
        own = sorted((one.begin, one.end) for one in found.tensors.values() if one.path == path)
        if (
            any(start < end for (_, end), (start, _) in itertools.pairwise(own))
            or own[-1][1] > path.stat().st_size
        ):
            yield "tensors overlap or leave the file"


def wrong_url(url: str) -> Iterator[str]:
    parts = urllib.parse.urlsplit(url)
    if (
        parts.scheme not in ("http", "https")
        or not parts.hostname
        or parts.username
        or parts.password
        or parts.query
    ):
        yield f"{url!r} is no server's"
    Client(url).close()


def wrong_option(pair: tuple[str, Any]) -> Iterator[str]:
    name, value = pair
    ranges = {
        "k": (1, 512),
        "depth": (0, 64),
        "temperature": (0, 100),
        "top-k": (0, 2**31),
        "top-p": (1e-300, 1),
        "prompts": (1, 10**6),
        "new-tokens": (2, 10**6),
        "seed": (0, 2**62),
        "alpha": (1e-300, 0.5),
        "margin": (0, 1),
        "repeats": (1, 1000),
        "costs-margin": (1e-300, 1),
    }
    for one in value if isinstance(value, tuple) else (value,):
        if name in ranges:
            yield from _in(name, one, *ranges[name])
        elif isinstance(one, str | Path):
            yield from _plain(name, str(one))


def wrong_marker(marker: Marker) -> Iterator[str]:
    for option in MARKER_ARGUMENTS.values():
        if (value := marker[option]) is not None:
            yield from wrong_option((option.name, value))
