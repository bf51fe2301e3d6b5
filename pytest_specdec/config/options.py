"""The table of options. One entry is everything there is to say about an option: command line, ini
file, marker, help and reference follow from it. Imported by every pytest run: imports next to
nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..common.limits import (
    MOST_BATCH,
    MOST_DEPTH,
    MOST_K,
    MOST_NEW_TOKENS,
    MOST_PROMPTS,
    MOST_REPEATS,
    MOST_SEED,
)
from . import axis_options
from .dividing import DIVIDING
from .engines import engine_name
from .option_type import Option
from .parsers import (
    draft_tree,
    file_name,
    file_path,
    files_ending_in,
    fraction,
    id_range,
    import_path,
    logits_processors,
    one_of,
    probability,
    server_or_file,
    server_url,
    switch,
    temperature,
    text,
    whole_number,
    whole_numbers,
)

if TYPE_CHECKING:
    from ..cases.case import JudgedRange
    from ..cases.processors import ProcessorSpec
    from ..cases.tree import Tree

DEVICES = ("auto", "cpu", "cuda")
DTYPES = ("float32", "bfloat16", "float16")
UPDATE_CHOICES = ("new", "changed", "all")
INCONCLUSIVE_CHOICES = ("fail", "warn")
BASELINES_PER_CHOICES = ("case", "device")
KEEP_CHOICES = ("texts", "hashes")
REPORT_ENDINGS = (".json", ".html", ".md", ".txt")
LANGUAGE_CHOICES = ("en", "zh")


TARGET = axis_options.TARGET
DRAFT = Option[str | None](
    name="draft",
    parser=file_name,
    metavar="PATH",
    help="Drafter: a checkpoint folder or hub id, a pattern of folders, mtp or prompt-lookup",
    default=None,
    required=True,
    marker="drafter",
    narrows=True,
)
K = Option[tuple[int, ...]](
    name="k",
    parser=whole_numbers(1, MOST_K),
    metavar="K[,K]",
    help="Draft tokens per round to measure",
    default=(8,),
    marker="k",
    narrows=True,
)
DEPTH = Option[tuple[int, ...] | None](
    name="depth",
    parser=whole_numbers(0, MOST_DEPTH),
    metavar="D[,D]",
    help="MTP layers per drafter pass to measure; 0 is none",
    default=None,
    default_words="0, own heads 1",
    marker="depth",
    narrows=True,
)
RULE = Option[str | None](
    name="rule",
    parser=file_name,
    help="Verification rule",
    default=None,
    default_words="by temperature",
    marker="rule",
    command_line=False,
    ini=False,
)
TEMPERATURE = Option[float](
    name="temperature",
    parser=temperature,
    metavar="T",
    help="Sampling temperature; 0 is greedy decoding",
    default=1.0,
    marker="temperature",
    narrows=True,
)
TOP_K = Option[int](
    name="top-k",
    parser=whole_number(0),
    metavar="N",
    help="Sample among the N likeliest tokens; 0 is all",
    default=0,
    marker="top_k",
    narrows=True,
)
TOP_P = Option[float](
    name="top-p",
    parser=probability,
    metavar="P",
    help="Sample among the likeliest tokens that make up P; 1 is all",
    default=1.0,
    marker="top_p",
    narrows=True,
)
PROCESSORS: Option[ProcessorSpec | None] = Option(
    name="processors",
    parser=logits_processors,
    metavar="NAME=VALUE[,...]",
    help="Penalties, filters or a grammar that target and drafter decode under",
    default=None,
    marker="processors",
    narrows=True,
)
DRAFTING, TEMPLATE = axis_options.DRAFTING, axis_options.TEMPLATE
TREE: Option[Tree | None] = Option(
    name="tree",
    parser=draft_tree,
    metavar="TREE",
    help="Draft trees, not chains: topk=4,depth=5,nodes=16, or paths",
    default=None,
    excludes={K: "would draft chains of k tokens, and a tree has its own depth"},
    marker="tree",
    narrows=True,
)
JUDGED: Option[JudgedRange | None] = Option(
    name="judged",
    parser=id_range,
    metavar="FIRST:END[:EVERY]",
    help="Judge only drafts with these token ids; others are given",
    default=None,
    default_words="all",
    marker="judged",
    narrows=True,
)
PROMPT_FILE = Option[Path](
    name="prompt-file",
    parser=file_path,
    help="The prompt file",
    default=Path("prompts.jsonl"),
    marker="prompts",
    command_line=False,
    ini=False,
)
PROMPTS = Option[int | None](
    name="prompts",
    parser=whole_number(1, MOST_PROMPTS),
    metavar="N",
    help="Use the first N prompts of each prompt file",
    default=None,
    default_words="all",
    marker="prompt_limit",
    narrows=True,
)
NEW_TOKENS = Option[int](
    name="new-tokens",
    parser=whole_number(2, MOST_NEW_TOKENS),
    metavar="N",
    help="Tokens of text per prompt",
    default=128,
    marker="new_tokens",
    narrows=True,
)
SEED = Option[int](
    name="seed",
    parser=whole_number(0, MOST_SEED),
    metavar="N",
    help="Seed of newly sampled texts",
    default=0,
    narrows=True,
)
BATCH = Option[tuple[int, ...] | None](
    name="batch",
    parser=whole_numbers(1, MOST_BATCH),
    metavar="N[,N]",
    help="Texts decoded, or requests sent to a server, at once: a case for each number",
    default=None,
    marker="batch",
    default_words="the engine's own number",
)
DEVICE = Option[str](
    name="device",
    parser=one_of(*DEVICES),
    metavar="NAME",
    help="Where the models run: auto, cpu or cuda",
    default="auto",
)
DTYPE = Option[str](
    name="dtype",
    parser=one_of(*DTYPES),
    metavar="NAME",
    help="Number format of the weights: float32, bfloat16 or float16",
    default="float32",
)
ENGINE = Option[str](
    name="engine",
    parser=text(engine_name),
    metavar="NAME",
    help="How acceptance is measured: replay, decode, or a real engine by name",
    default="replay",
)
URL = Option[str | None](
    name="url",
    parser=server_or_file,
    metavar="URL",
    help="Where the engine is: a server's http URL, the file of a trace, a folder of hidden states",
    default=None,
)
DRAFT_URL = Option[str | None](
    name="draft-url",
    parser=server_url,
    metavar="URL",
    help="Where the drafter is served, for the engine logprobs; its target is at --specdec-url",
    default=None,
)
HIDDEN_STATES = Option[Path | None](
    name="hidden-states",
    parser=file_path,
    metavar="DIR",
    help="Replay from the target's hidden states in the files of a folder, without the target",
    default=None,
    ini=False,
    excludes={
        ENGINE: "would name two engines",
        URL: "would name two places of hidden states",
    },
)
ALPHA = Option[float](
    name="alpha",
    parser=fraction(above_zero=True, below=0.5),
    metavar="A",
    help="False-alarm rate of the whole session",
    default=0.01,
)
MARGIN = Option[float](
    name="margin",
    parser=fraction(above_zero=False, below=1.0),
    metavar="M",
    help="Relative drop that fails a gate where more than code changed",
    default=0.01,
    marker="margin",
)
EROSION = Option[float | None](
    name="erosion",
    parser=fraction(above_zero=True, below=1.0),
    metavar="PERCENT",
    help="Drop below the best of the last baselines that fails a gate",
    default=None,
    default_words="off",
    marker="erosion",
)
INCONCLUSIVE = Option[str](
    name="inconclusive",
    parser=one_of(*INCONCLUSIVE_CHOICES),
    metavar="WORD",
    help="What an undecided gate does: fail or warn",
    default="fail",
)
REPEATS = Option[int | None](
    name="repeats",
    parser=whole_number(1, MOST_REPEATS),
    metavar="N",
    help="Runs of each sampled case, each with a seed of its own",
    default=None,
    default_words="1",
)
VERIFIER = Option[str | None](
    name="verifier",
    parser=import_path,
    metavar="MODULE:FUNCTION",
    help="The sampler that specdec_verifier hands to tests",
    default=None,
    default_words="our own rejection rule",
)
COSTS = Option[Path | None](
    name="costs",
    parser=file_path,
    metavar="FILE",
    help="Cost profile to compute the theoretical speed-up from; measure: time the loaded models",
    default=None,
    default_words="the baseline's own",
    marker="costs",
)
COSTS_MARGIN = Option[float](
    name="costs-margin",
    parser=fraction(above_zero=True, below=1.0),
    metavar="M",
    help="Fall of the speed-up that fails with new costs",
    default=0.1,
)
BASELINES = Option[Path](
    name="baselines",
    parser=file_path,
    metavar="DIR",
    help="Folder of the stored baselines",
    default=Path("baselines"),
)
BASELINES_PER = Option[str](
    name="baselines-per",
    parser=one_of(*BASELINES_PER_CHOICES),
    metavar="WORD",
    help="Keep one baseline per case, or one per case, device and dtype: case or device",
    default="case",
)
KEEP = Option[str](
    name="keep",
    parser=one_of(*KEEP_CHOICES),
    metavar="WORD",
    help="Store texts, too, or only hashes and counts, and quote no prompt: texts or hashes",
    default="texts",
)
UPDATE = Option[str | None](
    name="update",
    parser=one_of(*UPDATE_CHOICES),
    metavar="WHICH",
    help="Write baselines: new, changed or all",
    default=None,
    ini=False,
    excludes={PROMPTS: "would drop prompts from baselines"},
)
PRUNE = Option[bool](
    name="prune",
    parser=switch,
    help="Delete stored files that no test needs any more; requires a full run",
    default=False,
    ini=False,
)
ACCUMULATE = Option[bool](
    name="accumulate",
    parser=switch,
    help="Add this run's evidence to that of earlier ones",
    default=False,
    ini=False,
    excludes={
        UPDATE: "would judge against a baseline that is being replaced",
        PROMPTS: "would mix runs of different prompts",
        REPEATS: "would count one run as several",
    },
)
REPORT = Option[tuple[Path, ...]](
    name="report",
    parser=files_ending_in(*REPORT_ENDINGS),
    metavar="FILE",
    help="Write a report; the ending names its format: .json, .html, .md or .txt",
    default=(),
    ini=False,
    repeats=True,
)
LANGUAGE = Option[str](
    name="language",
    parser=one_of(*LANGUAGE_CHOICES),
    metavar="NAME",
    help="Language of .txt and .html reports: en or zh",
    default="en",
)

TABLE: tuple[Option[Any], ...] = (
    *(entry for entry in tuple(globals().values()) if isinstance(entry, Option)),
    *DIVIDING,
)
"""All entries, in their order above."""
OPTIONS = tuple(option for option in TABLE if option.command_line)
MARKER_ARGUMENTS = {option.marker: option for option in TABLE if option.marker is not None}
