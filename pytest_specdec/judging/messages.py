"""The message of a failed judgement, in the terminal's columns."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from pathlib import Path

from ..baselines.store import BaselineStore
from ..cases.case import Case
from ..common.display import short
from ..common.printable import printable
from ..engines.protocol import Engine
from ..gate.verdict import Verdict
from ..report.failure_message import AND_THEN, CREATE, INTENDED, explain
from ..report.layout import wrapped
from .comparison import Baseline, Run
from .diagnosis import diagnose

_LONGEST_NAME = 40


class FailureMessages:
    """Explains verdicts with what the store and the engine know of the tokens."""

    def __init__(
        self,
        *,
        store: BaselineStore,
        engine: Engine,
        update_command: Callable[[str], str],
        replaced_models: Mapping[Case, Mapping[str, str]],
        quotes_prompts: bool = True,
    ) -> None:
        """`update_command` gives the command line for a value of --specdec-update;
        `replaced_models` are the targets and drafters that tests name and the session replaced;
        without `quotes_prompts` prompts are named by their hashes, and no token is.
        """
        self._store, self._engine = store, engine
        self._quotes_prompts = quotes_prompts
        self._update_command, self._replaced_models = update_command, replaced_models

    def lines(self, verdict: Verdict, run: Run, baseline: Baseline) -> list[str]:
        """The message, headline first."""
        case, before = baseline.case, baseline.measured
        same_texts = before is not None and verdict.regime not in ("sampled", "target changed")
        lines = explain(
            verdict,
            case_id=case.id,
            update_command=self._update_command("new" if before is None else "changed"),
            prompt_names=prompt_names(run, quoted=self._quotes_prompts),
            where=diagnose(run, before, self._store.in_force(case), self._engine)
            if before is not None and same_texts and self._quotes_prompts
            else (),
            replaced_models=self._replaced_models.get(case, {}),
            forget_command=forget_command(baseline.path)
            if verdict.erosion is not None and verdict.erosion.reaches(case.erosion)
            else None,
            describes_models=case.describes_models,
            has_baseline=before is not None,
        )
        return [part for line in lines for part in _in_columns(printable(line))]


def forget_command(path: Path) -> str:
    """The command that accepts the erosion of one baseline."""
    words = ["python", "-m", "pytest_specdec", "baseline", "forget-erosion", short(path)]
    return shlex.join(words)


def prompt_names(run: Run, *, quoted: bool = True) -> dict[str, str]:
    """How the prompts of a run begin, by prompt key; the keys themselves where only these are
    known, or prompts are not to be quoted.
    """
    case, texts = run.case, {key: key for key in run.counts.prompts}
    if case.describes_models and quoted:
        prompts = case.texts.read_prompts()
        texts = {
            prompt.key: prompt.text or prompt.chat()[-1].get("content", "") for prompt in prompts
        }
    return {
        key: repr(text if len(text) <= _LONGEST_NAME else text[: _LONGEST_NAME - 3] + "...")
        for key, text in texts.items()
    }


def _in_columns(line: str) -> list[str]:
    """A line of a message in the terminal's columns; the headline, and a command to be copied, stay
    whole.
    """
    labelled = line.startswith(" ") and not line.startswith((INTENDED, AND_THEN, CREATE))
    return wrapped(line, indent=" " * len(INTENDED)) if labelled else [line]
