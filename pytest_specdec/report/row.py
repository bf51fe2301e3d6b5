"""One case for all reports: a flat row of plain values that can be sent between processes."""

from __future__ import annotations

import math
from typing import Any, TypedDict, cast

from ..common.printable import printable

Number = float | None


class Metrics(TypedDict):
    """What counts and a cost profile give; None where a value does not exist. Times in
    milliseconds.
    """

    prompts: int
    rounds: Number
    acceptance_rate: Number
    expected_accepted: Number
    acceptance_length: Number
    survival: list[Number]
    conditional: list[Number]
    survival_error: list[Number]
    """Standard errors, clustered by prompt."""
    conditional_error: list[Number]
    efficiency: Number
    target_ms: Number
    verify_ms: Number
    draft_ms: Number
    speedup: Number
    tokens_per_second: Number
    """Theoretical: tokens a round over its time."""
    acceptance_length_error: Number
    """Standard error, clustered by prompt."""
    speedup_interval: list[Number]
    """95 %, empty where it is unknown."""
    request_length: Number
    """Tokens per pass of the target over whole texts, the same for every k; None where the engine
    does not give it.
    """
    request_speedup: Number
    """Of whole texts, so comparable over k; the gated `speedup` is of the rounds with room for k
    drafts.
    """
    request_speedup_interval: list[Number]


class SpreadRow(TypedDict):
    """Over samples; the deviation is a sample's (n - 1)."""

    mean: Number
    deviation: Number
    least: Number
    most: Number


class Worst(TypedDict):
    """A prompt whose first round accepts little."""

    prompt: str
    """Its key."""
    text: str
    """How it begins."""
    category: str
    accepted: Number


class SamplesRow(TypedDict):
    """One round from each prompt's own context."""

    count: int
    rate: SpreadRow
    accepted: SpreadRow
    drafted: SpreadRow
    survival: list[Number]
    worst: list[Worst]


class ErosionRow(TypedDict):
    """How far the acceptance length is below the best of the last baselines."""

    drop: Number
    best: Number
    """Acceptance length."""
    commit: str | None
    """At which the best was the baseline."""
    baselines: int
    same_texts: bool
    smoothed: bool
    """Whether smoothed lengths were compared."""


class AttachmentRow(TypedDict):
    """What a suite attaches to a case, see `attachments.Attachment`; `content` is base64."""

    title: str
    media_type: str
    content: str
    alternative_text: str


class ShownToken(TypedDict):
    """A new token of a text."""

    text: str
    target: Number
    """Its probability by the target; None where no draft was possible."""
    draft: Number
    """Its probability by the drafter's head 0."""
    accept: Number
    """The chance that a draft of it by head 0 is accepted."""
    before: Number
    """The same in the baseline, where it is stored."""
    instead: str | None
    """What head 0 finds likeliest there, where that is another token."""
    instead_draft: Number
    """Its probability by head 0."""


class TokenTextRow(TypedDict):
    """A text whose acceptance fell much, or is small."""

    prompt: str
    """How it begins."""
    category: str
    length: Number
    """Acceptance length of the prompt."""
    before: Number
    tokens: list[ShownToken]
    more: int
    """Tokens that are left out at the end."""


class ContextRow(TypedDict):
    """Acceptance of head 0 after so many tokens."""

    first: int
    last: int
    drafts: int
    now: Number
    before: Number


class ChainRow(TypedDict):
    """A baseline of the case's chain."""

    length: Number
    """Its acceptance length."""
    commit: str | None
    """HEAD when it was replaced; None for the current one, and where it is not known."""
    same_texts: bool
    """Whether it was measured on the texts of the current one."""


class NightRow(TypedDict):
    """An accumulated run."""

    length: Number
    """Its acceptance length."""
    p_value: Number
    """Against all runs before it."""
    evidence: Number
    """The e-process after it."""


class CheckRow(TypedDict):
    """A question that a test asked of the engine without a baseline."""

    name: str
    """`oracle` (does it count what its models imply) or `conformance` (do its texts follow the
    target).
    """
    passes: bool
    message: str


class EstimateRow(TypedDict):
    """What decided a verdict, where it is not the metric of the emitted texts; drops are
    relative.
    """

    name: str
    before: Number
    now: Number
    drop: Number
    interval: list[Number]
    """95 %."""
    effective_share: Number
    unseen: Number


class CandidateDifference(TypedDict):
    """How much shorter a candidate's acceptance length is than another's, in tokens."""

    drop: Number
    """Negative for a gain."""
    interval: list[Number]
    """95 %, together with all others of the comparison; None for an unbounded end."""


class CandidateRow(TypedDict):
    """One of several drafters that the session compared with each other."""

    name: str
    comparison: str
    """Shared by the candidates of one comparison: a case's id without their names."""
    place: int
    """In the order of the names, from 0."""
    smoothed: bool
    """Whether the length is smoothed: at temperature 0, where the row's own is exact."""
    length: Number
    """The acceptance length by which candidates are compared."""
    best: bool
    below_best: bool
    """Whether it is significantly below the best."""
    fell: bool
    """Whether it is significantly below the best before it."""
    from_best: CandidateDifference | None
    from_previous: CandidateDifference | None


class AxisRow(TypedDict):
    """How much the acceptance length changes along an axis, all else the same."""

    axis: str
    """`target`, `drafter`, `temperature`, `drafting`, `template`, `batch`, `context` or
    `category`.
    """
    comparison: str
    """What is held fixed: the suite and the settings that are not the default."""
    k: int
    start: str
    """The axis's value that the change is from."""
    end: str
    """The value that it is to: this row's, or a group of its prompts."""
    before: Number
    """Acceptance length at `start`, over the prompts that are compared."""
    now: Number
    change: Number
    """In tokens."""
    interval: list[Number]
    """95 %, together with all others of the session's axis; None for both ends where so few prompts
    say nothing: the interval would hold every change that is possible.
    """
    prompts: int
    """Pairs, or prompts of both groups."""
    paired: bool
    """Whether both values were measured on the same prompts; not where an axis splits them."""
    moves: bool
    """Whether the interval leaves out no change."""


class ByCategory(TypedDict):
    """Acceptance lengths by category of prompts, and their standard errors."""

    categories: dict[str, Number]
    category_errors: dict[str, Number]


class ReportRow(Metrics, ByCategory):
    """A case with its verdict. Drops are relative; `baseline` holds the stored metrics, empty
    without a baseline.
    """

    id: str
    suite: str
    target: str
    drafter: str
    k: int
    depth: int | None
    """None, as the temperature, where a test hands over counts and states no models."""
    rule: str
    temperature: Number
    engine: str
    judged: str
    """The token ids that are drafted and judged, empty for all."""
    batch: int | None
    """Texts decoded at once, where the case says it."""
    tree: str
    """The tree of drafts of each round, empty for chains."""
    definition: str
    candidate: CandidateRow | None
    """None where one drafter was measured."""
    axes: list[AxisRow]
    """Changes along axes that end in this case."""
    samples: SamplesRow | None
    """None where the engine keeps no first rounds."""
    attachments: list[AttachmentRow]
    """What the hook `pytest_specdec_attachments` returned; .html reports alone show it."""
    token_texts: list[TokenTextRow]
    """The texts that lost most, token by token; .html reports alone show them."""
    contexts: list[ContextRow]
    """Acceptance by the length of the context; .html reports alone show it."""
    chain: list[ChainRow]
    """The baselines before the current one, oldest first, and then that one; empty without any."""
    environment: dict[str, str | int]
    """Where it was measured: versions, device, dtype, threads; empty where nothing was."""
    baseline: dict[str, Any]
    drop: Number
    smallest_detectable_drop: Number
    p_value: Number
    evidence: Number
    """The e-process, if evidence is accumulated."""
    evidence_limit: Number
    """From which evidence fails the case."""
    nights: list[NightRow]
    """The accumulated runs, oldest first; this run is the last one."""
    erosion: ErosionRow | None
    """None where it is not below the best by more than rounding."""
    verdict: str
    regime: str
    """What changed, and so how it was judged; empty where nothing was."""
    estimate: EstimateRow | None
    reason: str
    diagnosis: list[str]
    """The message of a failed gate, line by line, as the terminal shows it; empty otherwise."""
    checks: list[CheckRow]
    changed: list[str]
    notes: list[str]
    """What readers should know of the measurement, a sentence each."""


HTML_ONLY = ("attachments", "token_texts", "contexts")
"""Fields that .html reports alone show."""


def plain(value: float | None) -> Number:
    """A finite float, or None."""
    return None if value is None or not math.isfinite(value) else float(value)


def printable_row(row: ReportRow) -> ReportRow:
    """A row whose names, prompts and reasons are fit for terminals and pages; reasons keep their
    lines.
    """
    others = printable_values({name: value for name, value in row.items() if name != "reason"})
    return cast("ReportRow", {**others, "reason": printable(row["reason"], keep="\n")})


def printable_values(value: Any) -> Any:
    """`printable` over a tree of plain values, keys included."""
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, dict):
        return {printable_values(name): printable_values(item) for name, item in value.items()}
    return [printable_values(item) for item in value] if isinstance(value, list) else value


SEVERITY = (
    "not judged",
    "pass",
    "improved",
    "new",
    "updated",
    "inconclusive",
    "regressed",
    "error",
)


def worse(first: ReportRow, other: ReportRow) -> ReportRow:
    """Of two rows of one case, from two tests or two workers, the one with the graver verdict,
    with the attachments and checks of both.
    """
    worst = max(
        first, other, key=lambda row: (SEVERITY.index(row["verdict"]), row["rounds"] is not None)
    )
    added = [item for item in other["attachments"] if item not in first["attachments"]]
    checks = [item for item in other["checks"] if item not in first["checks"]]
    return {
        **worst,
        "attachments": [*first["attachments"], *added],
        "checks": [*first["checks"], *checks],
    }
