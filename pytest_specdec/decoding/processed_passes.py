"""What replay reads of a target under logits processors."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

import torch

from ..cases.texts import Text
from .processors import BatchProcessors, Processors
from .target_passes import TargetPass, TargetPasses


@dataclasses.dataclass(frozen=True)
class ProcessedPasses:
    """A target's passes, whose logits go through processors."""

    passes: TargetPasses
    processors: Processors

    def run(
        self,
        ids: torch.Tensor,
        texts: Sequence[Text],
        begin: int,
        *,
        hidden: bool,
        layers: Sequence[int],
    ) -> TargetPass:
        """As `TargetPasses.run`; logits of prompts and padding stay as they are."""
        passed = self.passes.run(ids, texts, begin, hidden=hidden, layers=layers)
        new = [(text.prompt_length, len(text.ids)) for text in texts]
        processors = of_texts(self.processors, texts)
        logits, _ = processors.target(ids, [begin] * len(texts), passed.logits, new)
        return dataclasses.replace(passed, logits=logits)


def of_texts(processors: Processors, texts: Iterable[Text]) -> BatchProcessors:
    """The processors of a batch of texts."""
    return processors.for_texts(text.ids[: text.prompt_length] for text in texts)
