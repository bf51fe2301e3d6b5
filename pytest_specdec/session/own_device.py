"""The device and dtype whose baselines a session keeps apart."""

from __future__ import annotations

from ..common.errors import RequestError, naming_extras
from ..config.options import BASELINES_PER, DEVICE, DTYPE, ENGINE
from ..config.settings import Settings

_TORCH_ENGINES = ("replay", "decode", "transformers", "hidden-states")
"""Engines whose models torch runs here, so that `auto` is the device that torch picks."""


def own_device(settings: Settings) -> str | None:
    """`cuda-bfloat16`, as file names have it; None where one baseline of a case serves all devices.

    Raises RequestError where the device is not known here.
    """
    if settings.value(BASELINES_PER) != "device":
        return None
    device, engine = settings.value(DEVICE), settings.value(ENGINE)
    if device == "auto":
        if engine not in _TORCH_ENGINES:
            raise RequestError(
                f"{BASELINES_PER.flag}=device needs the device that engine {engine!r} runs on, "
                f"which is not known here; name it by {DEVICE.flag}=cpu or cuda"
            )
        with naming_extras():
            from ..decoding.loading import pick_device
        device = pick_device(device)
    return f"{device}-{settings.value(DTYPE)}"
