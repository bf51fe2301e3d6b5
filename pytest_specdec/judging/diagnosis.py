"""Acceptance token by token beside the baseline's: what is stored with a record, and what a
failure's message says.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ..acceptance.interleaved import judged_tokens
from ..acceptance.renewal import AcceptanceField
from ..acceptance.token_acceptance import decoded, encoded, token_acceptance
from ..baselines.schema import SCHEMA, Record, TokenMap, TokenRow
from ..baselines.store import BaselineStore
from ..baselines.writing import dumps
from ..common.errors import BaselineError
from ..common.percent import signed_percent
from ..engines.protocol import Engine
from ..gate.token_losses import TokenPositions
from .comparison import Run

_NOISE = 1e-3
"""Relative change of a context's acceptance of which nothing is said: what is stored is rounded."""
_WORST = 3
_OF_ANOTHER = (
    "  tokens     none is named: the stored acceptance by token is damaged or not this baseline's; "
    "--specdec-update=changed rewrites it with the record"
)


def token_files(run: Run, store: BaselineStore) -> Iterator[tuple[Path, str]]:
    """One file for each head that drafts; all depths of a drafter share them."""
    one = run.measurements[0]
    if one.field is None:
        return
    field = one.field()
    for head in range(run.case.heads):
        rows = {
            prompt: TokenRow(one.text_fingerprints[prompt], encoded(accept))
            for prompt, accept in token_acceptance(field, head).items()
        }
        yield (
            store.tokens_path(run.case, head),
            dumps(TokenMap(SCHEMA, _drafter(run.record, run, head), rows)),
        )


def diagnose(run: Run, before: Record, store: BaselineStore, engine: Engine) -> list[str]:
    """Lines on the tokens and contexts where acceptance fell; none where the baseline's drafter was
    not stored by token.
    """
    one = run.measurements[0]
    if one.field is None or one.texts is None:
        return []
    field = one.field()
    heads = {
        head: places
        for head in range(run.case.heads)
        if (places := _places(run, before, store, field, head)) is not None
    }
    if not heads:
        stored = any(store.tokens_path(run.case, head).exists() for head in range(run.case.heads))
        return [_OF_ANOTHER] * stored
    losses = [(change, head) for head, places in heads.items() for change in places.worst_tokens()]
    losses.sort(key=lambda loss: loss[0].lost, reverse=True)
    words = engine.models.words(run.case, [change.token for change, _ in losses[:_WORST]])
    named = [
        f"{word!r} drafted by head {head} ({change.times} times, {change.before:.3f} -> "
        f"{change.now:.3f})"
        for word, (change, head) in zip(words, losses[:_WORST], strict=True)
    ]
    fell = [
        own
        for own in TokenPositions.together(list(heads.values())).contexts_changed()
        if abs(own[2]) > _NOISE
    ]
    # Of an interleaved text only the judged new tokens are counted, as only they have places here.
    unit = "tokens" if run.case.judged is None else "judged tokens"
    contexts = ", ".join(
        f"after {first} to {last} {unit} {signed_percent(change)}" for first, last, change in fell
    )
    lines = ["  tokens     acceptance fell most at " + ", ".join(named)] if named else []
    return lines + [f"  contexts   acceptance {contexts}"] * bool(contexts)


def _places(
    run: Run, before: Record, store: BaselineStore, field: AcceptanceField, head: int
) -> TokenPositions | None:
    one = run.measurements[0]
    assert one.texts is not None
    try:
        stored = store.tokens(run.case, head)
    except BaselineError:
        return None  # it explains and decides nothing; the record itself was read
    if stored is None or stored.drafter != _drafter(before, run, head):
        return None
    same = {
        key: row for key, row in stored.tokens.items() if one.text_fingerprints.get(key) == row.text
    }
    starts = dict(zip(field.prompts, field.starts.tolist(), strict=True))
    try:
        earlier = {key: decoded(row.accept) for key, row in same.items()}
    except ValueError:
        return None
    tokens = one.texts.texts
    if (judged := run.case.judged) is not None:
        tokens = {key: tuple(judged_tokens(new, judged)) for key, new in tokens.items()}
    return TokenPositions.of(earlier, token_acceptance(field, head), tokens, starts)


def _drafter(record: Record, run: Run, head: int) -> str:
    """The part of the drafter's fingerprint that a head depends on."""
    whole = record.fingerprints.drafter
    return whole if head or run.case.uses_own_heads else whole.split("-")[0]
