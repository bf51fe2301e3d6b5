"""One number of one weight is NaN or infinite: what every path makes of it.

    python benchmarks/poisoned_numbers.py [--every 1] [--only DRAFTER]

A tiny target and a tiny drafter of each kind are loaded; then one element of one parameter becomes
NaN or inf, in turn in each of their parameters, and each path (decode, replay, trees, conformance,
sampled texts, confidences) runs at temperature 0, 1, and with top-k and top-p. A run is right if it
is refused in our own words, cause and cure, or if its result is that of the sound weights: the
number was not read. Anything else is a fault: it was averaged away. `--every` takes one run in so
many. A table is printed; exit status 1 where a run is a fault.

Files with such weights are refused when they are loaded, so this is what a number that becomes NaN
on the way meets. Left out are queries and keys, whose NaN torch's own attention on CPUs takes for
masked, and inf in gates, where it is a gate that is open.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import math
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from helpers.blocks import KINDS, write_block  # noqa: E402
from helpers.eagle3 import write_head, write_masked_head  # noqa: E402
from helpers.other_tokenizer import other_tokenizer, target_tokenizer  # noqa: E402
from helpers.residual_heads import write_hydra, write_medusa  # noqa: E402
from helpers.support import edit_config, llama  # noqa: E402

from pytest_specdec.cases.case import Sampling  # noqa: E402
from pytest_specdec.cases.texts import Text  # noqa: E402
from pytest_specdec.common.errors import SpecdecError  # noqa: E402
from pytest_specdec.decoding.confidence import confidences  # noqa: E402
from pytest_specdec.decoding.decode import decode  # noqa: E402
from pytest_specdec.decoding.drafters.registry import drafter_for  # noqa: E402
from pytest_specdec.decoding.likeliest_drafts import likeliest_drafts  # noqa: E402
from pytest_specdec.decoding.loading import LoadedModel, load_model  # noqa: E402
from pytest_specdec.decoding.replay import replay  # noqa: E402
from pytest_specdec.decoding.sampling import sample_new_tokens  # noqa: E402
from pytest_specdec.decoding.trees.decode import decode_tree  # noqa: E402
from pytest_specdec.decoding.trees.replay import replay_tree  # noqa: E402
from pytest_specdec.lossless import conformance  # noqa: E402

POISONS = (math.nan, math.inf)
_HIDDEN = ("q_proj", "k_proj")
"""Parts of names of weights whose NaN torch's attention hides."""
_GATES = ("gate", "joint_proj", "gru", "markov")
PROMPTS = [[0, 2 + row, 5] for row in range(6)]
SAMPLINGS = (Sampling(0.0), Sampling(1.0), Sampling(0.7, 5, 1.0), Sampling(1.0, 0, 0.8))
DYNAMIC = "topk=2,depth=2,nodes=4"
_LAYERS, _MASK, _STATES = 4, 31, (1, 2, 3)
_NEW = 12


@dataclasses.dataclass(frozen=True)
class Pair:
    """A target and a drafter of it, with texts that the target emitted."""

    target: LoadedModel
    drafter: Any
    """What `decode` takes: a loaded model, a drafter or a name."""
    depth: int
    texts: Mapping[Sampling, tuple[Text, ...]]
    paths: tuple[str, ...]


Way = Callable[[Pair, Sampling], Any]


def _settings(sampling: Sampling) -> dict[str, Any]:
    return {"temperature": sampling.temperature, "top_k": sampling.top_k, "top_p": sampling.top_p}


def _decode(pair: Pair, sampling: Sampling) -> Any:
    options = {"k": 3, "depth": pair.depth, "new_tokens": _NEW, **_settings(sampling)}
    return decode(pair.target, pair.drafter, PROMPTS, **options).counts.accepted.tolist()


def _replay(pair: Pair, sampling: Sampling) -> Any:
    texts = pair.texts[sampling]
    options = {"k": 3, "depth": pair.depth, **_settings(sampling)}
    return replay(pair.target, pair.drafter, texts, **options).accepted.tolist()


def _tree(sampling: Sampling, drawn: bool) -> str:
    return f"0 1 0.0{' sampled' if sampling.temperature else ''}" if drawn else DYNAMIC


def _decode_tree(pair: Pair, sampling: Sampling, *, drawn: bool = False) -> Any:
    options = {"depth": pair.depth, "new_tokens": _NEW, **_settings(sampling)}
    tree = _tree(sampling, drawn)
    decoded = decode_tree(pair.target, pair.drafter, PROMPTS[:2], tree=tree, **options)
    return decoded.counts.accepted.tolist()


def _replay_tree(pair: Pair, sampling: Sampling, *, drawn: bool = False) -> Any:
    texts, options = pair.texts[sampling][:2], {"depth": pair.depth, **_settings(sampling)}
    tree = _tree(sampling, drawn)
    return replay_tree(pair.target, pair.drafter, texts, tree=tree, **options).accepted.tolist()


def _conformance(pair: Pair, sampling: Sampling) -> Any:
    drafter = pair.drafter if sampling.temperature else None
    found = conformance(pair.target, pair.texts[sampling], drafter=drafter, **_settings(sampling))
    return found.conforms, found.message


def _confidences(pair: Pair, sampling: Sampling) -> Any:
    texts = pair.texts[sampling][:2]
    return confidences(pair.target, pair.drafter, texts, k=2, sampling=sampling).rejected.tolist()


def _sampled(pair: Pair, sampling: Sampling) -> Any:
    return sample_new_tokens(pair.target, PROMPTS, new_tokens=_NEW, sampling=sampling, seed=0)


def _likeliest(pair: Pair, sampling: Sampling) -> Any:
    drafter = drafter_for(pair.target, pair.drafter, pair.depth)
    found = likeliest_drafts(pair.target, drafter, pair.texts[sampling][:2], sampling)
    return None if found is None else [text.tokens for text in found]


PATHS: dict[str, Way] = {
    "decode": _decode,
    "replay": _replay,
    "likeliest drafts": _likeliest,
    "decode, dynamic tree": _decode_tree,
    "replay, dynamic tree": _replay_tree,
    "decode, drawn tree": lambda pair, sampling: _decode_tree(pair, sampling, drawn=True),
    "replay, drawn tree": lambda pair, sampling: _replay_tree(pair, sampling, drawn=True),
    "conformance": _conformance,
    "confidences": _confidences,
    "sampled texts": _sampled,
}
_PLAIN = ("decode", "replay", "likeliest drafts")
_TREES = tuple(name for name in PATHS if name.endswith("tree"))


@dataclasses.dataclass(frozen=True)
class Form:
    """A kind of drafter: how it is written for a target's folder, and which paths take it."""

    write: Callable[[Path, Path], Any]
    """Returns what names it."""
    depth: int = 0
    paths: tuple[str, ...] = _PLAIN


def _tli(folder: Path, target: Path) -> str:
    other_tokenizer().save_pretrained(llama(folder, seed=9, mtp_layers=0, vocabulary=30))
    return f"tli:{folder}"


def _eagle3(folder: Path, target: Path) -> str:
    return str(write_head(folder, target, packaging="SafeAILab", ids=_STATES))


FORMS: dict[str, Form] = {
    "draft model": Form(
        lambda folder, target: load_model(str(llama(folder, seed=2)), "cpu"), paths=tuple(PATHS)
    ),
    "draft model with heads": Form(
        lambda folder, target: load_model(str(llama(folder, seed=2)), "cpu"), 1
    ),
    "own heads": Form(lambda folder, target: "mtp", 2, (*_PLAIN, *_TREES)),
    "prompt lookup": Form(lambda folder, target: "prompt-lookup", paths=("decode", "replay")),
    "EAGLE-3": Form(_eagle3, paths=(*_PLAIN, *_TREES)),
    "P-EAGLE": Form(
        lambda folder, target: str(write_masked_head(folder, target, "speculators", ids=_STATES))
    ),
    "DFlash": Form(
        lambda folder, target: str(
            write_block(folder, target, *KINDS["DFlash, speculators"], ids=_STATES)
        )
    ),
    "DSpark": Form(
        lambda folder, target: str(
            write_block(folder, target, *KINDS["DSpark, SpecForge, rnn"], ids=_STATES)
        )
    ),
    "Domino": Form(
        lambda folder, target: str(write_block(folder, target, *KINDS["Domino"], ids=_STATES))
    ),
    "Medusa": Form(
        lambda folder, target: str(write_medusa(folder, target)), paths=(*_PLAIN, *_TREES)
    ),
    "Hydra": Form(
        lambda folder, target: str(write_hydra(folder, target)), paths=(*_PLAIN, *_TREES)
    ),
    "PARD": Form(
        lambda folder, target: str(
            edit_config(llama(folder, seed=8, mtp_layers=0), pard_token=_MASK)
        )
    ),
    "another tokenizer": Form(_tli, paths=("decode", "replay")),
}


class Workshop:
    """Pairs of one tiny target, below a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        made = llama(folder / "target", seed=1, layers=_LAYERS)
        target_tokenizer().save_pretrained(made)
        sound = load_model(str(made), "cpu")
        self._texts = {
            sampling: decode(
                sound, None, PROMPTS, k=0, new_tokens=_NEW, **_settings(sampling)
            ).texts
            for sampling in SAMPLINGS
        }

    def pair(self, name: str) -> Pair:
        """A new pair with a drafter of a kind, written when it is first asked for."""
        form, folder = FORMS[name], self._folder / name.replace(" ", "-").replace(":", "-")
        target = load_model(str(self._folder / "target"), "cpu")
        _untie(target)
        drafter = form.write(_new(folder), self._folder / "target")
        if isinstance(drafter, LoadedModel):
            _untie(drafter)
        elif drafter != "prompt-lookup":
            drafter = drafter_for(target, drafter, form.depth)
        return Pair(target, drafter, form.depth, self._texts, form.paths)


def _new(folder: Path) -> Path:
    """A folder that is not there yet."""
    numbers = itertools.count()
    return next(
        path for number in numbers if not (path := folder.with_suffix(f".{number}")).exists()
    )


def _untie(model: LoadedModel) -> None:
    """The output layer with a weight of its own, so that one row of it can be wrong alone."""
    head = model.model.lm_head
    head.weight = torch.nn.Parameter(head.weight.detach().clone(), requires_grad=False)


def weights(pair: Pair) -> dict[str, torch.Tensor]:
    """The parameters of a pair by side and name, each once."""
    found: dict[str, torch.Tensor] = {}
    seen: set[int] = set()
    for side, modules in (("target", [pair.target]), ("drafter", [pair.drafter])):
        for module in _modules(modules):
            for name, tensor in module.named_parameters():
                known = tensor.data_ptr() in seen or any(part in name for part in _HIDDEN)
                if tensor.is_floating_point() and not known:
                    seen.add(tensor.data_ptr())
                    found[f"{side} {name}"] = tensor
    return found


def _modules(parts: Sequence[Any]) -> Iterator[torch.nn.Module]:
    """The modules inside loaded models and drafters."""
    waiting, known = list(parts), set[int]()
    while waiting:
        part = waiting.pop(0)
        if id(part) in known:
            continue
        known.add(id(part))
        if isinstance(part, torch.nn.Module):
            yield part
        elif isinstance(part, LoadedModel):
            waiting += [part.model, *([part.heads] if part.checkpoint.mtp_layers else [])]
        elif hasattr(part, "__dict__") and type(part).__module__.startswith("pytest_specdec"):
            waiting += list(vars(part).values())


@dataclasses.dataclass
class Tally:
    """What became of the runs of a pair."""

    outcomes: Counter[str] = dataclasses.field(default_factory=Counter)
    faults: list[str] = dataclasses.field(default_factory=list)

    @property
    def runs(self) -> int:
        return self.outcomes.total()


def poisoned(workshop: Workshop, name: str, every: int = 1) -> Tally:
    """Run the paths of a kind of drafter with each weight poisoned, one run in `every`."""
    sound, pair, tally = workshop.pair(name), workshop.pair(name), Tally()
    wanted = {
        (path, sampling): PATHS[path](sound, sampling)
        for path in pair.paths
        for sampling in SAMPLINGS
    }
    turn = 0
    for where, tensor in weights(pair).items():
        for poison in POISONS:
            if math.isinf(poison) and any(part in where for part in _GATES):
                continue
            place = tensor.view(-1)[_element(tensor) :][:1]
            kept = place.clone()
            place.fill_(poison)
            for path, sampling in wanted:
                turn += 1
                if turn % every == 0:
                    outcome = _outcome(PATHS[path], pair, sampling, wanted[path, sampling])
                    right = outcome in ("refused", "as sound")
                    tally.outcomes[outcome if right else "fault"] += 1
                    if not right:
                        tally.faults.append(
                            f"{name}, {where} {poison}, {path}, {sampling}: {outcome}"
                        )
            place.copy_(kept)
    return tally


def _element(tensor: torch.Tensor) -> int:
    """In the row of a token that texts seldom hold, or anywhere in a vector."""
    return min(7, len(tensor) - 1) * tensor[0].numel() if tensor.ndim > 1 else tensor.numel() // 2


def _outcome(path: Way, pair: Pair, sampling: Sampling, wanted: Any) -> str:
    try:
        found = path(pair, sampling)
    except SpecdecError as error:
        cause, _, cure = str(error).partition("; ")
        return "refused" if cause and cure else f"no cure: {error}"
    except Exception as error:
        return f"foreign: {type(error).__name__}: {str(error)[:200]}"
    return "as sound" if found == wanted else "another result"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--only", action="append", help="a kind of drafter")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    faults, runs, start = [], 0, time.process_time()
    with tempfile.TemporaryDirectory() as name:
        workshop = Workshop(Path(name))
        print(
            "| drafter | runs | refused | as with sound weights | faults |\n|---|---|---|---|---|"
        )
        for drafter in asked.only or FORMS:
            tally = poisoned(workshop, drafter, asked.every)
            counts = (tally.runs, tally.outcomes["refused"], tally.outcomes["as sound"])
            cells = [f"{count:,}" for count in counts]
            print(f"| {drafter} | {' | '.join(cells)} | {len(tally.faults)} |", flush=True)
            faults += tally.faults
            runs += tally.runs
    print(
        f"\n{runs:,} runs, {len(faults)} faults, {time.process_time() - start:.0f} s of computing"
    )
    print("\n".join(faults[:40]))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
