"""How close a drafter's choices on a text are: logits of the text's own tokens over the best other
ones.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from ...cases.case import Case
from ...cases.drafter import DrafterSpec, RegisteredSpec
from ...cases.texts import Text
from ...decoding.drafters.eagle3 import Eagle3Drafter
from ...decoding.drafters.eagle3_forcing import teacher_forced_states
from ...decoding.drafters.registry import drafter_for
from ...decoding.layer_states import captured_states
from ...decoding.loading import LoadedModel
from ...decoding.mtp_forward import project, teacher_forced_hidden
from ...decoding.named_processors import ProcessorSource, ready_processors
from ...decoding.processors import BatchProcessors


@torch.inference_mode()
def draft_margins(
    target: LoadedModel,
    drafter: LoadedModel | DrafterSpec,
    case: Case,
    text: Text,
    source: ProcessorSource = None,
) -> NDArray[np.float64]:
    """(heads, length): logits of the text's own tokens over the best other ones, by each head;
    infinite where undefined, and for drafters without logits.

    A draft model with MTP layers has 1 + depth heads; any other drafter one for each of k steps.
    `source` are the logits processors of the text.
    """
    ids = torch.tensor([text.ids], device=target.device)
    changes = ready_processors(source or case.texts.processors, target, 0.0)
    processors = None if changes is None else changes.for_texts([text.ids[: text.prompt_length]])
    if isinstance(drafter, RegisteredSpec):
        return _registered(target, drafter, case, ids, processors)
    model = drafter if isinstance(drafter, LoadedModel) else target
    heads = 1 + case.depth if isinstance(drafter, LoadedModel) else case.k
    ids = ids.to(model.device)
    margins = np.full((heads, len(text.ids)), np.inf)
    passed = model.model(ids, use_cache=False, output_hidden_states=case.depth > 0)
    first = 0
    if isinstance(drafter, LoadedModel):
        margins[0, 1:], first = _margins(passed.logits[:, :-1], ids, processors), 1
    if case.depth:
        states = teacher_forced_hidden(
            model.heads, ids, passed.hidden_states[-1], case.depth, heads - first
        )
        for step, state in enumerate(states):
            margins[first + step, step + 2 :] = _margins(
                project(model.heads, state[:, :-1]), ids, processors
            )
    return margins


def _registered(
    target: LoadedModel,
    drafter: RegisteredSpec,
    case: Case,
    ids: torch.Tensor,
    processors: BatchProcessors | None,
) -> NDArray[np.float64]:
    margins = np.full((case.k, ids.shape[1]), np.inf)
    loaded = drafter_for(target, drafter, case.depth)
    if isinstance(loaded, Eagle3Drafter):
        for step, logits in enumerate(_eagle3_logits(target, loaded, ids, case.k)):
            margins[step, step + 2 :] = _margins(logits, ids, processors)
    return margins


def _eagle3_logits(
    target: LoadedModel, drafter: Eagle3Drafter, ids: torch.Tensor, steps: int
) -> Iterator[torch.Tensor]:
    """(rows, length - 2 - i, vocabulary) of draft step i: of the tokens from i + 2 on."""
    with captured_states(target, drafter.reads_layers) as states:
        target.model(ids, use_cache=False)
    joined = torch.cat([states[number] for number in drafter.reads_layers], -1)
    for state in teacher_forced_states(drafter.head, ids, joined, steps):
        yield drafter.head.logits(state)


def _margins(
    logits: torch.Tensor, ids: torch.Tensor, processors: BatchProcessors | None
) -> NDArray[np.float64]:
    """Of the last tokens of a text (1, length), from their logits (1, tokens, vocabulary) before
    the processors.
    """
    first = ids.shape[1] - logits.shape[1]
    if processors is not None:
        logits = processors.draft(ids, [first], logits)
    logits, tokens = logits[0], ids[0, first:]
    chosen = logits.gather(-1, tokens[:, None])[:, 0]
    best = logits.scatter(-1, tokens[:, None], -torch.inf).max(-1).values
    margins: NDArray[np.float64] = (chosen - best).double().cpu().numpy()
    return margins
