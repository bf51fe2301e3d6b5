"""What the .html report shows of single tokens: the texts that lost most, coloured, and acceptance
by the length of the context.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..acceptance.counts import Array, Counts
from ..acceptance.renewal import AcceptanceField
from ..acceptance.scores import Scores
from ..acceptance.token_acceptance import decoded, token_acceptance
from ..baselines.store import BaselineStore
from ..common.errors import BaselineError, SpecdecError
from ..engines.protocol import Engine, Measurement
from ..records.measured import MeasuredCase
from ..report.row import ContextRow, Number, ShownToken, TokenTextRow, plain
from .comparison import Run

if TYPE_CHECKING:
    from ..decoding.likeliest_drafts import LikeliestDrafts

_TEXTS = 3
_MOST_TOKENS = 192
"""Of a text, so that a report of 16 cases stays small."""
_BOUNDS = (0, 32, 64, 128, 256, 512, 1024, 4096, 16384, 1 << 30)
"""Lengths of contexts, in tokens, at which acceptance is summed up."""


def token_texts(
    run: Run,
    before: MeasuredCase | None,
    store: BaselineStore,
    engine: Engine,
    names: Mapping[str, str],
) -> list[TokenTextRow]:
    """The texts whose acceptance length fell most, or is least without a baseline, token by token;
    none where the engine does not score tokens or only some are judged. `names` say how prompts
    begin.
    """
    measurement = run.measurements[0]
    if measurement.scores is None or measurement.texts is None or run.case.judged is not None:
        return []
    scores, field = measurement.scores(), measurement.scores().field(run.case.rule)
    earlier, texts = _earlier(run, before, store), measurement.texts.texts
    places = {prompt: row for row, prompt in enumerate(field.prompts)}
    categories = dict(zip(run.counts.prompts, run.counts.categories, strict=True))
    rows = []
    fallen = [found for found in _fallen(run.counts, before) if found[0] in places]
    likeliest = _likeliest(measurement, [prompt for prompt, _, _ in fallen])
    for prompt, now, old in fallen:
        values = _values(scores, field, places[prompt], earlier.get(prompt))
        ids = texts[prompt]
        undrafted = len(ids) - len(values)
        shown = [*[(None, None, None, None)] * undrafted, *values][:_MOST_TOKENS]
        words = engine.models.words(run.case, ids[: len(shown)])
        others = _others(likeliest.get(prompt), ids, undrafted, len(shown))
        instead = engine.models.words(run.case, [token for token, _ in others.values()])
        drafted = {
            place: (word, chance)
            for (place, (_, chance)), word in zip(others.items(), instead, strict=True)
        }
        rows.append(
            TokenTextRow(
                prompt=names.get(prompt, prompt),
                category=categories[prompt],
                length=plain(now),
                before=plain(old),
                tokens=[
                    _shown(word, values, drafted.get(place))
                    for place, (word, values) in enumerate(zip(words, shown, strict=True))
                ],
                more=len(ids) - len(shown),
            )
        )
    return rows


def _shown(
    word: str,
    values: tuple[Number, Number, Number, Number],
    instead: tuple[str, float] | None,
) -> ShownToken:
    p, q, accept, past = values
    other, chance = (None, None) if instead is None else instead
    return ShownToken(
        text=word,
        target=p,
        draft=q,
        accept=accept,
        before=past,
        instead=other,
        instead_draft=plain(chance),
    )


def _likeliest(measurement: Measurement, prompts: Sequence[str]) -> Mapping[str, LikeliestDrafts]:
    """What the drafter finds likeliest in these texts; it only explains, so nothing where it cannot
    be had.
    """
    if measurement.likeliest is None:
        return {}
    try:
        return measurement.likeliest(prompts)
    except SpecdecError:
        return {}


def _others(
    likeliest: LikeliestDrafts | None, ids: Sequence[int], undrafted: int, most: int
) -> dict[int, tuple[int, float]]:
    """By place in the new tokens: what head 0 finds likelier than the text's token, and its q."""
    if likeliest is None or len(likeliest.tokens) != len(ids) - undrafted:
        return {}
    return {
        place: (token, chance)
        for place, token, chance in zip(
            range(undrafted, most), likeliest.tokens, likeliest.probabilities, strict=False
        )
        if token != ids[place]
    }


def _values(
    scores: Scores, field: AcceptanceField, row: int, earlier: list[float] | None
) -> list[tuple[Number, Number, Number, Number]]:
    """p, q, acceptance now and before of each token of a text that head 0 can draft."""
    span = slice(int(field.starts[row]), int(field.lengths[row]))
    target = np.exp(scores.target[row, span]).tolist()
    draft = np.exp(scores.draft[row, 0, span]).tolist()
    accept = np.minimum(field.accept[row, 0, span], 1.0).tolist()
    past: list[Number] = [None] * len(accept) if earlier is None else [*earlier]
    return [
        (plain(p), plain(q), plain(chance), old)
        for p, q, chance, old in zip(target, draft, accept, past, strict=True)
    ]


def contexts(run: Run, before: MeasuredCase | None, store: BaselineStore) -> list[ContextRow]:
    """Mean acceptance of head 0 by the number of tokens before the draft, now and in the baseline
    where its acceptance by token is stored for the same texts.
    """
    measurement = run.measurements[0]
    if measurement.field is None:
        return []
    field = measurement.field()
    accept, earlier = token_acceptance(field, 0), _earlier(run, before, store)
    lengths = _lengths(field)
    now = np.concatenate([accept[prompt] for prompt in field.prompts])
    complete = all(prompt in earlier for prompt in field.prompts)
    old = np.concatenate([earlier[prompt] for prompt in field.prompts]) if complete else None
    rows = []
    for first, end in itertools.pairwise(_BOUNDS):
        chosen = (lengths >= first) & (lengths < end)
        if chosen.any():
            rows.append(
                ContextRow(
                    first=int(lengths[chosen].min()),
                    last=int(lengths[chosen].max()),
                    drafts=int(chosen.sum()),
                    now=plain(now[chosen].mean()),
                    before=None if old is None else plain(old[chosen].mean()),
                )
            )
    return rows


def _lengths(field: AcceptanceField) -> Array:
    """Tokens before each draft, texts one after another."""
    return np.concatenate(
        [
            np.arange(start, end)
            for start, end in zip(field.starts.tolist(), field.lengths.tolist(), strict=True)
        ]
    )


def _earlier(run: Run, before: MeasuredCase | None, store: BaselineStore) -> dict[str, list[float]]:
    """The baseline's acceptance of the same texts by head 0, where it is stored and whole."""
    measurement: Measurement = run.measurements[0]
    if before is None or measurement.field is None:
        return {}
    lengths = {
        prompt: len(values) for prompt, values in token_acceptance(measurement.field(), 0).items()
    }
    found = {}
    try:
        stored = store.tokens(run.case, 0)
        for key, row in {} if stored is None else stored.tokens.items():
            if measurement.text_fingerprints.get(key) == row.text:
                values = decoded(row.accept).tolist()
                if lengths.get(key) == len(values):
                    found[key] = values
    except (BaselineError, ValueError):
        return {}  # it only explains; the record itself was read
    return found


def _fallen(counts: Counts, before: MeasuredCase | None) -> list[tuple[str, float, float]]:
    """The prompts whose acceptance length fell most: length now and before, nan where unknown."""
    now = _by_prompt(counts)
    old = {} if before is None else _by_prompt(before.counts)
    shared = {key: old[key] for key in now if key in old}
    if shared:
        order = sorted(shared, key=lambda key: now[key] / shared[key])
    else:
        order = sorted(now, key=lambda key: now[key])
    return [(key, now[key], shared.get(key, math.nan)) for key in order[:_TEXTS]]


def _by_prompt(counts: Counts) -> dict[str, float]:
    """The acceptance length of each prompt that has a round."""
    return {
        prompt: 1 + float(accepted) / float(rounds)
        for prompt, accepted, rounds in zip(
            counts.prompts, counts.accepted.sum(axis=1), counts.rounds, strict=True
        )
        if rounds > 0
    }
