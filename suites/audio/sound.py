"""A text of a speech model as sound: what a decoder makes of its tokens, as a WAV file and as a
spectrogram.
"""

from __future__ import annotations

import dataclasses
import io
import math
import struct
import zlib
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

Decoder = Callable[[Sequence[int]], tuple[int, NDArray[np.floating]]]
"""From a text's token ids to (samples per second, samples between -1 and 1)."""

_WINDOW_SECONDS, _STEP_SECONDS, _RANGE_DB = 0.016, 0.008, 70.0
"""Of the spectrogram; levels further below the loudest are black."""
_SHORTEST_WINDOW = 4
"""As a power of two."""


@dataclasses.dataclass(frozen=True)
class Sound:
    """Samples between -1 and 1."""

    rate: int
    """Samples per second."""
    samples: NDArray[np.float64]

    @classmethod
    def decoded(cls, decoder: Decoder, ids: Sequence[int]) -> Sound:
        """Decode token ids. Raises ValueError where the decoder returns no sound; an error that the
        decoder raises is passed on.
        """
        returned = decoder(ids)
        try:
            rate, samples = returned
            rate, samples = int(rate), np.asarray(samples, dtype=np.float64)
        except (
            TypeError,
            ValueError,
            OverflowError,
            RuntimeError,
        ) as problem:  # the last is torch's, of tensors with gradients
            raise ValueError(
                f"the speech decoder returns no sound ({problem}); return (rate, samples) from it"
            ) from problem
        if samples.ndim != 1 or not samples.size or not np.isfinite(samples).all() or not rate > 0:
            raise ValueError(
                f"the speech decoder returns {samples.shape} samples at {rate} per second; return "
                "(rate, samples), samples finite and in one dimension"
            )
        return cls(rate, samples)

    @property
    def seconds(self) -> float:
        return len(self.samples) / self.rate

    def wav(self) -> bytes:
        """A WAV file of 16 bits; samples louder than 1 are clipped."""
        from scipy.io import wavfile

        file = io.BytesIO()
        wavfile.write(
            file, self.rate, np.rint(np.clip(self.samples, -1, 1) * 32767).astype(np.int16)
        )
        return file.getvalue()

    def spectrogram(self) -> NDArray[np.float64]:
        """(frequencies, frames): levels in dB below the loudest, low frequencies first, at least
        -70.
        """
        from scipy import signal

        size = 1 << max(_SHORTEST_WINDOW, math.ceil(math.log2(_WINDOW_SECONDS * self.rate)))
        step = max(1, round(_STEP_SECONDS * self.rate))
        padded = np.pad(self.samples, (0, max(0, size - len(self.samples))))
        transform = signal.ShortTimeFFT(
            signal.windows.hann(size, sym=False), hop=step, fs=self.rate
        )
        power = transform.spectrogram(padded)
        levels: NDArray[np.float64] = 10 * np.log10(
            np.maximum(power / max(power.max(), 1e-30), 10 ** (-_RANGE_DB / 10))
        )
        return levels

    def png(self) -> bytes:
        """The spectrogram as a PNG file: time to the right, frequency upwards, loud is bright."""
        grey = np.rint((self.spectrogram()[::-1] / _RANGE_DB + 1) * 255).astype(np.uint8)
        return _png(grey)


def _png(grey: NDArray[np.uint8]) -> bytes:
    """A grey picture (rows, columns) as a PNG file (RFC 2083): header, rows without filter, end."""
    rows, columns = grey.shape
    lines = b"".join(b"\0" + row.tobytes() for row in grey)
    parts = (
        (b"IHDR", struct.pack(">IIBBBBB", columns, rows, 8, 0, 0, 0, 0)),
        (b"IDAT", zlib.compress(lines, 9)),
        (b"IEND", b""),
    )
    chunks = (
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in parts
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)
