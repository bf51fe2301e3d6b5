"""The config.json of a block drafter (DFlash, DSpark, Domino), in the forms that z-lab, SpecForge,
DeepSpec and speculators write.

A block drafter reads a block of tokens, the newest emitted one (its anchor) and masks after it, and
drafts all that follows in one pass. `decoding.drafters.block_head` has the definition that these
fields parametrise.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from ..cases.drafter import DFLASH, DOMINO, DSPARK
from ..common.errors import RequestError
from .block_unsupported import check_block_supported
from .config_checks import count_of
from .eagle3_rotary import number_of, rotary_of
from .head_fields import flag_of, optional_size, size_of, verifier_of

Packaging = Literal["z-lab", "SpecForge", "DeepSpec", "speculators"]
_IN_WORDS = {DFLASH: "DFlash drafter", DSPARK: "DSpark drafter", DOMINO: "Domino drafter"}
_MARKOV_HEADS = ("vanilla", "gated", "rnn")
_SLIDING = "sliding_attention"


@dataclasses.dataclass(frozen=True, kw_only=True)
class MarkovConfig:
    """DSpark's Markov head: a bias of the logits of each draft by the token before it."""

    rank: int
    head: str
    """`vanilla`, `gated` (by the hidden state) or `rnn` (with a state along the block)."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class DominoConfig:
    """Domino's correction of the logits by a GRU over the tokens before each draft."""

    state: int
    """Width of the GRU's state."""
    inner: int
    """Width between the two matrices that make logits of it."""
    uncorrected: int
    """So many drafts, the first ones, are not corrected."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class BlockConfig:
    """What config.json says of a block drafter; `read_block_config` makes it."""

    path: Path
    """The file that it was read from."""
    kind: str
    """`dflash`, `dspark` or `domino`."""
    packaging: Packaging
    layer_ids: tuple[int, ...]
    """The target's layers whose states the drafter reads, as config.json numbers them."""
    ids_are_outputs: bool
    """Whether id i is the output of decoder layer i, counted from 0; else it is transformers'
    `hidden_states[i]`, the input of that layer (speculators).
    """
    mask_token: int
    """The token whose embedding stands at the places to be drafted."""
    block: int
    """Rows of the block that it was trained with, the anchor's included."""
    first_row: int
    """The row of the block that the first draft is read from: 0 the anchor's, 1 the first mask."""
    more_rows: int
    """Rows of a block beyond the number of its drafts."""
    layers: int
    width: int
    heads: int
    kv_heads: int
    head_dim: int
    mlp_width: int
    eps: float
    attention_bias: bool
    windows: tuple[int | None, ...]
    """Of each layer how far it reads back, None for all of the context."""
    causal: tuple[bool, ...]
    """Of each layer whether a row of the block reads the rows up to its own alone."""
    window_from_anchor: bool
    """Whether windows are counted back from the anchor, for all rows alike (speculators), and not
    from each row.
    """
    theta: float
    rope: Mapping[str, Any]
    """transformers' `rope_parameters` without the base."""
    context: int | None
    vocabulary: int
    """The target's number of tokens."""
    draft_vocabulary: int | None
    """Number of tokens that it can draft; None where config.json does not say."""
    markov: MarkovConfig | None = None
    confidence: int | None = None
    """Numbers that DSpark's confidence head reads; None without one. It decides nothing here."""
    domino: DominoConfig | None = None
    verifier: str | None
    """The name of the target that it was trained for."""
    verifier_classes: tuple[str, ...]
    """The target's `architectures`."""

    @property
    def most_drafts(self) -> int:
        """Drafts of the block that it was trained with."""
        return self.block - self.more_rows

    @property
    def in_words(self) -> str:
        """The kind as messages name it."""
        return _IN_WORDS[self.kind]

    def rows(self, k: int) -> int:
        """Rows of a block with k drafts."""
        return k + self.more_rows

    def states(self, target_layers: int) -> tuple[int, ...]:
        """The states that the drafter reads of a target with so many decoder layers, numbered as
        transformers' `hidden_states`: 0 the embeddings, i the output of the i-th decoder layer.

        Raises RequestError for states that the target does not have, and for its last one, which
        some implementations take before its last norm and some after.

        Example: ids (1, 9, 17) of `dflash_config` are the states (2, 10, 18).
        """
        shift = 1 if self.ids_are_outputs else 0
        chosen = tuple(number + shift for number in self.layer_ids)
        if any(not 0 <= number < target_layers for number in chosen):
            raise RequestError(
                f"{self.path} names the layers {list(self.layer_ids)} of the target, which has "
                f"{target_layers}, and the output of its last layer is read before the last norm "
                f"by some engines and after it by others; name ids from {-shift} to "
                f"{target_layers - 1 - shift}, or the target that it was trained for"
            )
        return chosen


def read_block_config(path: Path, config: Mapping[str, Any], kind: str) -> BlockConfig:
    """The drafter that config.json describes.

    Parameters
    ----------
    path
        config.json, for messages.
    config
        What it holds.
    kind
        `dflash`, `dspark` or `domino`: the type of drafter that its folder was recognised as.

    Raises
    ------
    RequestError
        For sizes that no drafter has, a missing mask token, block or ids of layers, and for parts
        whose meaning is not public or differs between implementations.

    References
    ----------
    z-lab/dflash `dflash/model.py`; SpecForge `specforge/modeling/draft/{dflash,dspark,domino}.py`;
    deepseek-ai/DeepSpec `deepspec/modeling/dspark`; speculators `models/{dflash,dspark}`.

    Examples
    --------
    >>> layer = {"hidden_size": 64, "num_attention_heads": 4, "intermediate_size": 128}
    >>> layer |= {"vocab_size": 100, "num_hidden_layers": 2, "rope_theta": 10000.0}
    >>> own = {"dflash_config": {"mask_token_id": 99, "target_layer_ids": [1, 4]}, "block_size": 8}
    >>> config = read_block_config(Path("config.json"), layer | own, "dflash")
    >>> config.packaging, config.states(8), config.most_drafts, config.rows(3)
    ('z-lab', (2, 5), 7, 4)
    """
    packaging = _packaging(config, kind)
    layer = config.get("transformer_layer_config") if packaging == "speculators" else config
    if not isinstance(layer, Mapping):
        raise RequestError(f"{path} has no transformer_layer_config; save the drafter again")
    own = _own_fields(config, packaging)
    check_block_supported(path, config, layer, own)
    markov, confidence = (None, None)
    if kind == DSPARK:
        markov, confidence = _dspark(path, own, packaging, size_of(path, layer, "hidden_size"))
    first_row, more_rows = _drafted_rows(path, config, own, packaging, kind)
    verifier, classes = verifier_of(config)
    read = BlockConfig(
        path=path,
        kind=kind,
        packaging=packaging,
        layer_ids=_layer_ids(path, own, packaging),
        ids_are_outputs=packaging != "speculators",
        mask_token=_mask_token(path, own),
        block=_block(path, config, own),
        first_row=first_row,
        more_rows=more_rows,
        **_layer_fields(path, config, own, layer),
        window_from_anchor=packaging == "speculators",
        draft_vocabulary=optional_size(path, config, "draft_vocab_size"),
        markov=markov,
        confidence=confidence,
        domino=_domino(path, own) if kind == DOMINO else None,
        verifier=verifier,
        verifier_classes=classes,
    )
    if read.most_drafts < 1:
        raise RequestError(f"{path} says block_size: {read.block}, which leaves nothing to draft")
    if markov is not None and markov.head == "rnn" and packaging == "speculators" and first_row:
        raise RequestError(
            f"{path} says markov_head_type: 'rnn' with sample_from_anchor: false, where training "
            "and drafting begin the head's state at different rows; use another head"
        )
    return read


def _layer_fields(
    path: Path, config: Mapping[str, Any], own: Mapping[str, Any], layer: Mapping[str, Any]
) -> dict[str, Any]:
    """The fields of a `BlockConfig` that describe its decoder layers."""
    width, heads = size_of(path, layer, "hidden_size"), size_of(path, layer, "num_attention_heads")
    head_dim = size_of(path, layer, "head_dim", max(width // heads, 1))
    theta, rope = _rotary(path, layer, head_dim)
    layers = size_of(path, layer, "num_hidden_layers")
    return {
        "layers": layers,
        "width": width,
        "heads": heads,
        "kv_heads": size_of(path, layer, "num_key_value_heads", heads),
        "head_dim": head_dim,
        "mlp_width": size_of(path, layer, "intermediate_size"),
        "eps": number_of(path, "rms_norm_eps", layer.get("rms_norm_eps"), 1e-6),
        "attention_bias": flag_of(path, layer, "attention_bias"),
        "windows": _windows(path, layer, layers),
        "causal": _causal(path, config, own, layer, layers),
        "theta": theta,
        "rope": rope,
        "context": optional_size(path, layer, "max_position_embeddings"),
        "vocabulary": size_of(path, layer, "vocab_size"),
    }


def _packaging(config: Mapping[str, Any], kind: str) -> Packaging:
    if config.get("speculators_model_type") or config.get("speculators_config"):
        return "speculators"
    if isinstance(config.get("dflash_config"), Mapping):
        return "z-lab" if kind == DFLASH else "SpecForge"
    return "DeepSpec"


def _own_fields(config: Mapping[str, Any], packaging: str) -> Mapping[str, Any]:
    """The part of config.json with the drafter's own fields."""
    if packaging in ("speculators", "DeepSpec"):
        return config
    own: Mapping[str, Any] = config["dflash_config"]
    return own


def _layer_ids(path: Path, own: Mapping[str, Any], packaging: str) -> tuple[int, ...]:
    name = "aux_hidden_state_layer_ids" if packaging == "speculators" else "target_layer_ids"
    values = own.get(name)
    counts = [count_of(value) for value in (values if isinstance(values, list) else [])]
    numbers = [count for count in counts if count is not None]
    if not 0 < len(set(numbers)) == len(counts) <= 64:
        raise RequestError(
            f"{path} names the layers {str(values)[:60]} of the target, which are no list of "
            f"different whole numbers; write those that it was trained with as {name}"
        )
    return tuple(numbers)


def _mask_token(path: Path, own: Mapping[str, Any]) -> int:
    token = count_of(own.get("mask_token_id"))
    if token is None or token < 0:
        raise RequestError(
            f"{path} says mask_token_id: {str(own.get('mask_token_id'))[:40]}, and the drafter "
            "reads that token's embedding at every place to be drafted; write the one that it was "
            "trained with"
        )
    return token


def _block(path: Path, config: Mapping[str, Any], own: Mapping[str, Any]) -> int:
    """The block size, which newer checkpoints hold inside `dflash_config`."""
    outer, inner = config.get("block_size"), own.get("block_size")
    if None not in (outer, inner) and outer != inner:
        raise RequestError(
            f"{path} says block_size: {str(outer)[:40]} at one place and {str(inner)[:40]} at "
            "another; remove the wrong one"
        )
    return size_of(path, config if outer is not None else own, "block_size")


def _drafted_rows(
    path: Path,
    config: Mapping[str, Any],
    own: Mapping[str, Any],
    packaging: Packaging,
    kind: str,
) -> tuple[int, int]:
    """The row of the first draft, and the rows beyond the number of drafts."""
    if kind == DOMINO:
        return (0, 1) if flag_of(path, own, "shift_label") else (1, 1)
    if packaging == "speculators":
        value = config.get("sample_from_anchor")
        at_anchor = kind == DSPARK if value is None else flag_of(path, config, "sample_from_anchor")
        return (0, 0) if at_anchor else (1, 1)
    return (0, 0) if packaging == "DeepSpec" else (1, 1)


def _windows(path: Path, layer: Mapping[str, Any], layers: int) -> tuple[int | None, ...]:
    kinds = layer.get("layer_types")
    if kinds is None:
        return (None,) * layers
    known = ("full_attention", _SLIDING)
    if not isinstance(kinds, list) or len(kinds) != layers or any(k not in known for k in kinds):
        raise RequestError(
            f"{path} says layer_types: {str(kinds)[:60]}, and {layers} layers are each "
            f"{' or '.join(known)}; correct it"
        )
    window = size_of(path, layer, "sliding_window") if _SLIDING in kinds else None
    return tuple(window if name == _SLIDING else None for name in kinds)


def _causal(
    path: Path,
    config: Mapping[str, Any],
    own: Mapping[str, Any],
    layer: Mapping[str, Any],
    layers: int,
) -> tuple[bool, ...]:
    """Sliding layers are causal within the block and full ones are not, where nothing is said."""
    for part, name in ((config, "is_causal"), (own, "causal")):
        if part.get(name) is not None:
            return (flag_of(path, part, name),) * layers
    sliding = not flag_of(path, config, "sliding_window_non_causal")
    kinds = layer.get("layer_types") or ["full_attention"] * layers
    return tuple(sliding and name == _SLIDING for name in kinds)


def _rotary(path: Path, layer: Mapping[str, Any], head_dim: int) -> tuple[float, Mapping[str, Any]]:
    theta, rope, rotated = rotary_of(path, layer, head_dim)
    if theta is None:
        raise RequestError(
            f"{path} has no rope_theta, which loaders take for 10000 or for 1000000; add the one "
            "that the drafter was trained with"
        )
    if rotated != head_dim:
        raise RequestError(
            f"{path} rotates {rotated} of {head_dim} numbers, and no public block drafter rotates "
            "a part; use another head"
        )
    return theta, rope


def _dspark(
    path: Path, own: Mapping[str, Any], packaging: str, width: int
) -> tuple[MarkovConfig | None, int | None]:
    """The Markov head, and what the confidence head reads, with each packaging's own defaults."""
    ours = packaging == "speculators"
    rank = count_of(own.get("markov_rank", 256 if ours else 0))
    head = own.get("markov_head_type", "vanilla")
    if rank is None or rank < 0 or head not in _MARKOV_HEADS:
        raise RequestError(
            f"{path} says markov_rank: {str(own.get('markov_rank'))[:40]} and markov_head_type: "
            f"{str(head)[:40]!r}, and the heads are {', '.join(_MARKOV_HEADS)}; correct them"
        )
    alpha = number_of(path, "confidence_head_alpha", own.get("confidence_head_alpha") or None, 0.0)
    announced = own.get("enable_confidence_head", ours or alpha > 0)
    with_markov = own.get("confidence_head_with_markov", ours)
    confidence = width + (rank if with_markov else 0) if announced else None
    return (MarkovConfig(rank=rank, head=head) if rank else None), confidence


def _domino(path: Path, own: Mapping[str, Any]) -> DominoConfig:
    uncorrected = count_of(own.get("pure_draft_prefix_len", 0))
    if uncorrected is None or uncorrected < 0:
        raise RequestError(
            f"{path} says pure_draft_prefix_len: {str(own['pure_draft_prefix_len'])[:40]}, which "
            "is no number of drafts; correct it"
        )
    return DominoConfig(
        state=size_of(path, own, "gru_hidden_dim"),
        inner=size_of(path, own, "emb_dim"),
        uncorrected=uncorrected,
    )
