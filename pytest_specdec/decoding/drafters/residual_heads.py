"""Residual heads on the target's hidden state, one draft token each: Medusa's and Hydra's.

`checkpoints.medusa_checks` and `checkpoints.hydra_checks` state the networks. The drafts of a
round need no pass of the target between them; a Medusa head does not read the drafts before it,
a Hydra head reads their embeddings.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import torch
from torch import nn

from ...cases.case import Sampling
from ...checkpoints.residual_heads import ResidualHeadFiles
from ...common.errors import RequestError
from ..loading import LoadedModel
from ..ragged import CachedModel, Rows, Sequences
from .drafts import Drafts
from .protocol import DecodingStart, Drafter, DraftScores, Proposal, Report, TextBatch
from .score_arrays import ScoreArrays


class ResidualHeads(nn.Module):
    """Heads with their weights, in their target's number format and on its device."""

    def __init__(self, files: ResidualHeadFiles, target: LoadedModel) -> None:
        """Raises RequestError for weights that are not finite, or a map of tokens that is none."""
        super().__init__()
        weights = _weights_of(files)
        self.count, self.layers = files.heads, files.layers
        self.reads_tokens, self.scale = files.reads_tokens, files.scale
        self.vocabulary = files.vocabulary
        # In a tuple, so that they are no parts of the heads.
        self._of_target = (
            target.model.get_input_embeddings(),
            target.model.get_output_embeddings(),
        )
        placed = {
            name: tensor.to(target.device, target.model.dtype) for name, tensor in weights.items()
        }
        self.weights = nn.ParameterDict(
            {
                name.replace(".", "_"): nn.Parameter(tensor, requires_grad=False)
                for name, tensor in placed.items()
            }
        )
        self._biased = True
        self.drafted = _drafted(files)
        if self.drafted is not None:
            self.drafted = self.drafted.to(target.device)

    def draft_logits(
        self, head: int, state: torch.Tensor, following: Sequence[torch.Tensor] = ()
    ) -> torch.Tensor:
        """Of the tokens that a head drafts, (..., tokens), from hidden states (..., width).

        `following` are the head + 1 tokens after each anchor, each (...), for heads that read them.
        """
        embed, output = self._of_target
        if self.reads_tokens:
            state = torch.cat([state, *(embed(tokens) for tokens in following)], -1)
        for layer in range(self.layers):
            kept = state
            if layer == 0 and self.reads_tokens:
                kept = self._linear(f"{head}_skip", state)
            state = kept + nn.functional.silu(self._linear(f"{head}_{layer}", state))
        if f"{head}_out_weight" not in self.weights:
            logits: torch.Tensor = output(state)
            return logits * self.scale
        return self._linear(f"{head}_out", state) * self.scale

    def logits(
        self, head: int, state: torch.Tensor, following: Sequence[torch.Tensor] = ()
    ) -> torch.Tensor:
        """Of all tokens of the target, (..., vocabulary); -inf for those that no head drafts."""
        logits = self.draft_logits(head, state, following)
        if self.drafted is None:
            return logits
        whole = logits.new_full((*logits.shape[:-1], self.vocabulary), -torch.inf)
        return whole.index_copy_(-1, self.drafted, logits)

    @contextlib.contextmanager
    def without_biases(self, left_out: bool) -> Iterator[None]:
        """Leave the biases of residual layers out, as a loader does that does not know them."""
        kept, self._biased = self._biased, not left_out
        try:
            yield
        finally:
            self._biased = kept

    def _linear(self, name: str, state: torch.Tensor) -> torch.Tensor:
        inner = not name.endswith("_out")
        bias = None if inner and not self._biased else self.weights.get(f"{name}_bias")
        return nn.functional.linear(state, self.weights[f"{name}_weight"], bias)


def _weights_of(files: ResidualHeadFiles) -> dict[str, torch.Tensor]:
    """The tensors of a folder by our names, on the CPU; a shared one under each of its names."""
    from safetensors.torch import load_file

    held = {
        name: tensor
        for path in files.checkpoint.weight_files
        for name, tensor in load_file(path).items()
    }
    weights = {ours: held[theirs] for ours, theirs in files.names.items()}
    for name, tensor in weights.items():
        if not bool(torch.isfinite(tensor).all()):
            raise RequestError(
                f"{files.names[name]} of {files.checkpoint.folder} holds NaN or infinite numbers; "
                "save the heads again from a checkpoint before their training diverged"
            )
    return weights


def _drafted(files: ResidualHeadFiles) -> torch.Tensor | None:
    """The target's ids of the tokens that the heads draft; None for all."""
    from safetensors.torch import load_file

    if files.token_map is None:
        return None
    path = files.checkpoint.tensors[files.token_map].path
    ids = load_file(path)[files.token_map]
    inside = bool(((ids >= 0) & (ids < files.vocabulary)).all())
    if not inside or len(set(ids.tolist())) < len(ids):
        raise RequestError(
            f"{files.token_map} of {files.checkpoint.folder} lists a token twice, or one that the "
            "target does not have; save the heads again"
        )
    return ids


class ResidualHeadsDrafter(Drafter):
    """Heads that were checked, loaded for their target."""

    takes_processors = True

    def __init__(self, target: LoadedModel, files: ResidualHeadFiles) -> None:
        self.files, self.heads_of_rounds = files, ResidualHeads(files, target)
        self.most_drafts = files.heads
        self.reads_hidden = files.state_from_end == 0
        if files.state_from_end:
            layers = int(target.model.config.get_text_config().num_hidden_layers)
            self.reads_layers = (layers - files.state_from_end,)

    def __str__(self) -> str:
        return str(self.files.checkpoint.folder)

    def proposer(self, start: DecodingStart) -> ResidualHeadsProposer:
        return ResidualHeadsProposer(start.target, self.heads_of_rounds, start.sampling)

    def score(self, batch: TextBatch) -> DraftScores:
        arrays, heads = ScoreArrays(batch, batch.steps), self.heads_of_rounds
        states, length = self._states(batch), batch.ids.shape[1]
        for head in range(batch.steps):
            # The state at anchor t gives the draft of the token at t + 2 + head.
            first = max(batch.begin, head + 2)
            if first >= length:
                break
            begin, end = first - head - 2, length - head - 2
            following = [batch.ids[:, begin + after : end + after] for after in range(1, head + 2)]
            state = states[:, begin:end]
            if batch.processors is None:
                logits = heads.draft_logits(head, state, following)
                arrays.fill(head, first, logits, heads.drafted)
            else:  # which know the target's tokens
                arrays.fill(head, first, heads.logits(head, state, following))
        return arrays.scores()

    def _states(self, batch: TextBatch) -> torch.Tensor:
        if self.reads_layers:
            return batch.layer_states[self.reads_layers[0]]
        assert batch.hidden_states is not None
        return batch.hidden_states[-1]

    def fingerprint(self, report: Report = lambda what, done, total: None) -> str:
        self.files.checkpoint.hash_now(report)
        return self.files.checkpoint.model_fingerprint


class ResidualHeadsProposer:
    """The heads on the newest state of the target's last verification."""

    def __init__(self, target: CachedModel, heads: ResidualHeads, sampling: Sampling) -> None:
        self._target, self._heads, self._sampling = target, heads, sampling

    def propose(self, sequences: Sequences, k: int, generator: torch.Generator | None) -> Proposal:
        drafts = Drafts(sequences, self._sampling, k, generator)
        self._target.keep(sequences.agreed)
        assert self._target.hidden is not None
        state = self._target.hidden[:, -1]
        for head in range(k):
            following: tuple[torch.Tensor, ...] = ()
            if self._heads.reads_tokens:
                window, _ = sequences.window(sequences.lengths + head, head + 1)
                following = window.unbind(1)
            drafts.take(self._heads.logits(head, state, following))
        return drafts.proposal()

    def emitted(self, tokens: Sequence[Sequence[int]]) -> None:
        """The target's states and the sequences hold all that it needs."""

    def select(self, rows: Rows) -> None:
        """It keeps nothing of the rows."""
