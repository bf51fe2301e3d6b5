"""Draft models with another tokenizer: drafts among the tokens that both vocabularies have.

Token-level intersection, Timor et al., arXiv 2502.05202, as transformers'
`UniversalSpeculativeDecodingGenerator` runs it. The draft model reads the prompt's text in its own
tokens, and each later token of the target as its own token of the same characters, or, where it has
none, as the tokens of that token's text. Its logits are those of the shared tokens alone, so q is
their softmax, and nothing outside is drafted. What it reads is decided by the text alone, so that
replay scores every start in one pass.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...checkpoints.checkpoint import Checkpoint, open_checkpoint
from ...common.errors import MeasurementError, RequestError
from ..loading import LoadedModel, loaded
from ..ragged import CachedModel, Rows, Sequences
from .drafts import Drafts, reach_of
from .protocol import DecodingStart, Drafter, DraftScores, Proposal, Report, TextBatch
from .score_arrays import ScoreArrays

_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "tekken.json")


def check(target: Checkpoint, folder: Path | None, depth: int) -> None:
    if folder is None:
        raise RequestError("tli drafts with a model's files; name its folder: tli:FOLDER")
    if depth:
        raise RequestError(
            f"depth {depth}: a draft model with another tokenizer drafts without MTP layers; use "
            "--specdec-depth=0"
        )
    drafter = open_checkpoint(folder)
    if drafter.tokenizer_fingerprint == target.tokenizer_fingerprint:
        raise RequestError(
            f"{folder} has the target's own tokenizer; name it as an ordinary draft model: "
            f"--specdec-draft={folder}"
        )
    for folder in (target.folder, drafter.folder):
        if not any((folder / name).is_file() for name in _TOKENIZERS):
            raise RequestError(
                f"{folder} has no tokenizer, so its tokens cannot be compared with another's; save "
                "the tokenizer there, too"
            )


def load(target: LoadedModel, folder: Path | None, depth: int) -> TliDrafter:
    return TliDrafter(target, loaded(str(folder)))


def shared_tokens(target: Any, drafter: Any) -> dict[int, int]:
    """The drafter's id of each token that both tokenizers have, by the target's; what stands for a
    space at a token's begin may be another sign.
    """
    theirs, ours = target.get_vocab(), drafter.get_vocab()
    signs = [_space_sign(tokenizer) for tokenizer in (target, drafter)]
    if all(signs) and signs[0] != signs[1]:
        ours = {
            signs[0] + token.removeprefix(signs[1]) if token.startswith(signs[1]) else token: own
            for token, own in ours.items()
        }
    return {theirs[token]: own for token, own in ours.items() if token in theirs}


def _space_sign(tokenizer: Any) -> str:
    """How a tokenizer writes a space at the begin of a token; empty for one that drops it."""
    ids = tokenizer(" ", add_special_tokens=False)["input_ids"]
    return str(tokenizer.convert_ids_to_tokens(ids)[0][0]) if ids else ""


class Translation:
    """From the target's tokens to the draft model's."""

    def __init__(self, target: LoadedModel, model: LoadedModel) -> None:
        self._theirs, self._ours = target.tokenizer, model.tokenizer
        self._folder = model.checkpoint.folder
        sizes = [part.model.get_input_embeddings().num_embeddings for part in (target, model)]
        pairs = {
            theirs: ours
            for theirs, ours in shared_tokens(self._theirs, self._ours).items()
            if theirs < sizes[0] and ours < sizes[1]
        }
        if not pairs:
            raise RequestError(
                f"the tokenizers of {target.checkpoint.folder} and {self._folder} share no token; "
                "use another draft model"
            )
        self.own_ids: Mapping[int, int] = pairs
        """The draft model's id of each shared token, by the target's."""
        self.shared = torch.tensor(sorted(pairs), device=model.device)
        """The target's ids of the shared tokens, ascending."""
        self.columns = torch.tensor([pairs[token] for token in sorted(pairs)], device=model.device)
        """The draft model's ids of the same tokens."""
        self._known: dict[int, list[int]] = {}

    def prompt(self, ids: Sequence[int]) -> list[int]:
        """A prompt in the draft model's tokens. Raises MeasurementError for a text of none."""
        own = self._encoded(ids)
        if not own:
            raise MeasurementError(
                f"the prompt {list(ids)[:8]} has no text that the tokenizer of {self._folder} "
                "knows, so its model has nothing to read; use another prompt"
            )
        return own

    def token(self, token: int) -> list[int]:
        """A token of the target in the draft model's tokens; none for one without a text."""
        if token not in self._known:
            own = self.own_ids.get(token)
            self._known[token] = self._encoded([token]) if own is None else [own]
        return self._known[token]

    def _encoded(self, ids: Sequence[int]) -> list[int]:
        text = self._theirs.decode(ids, skip_special_tokens=True)
        found: list[int] = self._ours(text, add_special_tokens=False)["input_ids"]
        return found


class TliDrafter(Drafter):
    """A draft model, and how the target's tokens are its own."""

    takes_processors = True

    def __init__(self, target: LoadedModel, model: LoadedModel) -> None:
        self.model, self.translation = model, Translation(target, model)
        self._vocabulary = target.model.get_input_embeddings().num_embeddings

    def proposer(self, start: DecodingStart) -> TliProposer:
        return TliProposer(self, start)

    def heads(self, steps: int) -> int:
        """A token's q is the same at every draft step."""
        return 1

    def score(self, batch: TextBatch) -> DraftScores:
        arrays = ScoreArrays(batch, heads=1)
        rows, length = batch.ids.shape
        shared = self.translation.columns
        logits = torch.zeros(rows, length - batch.begin, len(shared), device=self.model.device)
        for row, text in enumerate(batch.texts):
            ids, ends = self._translated(text.ids, text.prompt_length)
            outputs = self.model.model(torch.tensor([ids], device=self.model.device)).logits[0]
            first = max(batch.begin, text.prompt_length)
            scored = ends[first - text.prompt_length :]
            at = torch.tensor(scored, device=self.model.device) - 1
            begin = first - batch.begin
            logits[row, begin : begin + len(at)] = outputs[at][:, shared].to(logits.dtype)
        if batch.processors is None:
            arrays.fill(0, batch.begin, logits, self.translation.shared)
        else:  # which know the target's tokens
            arrays.fill(0, batch.begin, self.whole(logits))
        return arrays.scores()

    def _translated(self, ids: Sequence[int], prompt: int) -> tuple[list[int], list[int]]:
        """A text in the draft model's tokens, and how many of them come before each new token."""
        own, ends = self.translation.prompt(ids[:prompt]), []
        for token in ids[prompt:]:
            ends.append(len(own))
            own = own + self.translation.token(token)
        self.check_length(len(own))
        return own, ends

    def check_length(self, tokens: int) -> None:
        """Raises MeasurementError for more of its tokens than the model was built for."""
        context = self.model.checkpoint.context
        if context is not None and tokens > context:
            raise MeasurementError(
                f"a text is {tokens} tokens of {self.model.checkpoint.folder}, whose context is "
                f"{context}; use shorter prompts or fewer new tokens"
            )

    def whole(self, logits: torch.Tensor) -> torch.Tensor:
        """Logits of the shared tokens as those of all of the target's, (..., vocabulary)."""
        whole = logits.new_full((*logits.shape[:-1], self._vocabulary), -torch.inf)
        return whole.index_copy_(-1, self.translation.shared, logits)

    def fingerprint(self, report: Report = lambda what, done, total: None) -> str:
        checkpoint = self.model.checkpoint
        checkpoint.hash_now(report)
        return f"tli-{checkpoint.model_fingerprint}-{checkpoint.tokenizer_fingerprint}"


class TliProposer:
    """The draft model on its own tokens of each row."""

    def __init__(self, drafter: TliDrafter, start: DecodingStart) -> None:
        self._drafter, self._sampling = drafter, start.sampling
        translation, model = drafter.translation, drafter.model
        own = [
            [*translation.prompt(text[:-1]), *translation.token(text[-1])] for text in start.texts
        ]
        self._own = Sequences(own, start.k + 1, model.device)
        self._model = CachedModel(model, reach_of(start.k, 0))
        self._read: Rows | None = None
        """Tokens of each row that were read as emitted ones; later ones in the cache are drafts."""

    def propose(self, sequences: Sequences, k: int, generator: torch.Generator | None) -> Proposal:
        translation, drafts = (
            self._drafter.translation,
            Drafts(sequences, self._sampling, k, generator),
        )
        for step in range(k):
            ends = self._own.lengths + step
            before = self._read
            agreed = ends if step or before is None else np.minimum(before, ends - 1)
            logits = self._model.feed(self._own, ends, 1, agreed)[:, 0]
            if not step:
                self._read = self._own.lengths
            drafts.take(self._drafter.whole(logits[:, translation.columns]))
            drafted, _ = sequences.window(sequences.lengths + step + 1, 1)
            own = [translation.own_ids[token] for token in drafted[:, 0].tolist()]
            self._own.put(step, torch.tensor(own, device=self._own.ids.device))
        return drafts.proposal()

    def emitted(self, tokens: Sequence[Sequence[int]]) -> None:
        translation = self._drafter.translation
        own = [[own for token in row for own in translation.token(token)] for row in tokens]
        self._own.append(own)
        self._drafter.check_length(int(self._own.lengths.max()))

    def select(self, rows: Rows) -> None:
        self._own.select(rows)
        self._model.select(rows)
        if self._read is not None:
            self._read = self._read[rows]
