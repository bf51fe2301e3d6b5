"""Right engines of a few numbers, for the levels of checks that read counts, rounds and logits
(`output_level.py`): cheap models whose runs are drawn as a right engine draws them.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from right_server import LIMIT, RightServer

from pytest_specdec.acceptance.rounds import Round
from pytest_specdec.cases.case import Sampling
from pytest_specdec.cases.prompts import Prompt
from pytest_specdec.cases.texts import Text
from pytest_specdec.common.errors import MeasurementError
from pytest_specdec.decoding.penalties import OutputPenalties
from pytest_specdec.decoding.processors import processors_of
from pytest_specdec.engines.adapter_api import (
    CountingConvention,
    PooledCounters,
    Reported,
    ReportedRound,
    Totals,
)
from pytest_specdec.engines.counting.checks import check_pooled, check_reported
from pytest_specdec.engines.counting.deviations import _impossible
from pytest_specdec.lossless.texts.greedy_divergence import TOLERANCES, greedy_gaps
from pytest_specdec.lossless.texts.histories import histories_of
from pytest_specdec.lossless.texts.martingale import evidence
from pytest_specdec.lossless.texts.processed_logits import after_processors
from pytest_specdec.lossless.texts.teacher_forcing import TeacherForced
from pytest_specdec.lossless.texts.text_judge import log_distribution
from pytest_specdec.lossless.texts.token_scores import TokenDistributions
from pytest_specdec.output.served_soak import cache_failure, cache_sides

TOLERANCE = TOLERANCES[torch.float32]
ROUNDING = 1e-4
"""Standard deviation of what one kernel's logits differ by from another's in float32, at most."""
WORDS, NEW = 12, 40


def counts_refused(rng: np.random.Generator) -> bool:
    """Whether the counts of a right engine are refused, in one of the ways in which engines count."""
    convention = CountingConvention(
        prefill_drafts=bool(rng.random() < 0.3),
        end="full" if rng.random() < 0.5 else "clipped",
        undelivered=bool(rng.random() < 0.3),
        counts_empty=bool(rng.random() < 0.5),
    )
    k, limit = int(rng.integers(1, 8)), int(rng.integers(2, 60))
    request: Any = SimpleNamespace(k=k, new_tokens=limit, drafter_kind="model")
    listed, positions = rng.random(2) < 0.5
    texts = [_counted(rng, convention, k, limit, row) for row in range(3)]
    try:
        for text in texts:
            assert text.rounds is not None
            sums = _sums([text], bool(positions))
            told: dict[str, Any] = {"rounds": text.rounds} if listed else {"totals": sums}
            check_reported(
                Reported(
                    key=text.key,
                    prompt_ids=text.prompt_ids,
                    new_ids=text.new_ids,
                    convention=convention,
                    **told,
                ),
                request,
            )
        pooled = PooledCounters(totals=_sums(texts, bool(positions)), convention=convention)
        check_pooled(pooled, texts, request)
    except MeasurementError as error:
        print(f"counts of a right engine are refused: {convention} {error}", flush=True)
        return True
    return False


def _counted(
    rng: np.random.Generator, convention: CountingConvention, k: int, limit: int, row: int
) -> Reported:
    """A text that ends by itself or at the limit, and its rounds as the engine reports them."""
    length = int(rng.integers(1, limit + 1)) if rng.random() < 0.5 else limit
    emitted, rounds = int(not convention.prefill_drafts), list[ReportedRound]()
    while emitted < length:
        left = limit - emitted
        drafted = k if convention.end == "full" else min(k, left - 1)
        accepted = int(rng.binomial(drafted, 0.6))
        delivered = min(accepted + 1, length - emitted)
        emitted += delivered
        reported = accepted if convention.undelivered else delivered - 1
        if drafted or convention.counts_empty:
            rounds.append(ReportedRound(drafted, reported))
    return Reported(
        key=str(row),
        prompt_ids=(1, 2),
        new_ids=tuple(range(3, 3 + length)),
        convention=convention,
        rounds=tuple(rounds),
    )


def _sums(texts: list[Reported], positions: bool) -> Totals:
    rounds = [one for text in texts for one in text.rounds or ()]
    most = max((one.drafted for one in rounds), default=0)
    steps = tuple(sum(one.accepted > step for one in rounds) for step in range(most))
    return Totals(
        rounds=len(rounds),
        drafted=sum(one.drafted for one in rounds),
        accepted=sum(one.accepted for one in rounds),
        per_position=steps if positions else None,
    )


class ToyPair:
    """A target and a drafter whose logits depend on the last token, and a right decoder of both."""

    def __init__(self, rng: np.random.Generator, processor: Any = None, k: int = 3) -> None:
        self.rng, self.k = rng, k
        self.target = rng.normal(size=(WORDS, WORDS)) * rng.uniform(0.5, 4)
        self.draft = self.target + rng.normal(size=(WORDS, WORDS)) * rng.uniform(0.1, 2)
        self.processors = processors_of(processor)

    def decode(self) -> tuple[Text, list[Round], list[tuple[int, ...]]]:
        """A sampled text by rejection sampling, its rounds and drafts."""
        prompt = [0, 1]
        apply = None if self.processors is None else self.processors.for_text(prompt)

        def chances(logits: np.ndarray, ids: list[int]) -> np.ndarray:
            row = torch.tensor(logits[ids[-1]])
            processed = row if apply is None else apply(torch.tensor(ids), row)
            return np.asarray(processed.double().softmax(-1))

        ids, rounds, drafts = list(prompt), list[Round](), list[tuple[int, ...]]()
        ids.append(self._draw(chances(self.target, ids)))
        while len(ids) < len(prompt) + NEW:
            room = min(self.k, len(prompt) + NEW - len(ids) - 1)
            proposed, accepted, start = list[int](), room, len(ids)
            q = list[np.ndarray]()
            for _ in range(room):
                q.append(chances(self.draft, [*ids, *proposed]))
                proposed.append(self._draw(q[-1]))
            for step, token in enumerate(proposed):
                p = chances(self.target, [*ids, *proposed[:step]])
                if self.rng.random() * q[step][token] >= p[token]:
                    accepted, residual = step, np.clip(p - q[step], 0, None)
                    last = self._draw(residual if residual.sum() > 0 else p)
                    break
            else:
                last = self._draw(chances(self.target, [*ids, *proposed]))
            ids += [*proposed[:accepted], last]
            rounds.append(Round(start, room, accepted))
            drafts.append(tuple(proposed))
        return Text(key="0", category="all", ids=tuple(ids), prompt_length=2), rounds, drafts

    def _draw(self, weights: np.ndarray) -> int:
        return int(self.rng.choice(len(weights), p=weights / weights.sum()))


def impossible_p(rng: np.random.Generator) -> float:
    """The p-value of impossible rejections of a right engine whose logits are rounded elsewhere."""
    pair = ToyPair(rng)
    text, rounds, _ = pair.decode()
    rounded = [
        torch.tensor(table + rng.normal(size=table.shape) * ROUNDING).log_softmax(-1)
        for table in (pair.target, pair.draft)
    ]
    before, ids = torch.tensor(text.ids[:-1]), torch.tensor(text.ids[1:])
    p, q = (table[before, ids] for table in rounded)
    sure = np.zeros((1, 1, len(text.ids)), dtype=bool)
    sure[0, 0, 1:] = (q - p > 2 * TOLERANCE).numpy()
    reported = Reported(
        key="0",
        prompt_ids=text.ids[:2],
        new_ids=text.ids[2:],
        convention=CountingConvention(),
        rounds=tuple(ReportedRound(one.drafted, one.accepted) for one in rounds),
    )
    judged: Any = SimpleNamespace(reported=[reported])
    walk: Any = SimpleNamespace(field=SimpleNamespace(lengths=np.array([len(text.ids)])))
    return _impossible(judged, walk, sure).p_value


def masked_divergences(rng: np.random.Generator) -> int:
    """Tokens that are called no tie in a greedy text under masks, of an engine that rounds
    otherwise; in some rows two allowed tokens are equal but for rounding.
    """
    logits = torch.tensor(rng.normal(size=(NEW, 50)) * rng.uniform(0.5, 6))
    tied = torch.tensor(rng.random(NEW) < 0.1)
    logits[tied, 0] = logits[tied].max(-1).values + 1
    logits[tied, 1] = logits[tied, 0] + ROUNDING / 10
    allowed = torch.tensor(rng.random((NEW, 50)) < rng.uniform(0.05, 1))
    allowed[:, :2] = True
    judged = logits.float().masked_fill(~allowed, -torch.inf)
    engine = judged + torch.tensor(rng.normal(size=judged.shape) * ROUNDING)
    best, gaps = greedy_gaps(judged, engine.argmax(-1))
    return int(((best != engine.argmax(-1)) & (gaps > TOLERANCE)).sum())


def penalised_evidence(rng: np.random.Generator) -> float:
    """Highest evidence against a right engine under penalties, with its rounds and, in half of the
    runs, its drafts.
    """
    penalty = OutputPenalties(presence=rng.uniform(0, 2), frequency=rng.uniform(0, 1))
    pair = ToyPair(rng, penalty, k=int(rng.integers(1, 5)))
    text, rounds, drafts = pair.decode()
    places = [(0, at) for at in range(2, len(text.ids))]
    before, tokens = torch.tensor(text.ids[1:-1]), torch.tensor(text.ids[2:])
    forced = TeacherForced(
        np.arange(len(places)),
        tokens,
        torch.tensor(pair.target).float()[before],
        torch.tensor(pair.draft).float()[before],
    )
    known = [drafts] if rng.random() < 0.5 else None
    sampling = Sampling()
    (part,) = after_processors(
        [forced],
        [text],
        places,
        pair.processors,
        sampling,
        lambda: histories_of([text], [rounds], known),
    )
    assert part.draft_logits is not None
    distributions = TokenDistributions(
        log_distribution(part.logits, sampling),
        log_distribution(part.draft_logits, sampling),
        others={name: log_distribution(row, sampling) for name, row in part.others.items()},
    )
    return evidence(distributions.draws(tokens), rng.random(len(places))).highest_value


class CountingServer(RightServer):
    """A right server whose greedy texts take rounds of their own, but for ties of the drafter."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self._last: Totals | None = None

    def greedy(self, prompt: Prompt, limit: int, **options: Any) -> Any:
        answer = super().greedy(prompt, limit, **options)
        tokens = max(len(answer.text), 1)
        rounds = 1 + tokens // 3 + int(self._rng.random() < 0.2)
        self._last = Totals(rounds=rounds, drafted=3 * rounds, accepted=max(tokens - rounds, 0))
        return answer

    def begin(self) -> None:
        """As an adapter."""

    def growth(self) -> Totals | None:
        return self._last


def cache_outcome(seed: int, prompts: tuple[Prompt, ...]) -> str:
    """What is said of a right server with cold and warm prefixes: `failed`, `ok` or `not checked`."""
    server: Any = CountingServer(seed)
    sides, apart = cache_sides(server, server, prompts, LIMIT, seed)
    if apart is not None:
        return "failed"
    if sides is None or not sides.cold:
        return "not checked"
    return "ok" if cache_failure(sides) is None else "failed"
