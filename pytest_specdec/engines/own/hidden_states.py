"""Replay without the target: from hidden states that were written where it ran."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ...cases.case import Case, TextKey
from ...cases.prompts import Prompt
from ...checkpoints.state_folders import state_folder
from ...common.errors import RequestError
from ...decoding.sampling import up_to_end
from ...decoding.stored_states import StoredStates
from ...records.text_set import TextSet
from ..executor import Executor
from ..models import ModelPool
from .replay_engine import ReplayEngine
from .replay_work import Prepared, Tokens
from .text_groups import BegunGroup


class HiddenStatesEngine(ReplayEngine):
    """Replay of the texts of a folder of hidden states (`decoding.stored_states`).

    A suite's prompts choose the texts: each must begin one text of the folder. Of the target only
    embeddings, final norm and output layer are loaded.
    """

    name = "hidden-states"

    def __init__(
        self,
        plan: Sequence[Case],
        models: ModelPool,
        *,
        folder: str | None,
        stored_texts: Callable[[TextKey], TextSet | None] = lambda key: None,
        executor: Executor | None = None,
    ) -> None:
        """Raises RequestError without a folder, or for one without such files."""
        place = state_folder(folder)
        super().__init__(plan, models, stored_texts=stored_texts, executor=executor)
        self._stored_states = StoredStates(place)

    @property
    def _states(self) -> StoredStates:
        return self._stored_states

    def _others(self, key: TextKey, begun: BegunGroup) -> TextSet | None:
        """None: the states are those of this target on its own texts."""
        return None

    def _new_tokens(
        self, key: TextKey, prompts: Sequence[Prompt], prepared: Prepared, wanted: TextSet
    ) -> dict[str, Tokens]:
        end = set(prepared.ends)
        missing, known = [], {}
        texts = self._states.texts_after(prepared.ids)
        for prompt, begun, found in zip(prompts, prepared.ids, texts, strict=True):
            if len(found) > 1:
                raise RequestError(
                    f"{len(found)} texts of {self._states.folder} begin with the prompt "
                    f"{_beginning(prompt)!r}; keep one text for each prompt there"
                )
            if not found:
                missing.append(_beginning(prompt))
                continue
            answer = found[0][len(begun) :][: key.new_tokens]
            known[prompt.key] = up_to_end(tuple(answer.tolist()), end)
        if missing:
            raise RequestError(
                f"{len(missing)} of {len(prompts)} prompts begin no text of "
                f"{self._states.folder}, the first {missing[0]!r}; extract the states of the "
                "suite's prompts and the target's answers, with the same chat template"
            )
        return known


def _beginning(prompt: Prompt) -> str:
    said = prompt.chat()[-1].get("content", "") if prompt.text is None else prompt.text
    return str(said)[:60]
