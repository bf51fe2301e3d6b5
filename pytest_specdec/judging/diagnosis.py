"""Acceptance by token beside the baseline's: the token maps stored with a record, and the lines of
a failure message that they explain.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ..acceptance.interleaved import judged_tokens
from ..acceptance.renewal import AcceptanceField
from ..acceptance.token_acceptance import decoded, encoded, token_acceptance
from ..baselines.evidence_and_tokens import TokenMap, TokenRow
from ..baselines.store import BaselineStore
from ..baselines.writing import dumps
from ..common.errors import BaselineError
from ..common.percent import signed_percent
from ..engines.protocol import Engine
from ..gate.token_losses import TokenPositions
from ..records.conditions import Fingerprints
from ..records.measured import MeasuredCase
from ..records.record import SCHEMA
from .comparison import Run

_NOISE = 1e-3
"""Relative change of a context's acceptance that is not reported: stored levels are rounded."""
_WORST = 3
_UNUSABLE = (
    "  tokens     not listed: the stored acceptance by token is damaged or belongs to another "
    "baseline; --specdec-update=changed rewrites it with the record"
)


def token_files(run: Run, store: BaselineStore) -> Iterator[tuple[Path, str]]:
    """One file for each head that drafts; all depths of a drafter share them."""
    measurement = run.measurements[0]
    if measurement.field is None:
        return
    field = measurement.field()
    for head in range(run.case.heads):
        rows = {
            prompt: TokenRow(measurement.text_fingerprints[prompt], encoded(accept))
            for prompt, accept in token_acceptance(field, head).items()
        }
        drafter = _drafter(run.measured.fingerprints, run, head)
        token_map = TokenMap(schema=SCHEMA, drafter=drafter, tokens=rows)
        yield store.tokens_path(run.case, head), dumps(token_map)


def diagnose(run: Run, before: MeasuredCase, store: BaselineStore, engine: Engine) -> list[str]:
    """Lines on the tokens and contexts where acceptance fell; none where the baseline's acceptance
    was not stored by token.
    """
    measurement = run.measurements[0]
    if measurement.field is None or measurement.texts is None:
        return []
    field = measurement.field()
    heads = {
        head: positions
        for head in range(run.case.heads)
        if (positions := _positions(run, before, store, field, head)) is not None
    }
    if not heads:
        stored = any(store.tokens_path(run.case, head).exists() for head in range(run.case.heads))
        return [_UNUSABLE] * stored
    losses = [
        (change, head)
        for head, positions in heads.items()
        for change in positions.worst_tokens()
        if change.before - change.now > _NOISE
    ]
    losses.sort(key=lambda loss: loss[0].lost, reverse=True)
    words = engine.models.words(run.case, [change.token for change, _ in losses[:_WORST]])
    named = [
        f"{word!r} drafted by head {head} ({change.times} times, {change.before:.3f} -> "
        f"{change.now:.3f})"
        for word, (change, head) in zip(words, losses[:_WORST], strict=True)
    ]
    ranges = [
        (first, last, change)
        for first, last, change in TokenPositions.together(list(heads.values())).contexts_changed()
        if abs(change) > _NOISE
    ]
    # In an interleaved text only the judged new tokens are counted, for only they are drafted.
    unit = "tokens" if run.case.judged is None else "judged tokens"
    contexts = ", ".join(
        f"after {first} to {last} {unit} {signed_percent(change)}" for first, last, change in ranges
    )
    lines = ["  tokens     acceptance fell most at " + ", ".join(named)] if named else []
    return lines + [f"  contexts   acceptance {contexts}"] * bool(contexts)


def _positions(
    run: Run, before: MeasuredCase, store: BaselineStore, field: AcceptanceField, head: int
) -> TokenPositions | None:
    measurement = run.measurements[0]
    assert measurement.texts is not None
    try:
        stored = store.tokens(run.case, head)
    except BaselineError:
        return None  # it only explains; the record itself was read
    if stored is None or stored.drafter != _drafter(before.fingerprints, run, head):
        return None
    same = {
        key: row
        for key, row in stored.tokens.items()
        if measurement.text_fingerprints.get(key) == row.text
    }
    starts = dict(zip(field.prompts, field.starts.tolist(), strict=True))
    try:
        earlier = {key: decoded(row.accept) for key, row in same.items()}
    except ValueError:
        return None
    tokens = measurement.texts.texts
    if (judged := run.case.judged) is not None:
        tokens = {key: tuple(judged_tokens(new, judged)) for key, new in tokens.items()}
    return TokenPositions.of(earlier, token_acceptance(field, head), tokens, starts)


def _drafter(fingerprints: Fingerprints, run: Run, head: int) -> str:
    """The part of the drafter's fingerprint that a head depends on."""
    whole = fingerprints.drafter
    return whole if head or run.case.uses_own_heads else whole.split("-")[0]
