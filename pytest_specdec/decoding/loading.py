"""Models through transformers: safetensors only, no remote code, MTP layers with transformers' own
`MtpModel`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from ..cases.drafter import RegisteredSpec
from ..checkpoints.checkpoint import (
    MTP_COUNTS,
    Checkpoint,
    Stamps,
    check_heads,
    local_checkpoint,
    open_checkpoint,
)
from ..checkpoints.loadable import quantisation
from ..checkpoints.tokenizer_files import check_tokenizer_config
from ..common.errors import RequestError
from .kept_states import KeptStates, StoredState
from .known_quantisation import check_loadable
from .sound_weights import check_weights

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase
    from transformers.modeling_layers import MtpModel

    from .layer_stream import LayerStream

OLDEST_TRANSFORMERS = "5.14"


@dataclasses.dataclass(frozen=True)
class LoadedModel:
    """A causal language model in evaluation mode, ready on its device; `load_model` makes it."""

    checkpoint: Checkpoint
    """The folder, its configuration and fingerprints."""
    model: PreTrainedModel
    """transformers' model, without gradients."""
    stored: StoredState | None = None
    """What its layers' output is taken from, where only its outer parts are loaded."""
    stream: LayerStream | None = None
    """Reads its weights as they are needed, where they are not loaded."""
    kept: KeptStates | None = None
    """Keeps the states of texts that it passes over, where they are asked for again."""

    @functools.cached_property
    def heads(self) -> MtpModel:
        """The checkpoint's MTP layers, loaded on first use. Raises RequestError where transformers
        finds none, and for a model whose weights are not loaded.
        """
        if self.stream is not None:
            raise RequestError(
                f"MTP layers of {self.checkpoint.folder} need its weights, and --specdec-offload "
                "loads none; leave it out, or name another drafter"
            )
        return load_heads(self.model, self.checkpoint)

    @functools.cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The checkpoint's tokenizer. Raises RequestError where transformers finds none."""
        return tokenizer_in(self.checkpoint.folder)

    @functools.cached_property
    def registered_drafters(self) -> dict[tuple[RegisteredSpec, int], tuple[Stamps, Any]]:
        """Drafters of registered types that were loaded for this target, by depth, and the stamps
        that their files had then.
        """
        return {}

    @functools.cached_property
    def keeps_logits(self) -> bool:
        """Whether a pass can compute the logits of chosen positions only."""
        return "logits_to_keep" in inspect.signature(self.model.forward).parameters

    @property
    def device(self) -> torch.device:
        return torch.device(self.model.device if self.stream is None else self.stream.device)


def tokenizer_in(folder: Path) -> PreTrainedTokenizerBase:
    """The tokenizer of a checkpoint folder. Raises RequestError where transformers finds none."""
    try:
        check_tokenizer_config(folder)
        with quiet():
            return AutoTokenizer.from_pretrained(
                folder, trust_remote_code=False, local_files_only=True
            )
    except Exception as error:  # tokenizers raises nothing narrower
        raise RequestError(
            f"transformers finds no tokenizer in {folder} ({_reason(error)}); save it there, too"
        ) from error


def resolve(name: str) -> Path:
    """The local folder of a checkpoint: the path itself, or a hub id's snapshot.

    Raises RequestError for neither. Only a name of the form `owner/name` can reach the network.
    """
    if (local := local_checkpoint(name)) is not None:
        return local.folder
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    wanted = ["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja"]
    try:
        return Path(snapshot_download(name, allow_patterns=wanted))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise RequestError(
            f"{name!r} is not a folder here, and the model hub does not provide it "
            f"({_reason(error)}); check the name"
        ) from None


def pick_device(device: str) -> str:
    """`auto` is the GPU where there is one. Raises RequestError for cuda without one."""
    if device == "cuda" and not torch.cuda.is_available():
        raise RequestError(
            "--specdec-device=cuda and torch sees no GPU; install a CUDA build of torch or use "
            "--specdec-device=cpu"
        )
    found = "cuda" if torch.cuda.is_available() else "cpu"
    return found if device == "auto" else device


def loaded(model: str | LoadedModel) -> LoadedModel:
    """A model that may still be a path or hub id."""
    return load_model(model) if isinstance(model, str) else model


def check_folders(*names: str) -> None:
    """Refuse folders before any model is loaded. Raises RequestError as `open_checkpoint` does."""
    for name in names:
        open_checkpoint(resolve(name))


def load_model(name: str, device: str = "auto", dtype: str = "float32") -> LoadedModel:
    """Load a model once, to pass it to several calls of `replay` and `decode`.

    Parameters
    ----------
    name
        A checkpoint folder in transformers' layout with safetensors weights, or a hub id
        ``owner/name``.
    device
        ``"cpu"``, ``"cuda"``, or ``"auto"`` for the GPU where there is one.
    dtype
        The name of a torch dtype.

    Returns
    -------
    LoadedModel

    Raises
    ------
    RequestError
        For a missing path, weights that are pickled, incomplete, not finite or of other shapes than
        config.json implies, quantised ones whose package is not installed, or a model that needs
        remote code.

    Examples
    --------
    >>> from pytest_specdec import load_model
    >>> target = load_model("suites/models/text-target", device="cpu")
    >>> target.checkpoint.mtp_layers
    3
    """
    checkpoint = open_checkpoint(resolve(name))
    # A folder may hold a target's outer parts alone, which `load_outer_parts` takes.
    check_loadable(checkpoint)
    model, missing = _from_pretrained(checkpoint, config_of(checkpoint), dtype)
    if missing:
        lacks = ", ".join(missing[:3])
        raise RequestError(f"{checkpoint.folder} lacks the weights {lacks}; save the whole model")
    return LoadedModel(checkpoint, model.to(pick_device(device)))


def load_outer_parts(name: str, device: str = "auto", dtype: str = "float32") -> LoadedModel:
    """Load what a target has around its decoder layers: embeddings, final norm and output layer.

    Its passes need `LoadedModel.stored`. MTP layers can be loaded, too. The files may lack the
    decoder layers. Parameters and errors are those of `load_model`.
    """
    checkpoint = open_checkpoint(resolve(name))
    config = config_of(checkpoint)
    text = config.get_text_config()
    layers, types = text.num_hidden_layers, getattr(text, "layer_types", None)
    text.num_hidden_layers = 1  # transformers makes MTP layers like the last one
    if types is not None:
        text.layer_types = list(types[-1:])
    model, missing = _from_pretrained(checkpoint, config, dtype)
    if outer := [key for key in missing if ".layers." not in key]:
        raise RequestError(
            f"{checkpoint.folder} lacks the weights {', '.join(outer[:3])}; save embeddings, final "
            "norm and output layer of the target there"
        )
    text = model.config.get_text_config()
    text.num_hidden_layers = layers
    if types is not None:
        text.layer_types = types
    stored = StoredState()
    model.get_decoder().layers[0].register_forward_hook(stored.put)
    return LoadedModel(checkpoint, model.to(pick_device(device)), stored)


def config_of(checkpoint: Checkpoint) -> PreTrainedConfig:
    with refusing(checkpoint), quiet():
        return pinned(
            AutoConfig.from_pretrained(
                checkpoint.folder, trust_remote_code=False, local_files_only=True
            )
        )


def _from_pretrained(
    checkpoint: Checkpoint, config: PreTrainedConfig, dtype: str
) -> tuple[PreTrainedModel, list[str]]:
    """The model and the names of weights that the files lack."""
    with refusing(checkpoint), quiet():
        model, info = AutoModelForCausalLM.from_pretrained(
            checkpoint.folder,
            config=config,
            dtype=getattr(torch, dtype),
            use_safetensors=True,
            output_loading_info=True,
            trust_remote_code=False,
            local_files_only=True,
        )
    check_weights(model, checkpoint.folder)
    return model.eval().requires_grad_(False), sorted(info["missing_keys"])


@contextlib.contextmanager
def refusing(checkpoint: Checkpoint) -> Iterator[None]:
    """RequestError for whatever transformers raises."""
    try:
        yield
    except Exception as error:  # a malformed configuration can break transformers anywhere
        reason = _misfit(checkpoint) or _reason(error)
        raise RequestError(
            f"transformers cannot load {checkpoint.folder}: {reason}; check the checkpoint"
        ) from error


def pinned(config: PreTrainedConfig) -> PreTrainedConfig:
    """The configuration with torch's own attention and experts, whatever it names.

    The name of an attention or experts implementation may be that of code on the model hub, which
    transformers fetches and runs. Of the implementations that are torch's own, eager attention is
    kept; otherwise transformers chooses (sdpa where the model has it).
    """
    eager = getattr(config.get_text_config(), "_attn_implementation", None) == "eager"
    config._attn_implementation = "eager" if eager else None
    config._experts_implementation = None
    return config


def _misfit(checkpoint: Checkpoint) -> str | None:
    """The first tensor of another shape than config.json implies, in words; None where none is
    found.
    """
    if quantisation(checkpoint) is not None:  # stored in shapes of their own
        return None
    try:
        with quiet(), torch.device("meta"):
            config = AutoConfig.from_pretrained(
                checkpoint.folder, trust_remote_code=False, local_files_only=True
            )
            wanted = AutoModelForCausalLM.from_config(
                pinned(config), trust_remote_code=False
            ).state_dict()
    except Exception:  # only explains another error
        return None
    for name, tensor in wanted.items():
        held = checkpoint.tensors.get(name)
        if held is not None and held.shape != tuple(tensor.shape):
            return (
                f"{name} has the shape {list(held.shape)} and config.json implies "
                f"{list(tensor.shape)}"
            )
    return None


def load_heads(model: PreTrainedModel, checkpoint: Checkpoint) -> MtpModel:
    """The MTP layers of a loaded model. Raises RequestError where the checkpoint has none that
    transformers reads.
    """
    try:
        from transformers.modeling_layers import MtpModel
    except ImportError:
        raise RequestError(
            f"transformers {transformers.__version__} has no MtpModel; install "
            f"transformers>={OLDEST_TRANSFORMERS}"
        ) from None
    check_heads(checkpoint)
    announce_heads(model)
    try:
        with quiet():
            heads = MtpModel.from_pretrained(model, device_map={"": model.device})
    except Exception as error:  # as for the model itself
        reason = " ".join(str(error).split()) or type(error).__name__
        raise RequestError(
            f"transformers cannot load MTP layers from {checkpoint.folder}: {reason}; check the "
            "checkpoint"
        ) from error
    check_weights(heads, checkpoint.folder)
    return heads.eval().requires_grad_(False).to(model.device)


def announce_heads(model: PreTrainedModel) -> None:
    """Name this checkpoint's MTP layers where transformers looks for them.

    Its classes name layer numbers of the big published checkpoints only (61 for DeepSeek-V3, say),
    and some configurations count their MTP layers under another name or leave out their types;
    `generate(use_mtp=True)` needs this call too. Raises RequestError where the types are
    not known.
    """
    config = model.config.get_text_config()
    count = next((count for name in MTP_COUNTS if (count := getattr(config, name, None))), 0)
    if not count:
        return
    config.num_mtp_layers = count
    if getattr(config, "layer_types", None) and not getattr(config, "mtp_layer_types", None):
        config.mtp_layer_types = _attention_types(config.layer_types) * count
    if getattr(config, "mlp_layer_types", None) and not getattr(
        config, "mtp_mlp_layer_types", None
    ):
        config.mtp_mlp_layer_types = [
            "sparse" if "sparse" in config.mlp_layer_types else config.mlp_layer_types[0]
        ] * count
    patterns = [rf"layers\.{config.num_hidden_layers + index}\." for index in range(count)] + [
        r"(^|\.)mtp\."
    ]
    known = model._keys_to_ignore_on_load_unexpected or []
    model._keys_to_ignore_on_load_unexpected = [
        *known,
        *(pattern for pattern in patterns if pattern not in known),
    ]


def _attention_types(layer_types: list[str]) -> list[str]:
    """The one kind of attention with keys in a model: its MTP layers have it too."""
    kinds = sorted({kind for kind in layer_types if kind != "linear_attention"})
    if len(kinds) != 1:
        raise RequestError(
            f"the model's layers are of the types {', '.join(kinds) or 'linear_attention'} and "
            "config.json does not name "
            "that of the MTP layers; add mtp_layer_types to it, one name for each MTP layer"
        )
    return kinds


def _reason(error: Exception) -> str:
    """The first line of an error of another library, or its type where it has no message."""
    line = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return line[:300] or type(error).__name__


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """No progress bars, and no report of the MTP tensors as unexpected: we check the loading info
    ourselves.
    """
    log = transformers.logging.get_verbosity()
    bars = transformers.utils.logging.is_progress_bar_enabled()
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers.logging.set_verbosity(log)
        if bars:
            transformers.utils.logging.enable_progress_bar()
