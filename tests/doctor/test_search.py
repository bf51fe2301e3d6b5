"""The search on synthetic counts: two defects at once, no accusation without cause, verdicts."""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Sequence

import numpy as np
import pytest

from pytest_specdec.acceptance.counts import Counts
from pytest_specdec.doctor.diagnosis import DoctorOutcome, diagnose
from pytest_specdec.doctor.measure import FEWEST, PairedGain, ReadingScore
from pytest_specdec.doctor.page import last_line, lines
from pytest_specdec.doctor.patient import EngineReading
from pytest_specdec.doctor.search import ALPHA, search

pytestmark = pytest.mark.slow

Switches = tuple[bool, ...]
K = 4


@dataclasses.dataclass
class Panel:
    """Readings that are switches; the written one has all off."""

    size: int = 4
    more: Sequence[Switches] = ()

    def written(self) -> Switches:
        return (False,) * self.size

    def neighbours(self, reading: Switches) -> list[Switches]:
        return [(*reading[:at], not reading[at], *reading[at + 1 :]) for at in range(self.size)]

    def further(self, reading: Switches, *, lost: bool) -> list[Switches]:
        return [other for other in self.more if other != reading]

    def revised(self, reading: Switches) -> list[Switches]:
        return []

    def taken_back(self, reading: Switches) -> list[Switches]:
        return [
            (*reading[:at], False, *reading[at + 1 :]) for at in range(self.size) if reading[at]
        ]


class Made:
    """Counts of a reading as a function of how much it accepts, the same texts for all."""

    faults: Sequence[str] = ()
    title = "made"

    def __init__(
        self, accepts: dict[Switches, float], default: float, prompts: int = 24, seed: int = 0
    ) -> None:
        self.readings, self._accepts, self._default = Panel(), accepts, default
        self._rng = np.random.default_rng(seed)
        self._texts = self._rng.normal(0, 0.1, prompts)
        self.noise = 0.005
        self.screened: list[Switches] = []

    def measure(self, reading: Switches) -> ReadingScore:
        return self.scored(self._accepts.get(reading, self._default))

    def scored(self, accepted: float) -> ReadingScore:
        noise = self._rng.normal(0, self.noise, len(self._texts))
        share = (accepted + self._texts + noise).clip(0, 1)
        return ReadingScore(counts=self._counts(share), chances=share)

    def screen(self, reading: Switches) -> float:
        self.screened.append(reading)
        return self._accepts.get(reading, self._default)

    def nothing(self, accepted: float) -> Counts:
        return self._counts((accepted + self._texts).clip(0, 1))

    def _counts(self, share: np.ndarray) -> Counts:
        rounds = np.full(len(share), 20.0)
        taken = rounds[:, None] * share[:, None] ** np.arange(1, K + 1)
        names = tuple(map(str, range(len(share))))
        drafted = np.tile(rounds[:, None], (1, K))
        return Counts(names, ("all",) * len(share), rounds, drafted, taken)

    def words(self, reading: Switches) -> str:
        return str(reading)

    def cures(self, reading: Switches) -> Sequence[str]:
        return ()

    def engines(self, best: Switches) -> Sequence[EngineReading[Switches]]:
        self.described = best
        return [
            EngineReading(
                who="an engine", does="does", words="off", reading=self.readings.written()
            ),
            EngineReading(who="another", does="does", words="cannot read it", reading=None),
        ]


ON, OFF = True, False


def test_two_defects_are_found_one_after_the_other() -> None:
    made = Made({(ON, OFF, OFF, OFF): 0.3, (OFF, OFF, ON, OFF): 0.25, (ON, OFF, ON, OFF): 0.6}, 0.2)
    found = diagnose(made, made.nothing(0.05))
    assert found.findings.best == (ON, OFF, ON, OFF)
    assert found.outcome is DoctorOutcome.MISREAD
    assert found.findings.open == []


def test_engines_are_told_of_the_corrected_folder_and_of_the_written_one_where_it_is_right() -> (
    None
):
    misread = Made({(ON, OFF, OFF, OFF): 0.6}, 0.2)
    diagnosis = diagnose(misread, misread.nothing(0.05))
    assert misread.described == (ON, OFF, OFF, OFF)
    ((_, first), (_, second)) = diagnosis.engines
    assert first is diagnosis.findings.measured[misread.readings.written()]
    assert second is None
    right = Made({(OFF,) * 4: 0.6}, 0.2)
    diagnose(right, right.nothing(0.05))
    assert right.described == (OFF,) * 4


def test_two_defects_of_which_each_hides_the_other_are_found_as_a_pair() -> None:
    made = Made({(OFF, ON, OFF, ON): 0.6}, 0.1)
    found = diagnose(made, made.nothing(0.1))
    assert found.findings.best == (OFF, ON, OFF, ON)
    assert found.outcome is DoctorOutcome.MISREAD


def test_pairs_are_measured_only_where_the_screen_is_better_and_share_the_level_of_all() -> None:
    good, weak = (OFF, ON, OFF, ON), (ON, ON, OFF, OFF)
    made = Made({good: 0.104, weak: 0.09}, 0.1)
    reported: list[tuple[str, int, int]] = []
    found = diagnose(made, made.nothing(0.3), lambda *one: reported.append(one)).findings
    assert len(made.screened) == 1 + 6  # four switches: the best reading and six pairs
    assert found.screened == 6
    assert set(found.measured) - {(OFF,) * 4} - set(made.readings.neighbours((OFF,) * 4)) == {good}
    assert found.level == 2 * ALPHA / 4 / 6  # the second stage's, over all six
    assert reported[3] == ("measuring readings", 4, 4)
    assert reported[-1] == ("screening pairs of changes", 6, 6)


def test_no_more_than_a_bounded_number_of_pairs_is_measured() -> None:
    made = Made({}, 0.1)
    made.readings = Panel(size=12)
    made.screen = lambda reading: float(sum(reading))  # type: ignore[method-assign]
    found = diagnose(made, made.nothing(0.3)).findings
    assert found.screened == 66
    assert found.tried == 12 + 32


def test_a_screen_that_looks_at_the_deciding_texts_accuses_nobody() -> None:
    """Readings of one distribution, the screen's choice being the best of them on the same texts."""
    moved = 0
    for seed in range(200):
        made = Made({}, 0.2, prompts=FEWEST + seed % 30, seed=seed)
        made.noise, made.readings = 0.1, Panel(size=8)
        kept = {}

        def measure(reading: Switches, made: Made = made, kept: dict = kept) -> ReadingScore:  # type: ignore[type-arg]
            return kept.setdefault(reading, made.measure(reading))

        found = search(
            made.readings,
            measure,
            lambda reading, measure=measure: measure(reading).chance,  # type: ignore[misc]
            made.nothing(0.2),
        )
        assert found.screened
        moved += found.best != found.written
    assert moved <= 2  # 3 or more have a probability of 0.1 % at the promised level


def test_further_readings_are_tried_where_no_neighbour_is_better() -> None:
    far = (ON, ON, ON, OFF)
    made = Made({far: 0.6}, 0.3)
    made.readings = Panel(more=[far])
    assert diagnose(made, made.nothing(0.05)).findings.best == far


def test_a_change_that_is_not_needed_is_taken_back() -> None:
    """The first step is to a reading that gains by chance of a second change."""
    both, one = (ON, ON, OFF, OFF), (ON, OFF, OFF, OFF)
    made = Made({both: 0.6, one: 0.6, (OFF, OFF, OFF, OFF): 0.3}, 0.3)
    made.noise = 0.0005
    made.readings = Panel(more=[both])
    made.readings.neighbours = lambda reading: []  # type: ignore[method-assign]
    assert diagnose(made, made.nothing(0.05)).findings.best == one


def test_a_right_drafter_is_read_as_trained_and_equal_readings_are_named() -> None:
    same = (OFF, OFF, OFF, ON)
    made = Made({(OFF,) * 4: 0.6, same: 0.6}, 0.4)
    made.noise = 0.0005
    found = diagnose(made, made.nothing(0.05))
    assert found.outcome is DoctorOutcome.RIGHT
    assert found.findings.equal == [same]


def test_a_gain_that_does_not_matter_accuses_nobody() -> None:
    made = Made({(OFF,) * 4: 0.6, (ON, OFF, OFF, OFF): 0.603}, 0.4)
    made.noise = 0.0001
    found = diagnose(made, made.nothing(0.05))
    assert found.findings.gain((ON, OFF, OFF, OFF), (OFF,) * 4).bounds(ALPHA)[0] > 0
    assert found.outcome is DoctorOutcome.RIGHT


def test_noise_accuses_nobody() -> None:
    """Readings of one distribution: at most one sample in a thousand may move."""
    moved = 0
    for seed in range(400):
        made = Made({}, 0.5, prompts=FEWEST + seed % 30, seed=seed)
        made.noise = 0.1
        best = search(made.readings, made.measure, made.screen, made.nothing(0.05)).best
        moved += best != made.readings.written()
    assert moved <= 2  # 3 or more have a probability of 0.8 % at the promised level


def test_noise_leaves_it_undecided() -> None:
    made = Made({}, 0.5)
    made.noise = 0.1
    found = diagnose(made, made.nothing(0.05))
    assert found.outcome is DoctorOutcome.UNDECIDED
    assert found.findings.open


@pytest.mark.parametrize("better", [0.1, 0.3])
def test_nobody_is_trained_for_anything_who_knows_nothing(better: float) -> None:
    """Random weights: one reading accepts more than another, and none as much as unigrams."""
    made = Made({(ON, OFF, OFF, OFF): better}, 0.1)
    assert diagnose(made, made.nothing(0.5)).outcome is DoctorOutcome.NOTHING


def test_few_texts_decide_nothing() -> None:
    made = Made({(ON, OFF, OFF, OFF): 0.9}, 0.1, prompts=FEWEST - 1)
    found = diagnose(made, made.nothing(0.05))
    assert found.outcome is DoctorOutcome.UNDECIDED
    assert found.too_few
    assert found.findings.best == made.readings.written()


def test_a_folder_that_the_loader_refuses_is_not_right() -> None:
    made = Made({(OFF,) * 4: 0.6}, 0.3)
    made.faults = ("a tensor too many; remove it",)
    assert diagnose(made, made.nothing(0.05)).outcome is DoctorOutcome.CONTRADICTORY


def test_statuses_tell_right_wrong_and_undecided_apart() -> None:
    assert [outcome.status for outcome in DoctorOutcome] == [0, 1, 1, 1, 3]


def test_no_chance_falls_by_more_than_all_of_it() -> None:
    made = Made({(OFF,) * 4: 0.6}, 0.02)
    made.noise = 0.2
    found = diagnose(made, made.nothing(0.05))
    worst = found.findings.gain((ON, OFF, OFF, OFF), (OFF,) * 4).bounds(found.findings.level)[0]
    assert worst < -found.findings.measured[(OFF,) * 4].chance
    page = "\n".join(lines(found, "made"))
    falls = [float(share) for share in re.findall(r"-([\d.]+)%", page)]
    assert max(falls) == 100


@pytest.mark.parametrize(("size", "words"), [(1, "1 other reading is"), (4, "4 other readings is")])
def test_readings_are_counted(size: int, words: str) -> None:
    made = Made({}, 0.1)
    made.readings = Panel(size=size)
    page = " ".join("\n".join(lines(diagnose(made, made.nothing(0.5)), "made")).split())
    assert f"none of {words} surely better" in page


def test_the_last_line_repeats_the_verdict_with_its_status() -> None:
    made = Made({(OFF,) * 4: 0.6}, 0.3)
    found = diagnose(made, made.nothing(0.05))
    assert last_line(found) == "doctor: read as trained (exit status 0)"


def test_bounds_are_students() -> None:
    gain = PairedGain(amount=0.5, error=0.1, prompts=10)
    low, high = gain.bounds(0.05)
    assert low == pytest.approx(0.5 - 2.2622 * 0.1, abs=1e-4)
    assert high == pytest.approx(0.5 + 2.2622 * 0.1, abs=1e-4)


States = tuple[int, ...]
RIGHT: States = (2, 5, 7)


class Ids:
    """Readings that are three of ten states; the written ones are wrong in two places."""

    def written(self) -> States:
        return (2, 4, 5)

    def neighbours(self, reading: States) -> list[States]:
        steps = [
            (*reading[:slot], reading[slot] + step, *reading[slot + 1 :])
            for slot in range(3)
            for step in (-1, 1)
        ]
        return [states for states in steps if states in self.revised(reading)]

    def further(self, reading: States, *, lost: bool) -> list[States]:
        return []

    def taken_back(self, reading: States) -> list[States]:
        return [self.written()]

    def revised(self, reading: States) -> list[States]:
        return [one for one in itertools.combinations(range(10), 3) if one != reading]


def test_ids_are_the_best_estimate_or_not_told_apart_from_it() -> None:
    """The written ones are surely wrong, and each step from there on is lost in the noise."""
    best, rivals = 0, list[int]()
    for seed in range(20):
        made = Made({}, 0.0, prompts=20, seed=seed)

        def measure(states: States, made: Made = made) -> ReadingScore:
            away = sum(abs(one - other) for one, other in zip(states, RIGHT, strict=True))
            return made.scored(0.6 - 0.012 * away - 0.05 * (states == Ids().written()))

        made.noise = 0.012
        findings = search(Ids(), measure, lambda ids: 0.0, made.nothing(0.05))
        assert findings.best != findings.written
        assert RIGHT in (findings.best, *findings.rivals)
        assert findings.written not in findings.rivals
        chances = [findings.measured[one].chance for one in (findings.best, *findings.rivals)]
        assert chances == sorted(chances, reverse=True)
        best += findings.best == RIGHT
        rivals.append(len(findings.rivals))
    assert best >= 15
    assert 0 < np.mean(rivals) < 20


def test_values_that_are_surely_worse_are_no_rivals() -> None:
    made = Made({}, 0.0)

    def measure(states: States) -> ReadingScore:
        return made.scored(0.6 if states == RIGHT else 0.4 + 0.01 * states[2])

    made.noise = 0.001
    findings = search(Ids(), measure, lambda ids: 0.0, made.nothing(0.05))
    assert findings.best == RIGHT
    assert findings.rivals == []


class IdsPatient(Made):
    """A drafter that was trained for `RIGHT`."""

    def __init__(self, noise: float) -> None:
        super().__init__({}, 0.0, prompts=20)
        self.readings, self.noise = Ids(), noise  # type: ignore[assignment]

    def measure(self, reading: States) -> ReadingScore:  # type: ignore[override]
        away = sum(abs(one - other) for one, other in zip(reading, RIGHT, strict=True))
        return self.scored(0.6 - 0.01 * away - 0.05 * (reading == self.readings.written()))


@pytest.mark.parametrize("noise", [0.0001, 0.012])
def test_the_page_names_ids_that_are_not_told_apart(noise: float) -> None:
    made = IdsPatient(noise)
    found = diagnose(made, made.nothing(0.05))  # type: ignore[type-var]
    text = " ".join(line.strip() for line in lines(found, "20 texts"))
    best, rivals = found.findings.best, found.findings.rivals
    assert found.outcome is DoctorOutcome.MISREAD
    assert (noise < 0.001) == (not rivals)
    if rivals:
        assert f"Best on these texts: {best}. Read so" in text
        assert f"Not told apart from it on these texts, the best first: {rivals[0]} | " in text
        assert "More texts decide." in text
        assert "was trained for:" not in text
    else:
        assert f"The drafter was trained for: {RIGHT}. Read so" in text
        assert "Not told apart" not in text
