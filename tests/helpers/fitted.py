"""Small drafters of the kinds that no trained checkpoint is kept of, for a small target.

Each is written with random weights in its packaging and then fitted for some seconds to texts that
the target wrote: it need not draft well, but better than chance at several positions.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from helpers.blocks import KINDS, write_block
from helpers.eagle3 import write_masked_head
from helpers.other_tokenizer import other_tokenizer, target_tokenizer
from helpers.residual_heads import write_hydra
from helpers.serial_drafting import PROMPTS
from helpers.support import edit_config, llama
from pytest_specdec.cases.case import Sampling
from pytest_specdec.cases.texts import texts_from_ids
from pytest_specdec.decoding.decode import Decoded, decode
from pytest_specdec.decoding.drafters.dflash import BlockDrafter
from pytest_specdec.decoding.drafters.pard import PardDrafter
from pytest_specdec.decoding.drafters.peagle import PEagleDrafter
from pytest_specdec.decoding.drafters.protocol import Drafter, TextBatch
from pytest_specdec.decoding.drafters.registry import drafter_for
from pytest_specdec.decoding.drafters.residual_heads import ResidualHeadsDrafter
from pytest_specdec.decoding.drafters.score_arrays import ScoreArrays
from pytest_specdec.decoding.drafters.tli import TliDrafter
from pytest_specdec.decoding.layer_states import captured_states
from pytest_specdec.decoding.loading import LoadedModel, load_model

K = 4
LAYERS, MASK = 4, 31
_STEPS, _TEXTS, _NEW, _BATCH = 40, 192, 24, 32
_PEAKED = 2.5
"""By so much the target's logits are larger: it says one thing, mostly, as trained models do."""
_STATES = (1, 2, 3)
"""The target's states that blocks and P-EAGLE heads read."""
Logits = tuple[int, torch.Tensor, torch.Tensor | None]
"""The first position that is scored, the logits, and the tokens that they are of, None for all."""


def _block(form: str, folder: Path, target: Path) -> str:
    return str(write_block(folder, target, *KINDS[form], ids=_STATES))


def _pard(folder: Path, target: Path) -> str:
    return str(edit_config(llama(folder, seed=8, mtp_layers=0), pard_token=MASK))


def _other_tokenizer(folder: Path, target: Path) -> str:
    made = llama(folder, seed=9, mtp_layers=0, vocabulary=30)
    other_tokenizer().save_pretrained(made)
    return f"tli:{made}"


WRITERS: dict[str, Callable[[Path, Path], str]] = {
    "P-EAGLE head": lambda folder, target: str(
        write_masked_head(folder, target, "speculators", ids=_STATES)
    ),
    "DSpark, speculators": functools.partial(_block, "DSpark, speculators"),
    "DSpark, SpecForge, rnn": functools.partial(_block, "DSpark, SpecForge, rnn"),
    "Domino": functools.partial(_block, "Domino"),
    "Hydra heads": lambda folder, target: str(write_hydra(folder, target)),
    "PARD": _pard,
    "another tokenizer (tli)": _other_tokenizer,
}
"""By kind, what writes an untrained drafter for a target and returns its name."""


@dataclasses.dataclass(frozen=True)
class SmallPairs:
    """A small target and its fitted drafters, below one folder."""

    folder: Path
    target: LoadedModel
    prompts: Sequence[list[int]] = tuple(PROMPTS * 20)

    @classmethod
    def make(cls, folder: Path) -> SmallPairs:
        made = llama(folder / "target", seed=3, layers=LAYERS, mtp_layers=0)
        weights = load_file(made / "model.safetensors")
        weights["model.norm.weight"] *= _PEAKED
        save_file(weights, made / "model.safetensors", metadata={"format": "pt"})
        target_tokenizer().save_pretrained(made)
        return cls(folder, load_model(str(made), "cpu"))

    def drafter(self, name: str) -> str:
        """The drafter of a kind, written and fitted when it is first asked for."""
        folder = self.folder / "".join(letter for letter in name if letter.isalnum())
        if not folder.is_dir():
            written = WRITERS[name](folder, self.target.checkpoint.folder)
            fit(self.target, written)
        return f"tli:{folder}" if name.endswith("(tli)") else str(folder)

    def decode(
        self,
        drafter: str,
        k: int,
        depth: int,
        rule: str,
        sampling: Sampling,
        seed: int,
        prompts: Sequence[list[int]] = (),
    ) -> Decoded:
        """Texts after the prompts unless others are given, in batches of 100."""
        return decode(
            self.target,
            drafter,
            prompts or self.prompts,
            k=k,
            depth=depth,
            rule=rule,
            temperature=sampling.temperature,
            top_k=sampling.top_k,
            top_p=sampling.top_p,
            new_tokens=_NEW,
            batch_size=100,
            seed=seed,
        )


def fit(target: LoadedModel, name: str) -> None:
    """Teach a drafter the tokens of texts that its target wrote, and save it in its place."""
    drafter = drafter_for(target, name, 0)
    module, before = _module(drafter)
    parameters = [*module.requires_grad_(True).parameters()]
    optimizer = torch.optim.Adam(parameters, lr=0.01)
    ids, rows = _texts(target), _BATCH
    if isinstance(drafter, TliDrafter):  # which reads text by text
        rows //= 6
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    for _ in range(_STEPS):
        some = ids[torch.randperm(len(ids), generator=generator)[:rows]]
        before()
        optimizer.zero_grad()
        _loss(_logits(drafter, target, some), some).backward()
        optimizer.step()
    module.requires_grad_(False)
    _save(Path(name.removeprefix("tli:")), _fitted(drafter))


def _module(drafter: Drafter) -> tuple[torch.nn.Module, Callable[[], None]]:
    """What of a drafter is fitted, and what is done before each pass of it."""
    if isinstance(drafter, ResidualHeadsDrafter):
        return drafter.heads_of_rounds, _nothing
    if isinstance(drafter, PEagleDrafter):
        head = drafter.head
        head.mask_hidden = torch.nn.Parameter(_mask_hidden(drafter))

        def fused() -> None:
            head._mask = head.fused(head.mask_hidden)

        return head, fused
    if isinstance(drafter, BlockDrafter):
        return drafter.head, _nothing
    assert isinstance(drafter, PardDrafter | TliDrafter)
    return drafter.model.model, _nothing


def _mask_hidden(drafter: PEagleDrafter) -> torch.Tensor:
    (path,) = drafter.files.checkpoint.weight_files
    return load_file(path)["mask_hidden"]


def _nothing() -> None:
    """Most drafters are used as they are."""


def _fitted(drafter: Drafter) -> Mapping[str, torch.Tensor]:
    """A drafter's tensors by their names in files, where they have others than the module's."""
    module, _ = _module(drafter) if not isinstance(drafter, PEagleDrafter) else (drafter.head, None)
    state = dict(module.state_dict())
    if isinstance(drafter, ResidualHeadsDrafter):
        return {
            theirs: state[f"weights.{ours.replace('.', '_')}"]
            for ours, theirs in drafter.files.names.items()
        }
    return {name.removeprefix("correction."): tensor for name, tensor in state.items()}


def _save(folder: Path, fitted: Mapping[str, torch.Tensor]) -> None:
    (path,) = folder.glob("*.safetensors")
    held = load_file(path)
    changed = fitted.keys() & held.keys()
    assert changed, f"no tensor of {path} was fitted"
    held |= {name: fitted[name].detach().contiguous().clone() for name in changed}
    save_file(held, path, metadata={"format": "pt"})


def _loss(scored: Sequence[Logits], ids: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of the texts' tokens that can be drafted, summed over draft steps."""
    total = torch.zeros(())
    for first, logits, drafted in scored:
        columns = torch.arange(logits.shape[-1]) if drafted is None else drafted
        whole = torch.full((*logits.shape[:-1], MASK + 1), -torch.inf)
        whole = whole.index_copy(-1, columns, logits)
        losses = torch.nn.functional.cross_entropy(
            whole.flatten(0, 1),
            ids[:, first : first + logits.shape[1]].flatten(),
            reduction="none",
        )
        total = total + losses[losses.isfinite()].mean()
    return total


def _texts(target: LoadedModel) -> torch.Tensor:
    """What the target writes: (texts, length)."""
    prompts = [[0, 2 + row % 29] for row in range(_TEXTS)]
    texts = decode(target, None, prompts, k=0, new_tokens=_NEW, seed=1, batch_size=_TEXTS).texts
    return torch.tensor([text.ids for text in texts])


def _masked(drafter: PardDrafter, ids: torch.Tensor) -> list[Logits]:
    """What a model drafts on masks after some anchors, by whole passes: its cache has no
    gradients.
    """
    found: list[Logits] = []
    for anchor in torch.randint(1, ids.shape[1] - K, (2,)).tolist():
        masks = torch.full((len(ids), K - 1), drafter.mask)
        logits = drafter.model.model(torch.cat([ids[:, : anchor + 1], masks], 1)).logits
        found.append((1, logits[:, : anchor + K], None))
    return found


def _logits(drafter: Drafter, target: LoadedModel, ids: torch.Tensor) -> list[Logits]:
    """What a drafter scores of texts, with gradients."""
    if isinstance(drafter, PardDrafter):
        return _masked(drafter, ids)
    with torch.no_grad(), captured_states(target, drafter.reads_layers) as states:
        passed = target.model(ids, output_hidden_states=drafter.reads_hidden)
    batch = TextBatch(
        texts=texts_from_ids(ids.tolist(), [2] * len(ids)),
        ids=ids,
        begin=2,
        steps=K,
        sampling=Sampling(1.0),
        hidden_states=passed.hidden_states,
        layer_states=dict(states),
    )
    with _collected() as found:
        drafter.score(batch)
    return found


@contextmanager
def _collected() -> Iterator[list[Logits]]:
    """Keep logits as they are, where scores would be made of them."""
    found: list[Logits] = []

    def fill(
        self: ScoreArrays,
        head: int,
        first: int,
        logits: torch.Tensor,
        drafted: torch.Tensor | None = None,
    ) -> None:
        found.append((first, logits, drafted))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ScoreArrays, "fill", fill)
        yield found
