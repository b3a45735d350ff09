"""Samples to bytes and back: WAV, raw 16 bit, 32-bit floats. No resampling and no compressed formats."""

from __future__ import annotations

import math
import struct
import sys
from array import array
from typing import Tuple

from bespoke_sdk.errors import ErrorCodes, PluginError

__all__ = ["floats", "floats_to_bytes", "samples_of", "to_s16", "to_wav", "tone"]

_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE
_COMPRESSED = ((b"ID3", "MP3"), (b"\xff\xfb", "MP3"), (b"\xff\xf3", "MP3"), (b"OggS", "Ogg"), (b"fLaC", "FLAC"))


def samples_of(data: bytes, rate: int, layout: str = "") -> Tuple[array[float], int]:
    """Mono samples in -1.0 to 1.0, and their rate. WAV says both itself; else ``data`` is raw, in ``layout`` and at ``rate``.

    Raises ``TTS_SYNTHESIS_FAILED`` for what is neither.
    """
    if data[:4] == b"RIFF" and data[8:12] == b"WAVE":
        return _of_wav(data)
    for magic, name in _COMPRESSED:
        if data.startswith(magic) and layout != "pcm_f32le":
            raise _bad(f"the audio is {name}, which is not decoded: return WAV, or raw 16-bit little-endian mono")
    if layout in ("", "pcm", "raw", "s16le", "pcm_s16le"):
        return _scaled(data, 2, _PCM), rate
    if layout in ("f32le", "pcm_f32le"):
        return _scaled(data, 4, _FLOAT), rate
    raise _bad(f"audio of the format `{layout}` is not decoded: return wav, pcm_s16le or pcm_f32le")


def floats(data: bytes) -> array[float]:
    """32-bit little-endian floats."""
    if len(data) % 4:
        raise PluginError(ErrorCodes.INVALID_PARAMS, f"{len(data)} bytes are no 32-bit floats")
    return _array("f", data)


def floats_to_bytes(samples: array[float]) -> bytes:
    """The same, to be sent."""
    if sys.byteorder == "little":
        return samples.tobytes()
    swapped = array("f", samples)
    swapped.byteswap()
    return swapped.tobytes()


def to_s16(samples: array[float]) -> bytes:
    """16-bit little-endian, clipped."""
    out = array("h", (int(32767 * (-1.0 if s < -1.0 else 1.0 if s > 1.0 else s)) for s in samples))
    if sys.byteorder == "big":
        out.byteswap()
    return out.tobytes()


def to_wav(samples: array[float], rate: int) -> bytes:
    """A WAV file, 16 bit, mono."""
    data = to_s16(samples)
    head = struct.pack("<4sI4s4sIHHIIHH", b"RIFF", 36 + len(data), b"WAVE", b"fmt ", 16, _PCM, 1, rate, rate * 2, 2, 16)
    return head + struct.pack("<4sI", b"data", len(data)) + data


def tone(seconds: float, rate: int = 24000, hertz: float = 220.0) -> bytes:
    """A soft tone as WAV."""
    count = int(seconds * rate)
    step = 2 * math.pi * hertz / rate
    return to_wav(array("f", (0.1 * math.sin(step * i) for i in range(count))), rate)


def _of_wav(data: bytes) -> Tuple[array[float], int]:
    layout, at = None, 12
    while at + 8 <= len(data):
        name, size = struct.unpack_from("<4sI", data, at)
        at += 8
        if name == b"fmt " and size >= 16:
            tag, channels, rate, _, _, bits = struct.unpack_from("<HHIIHH", data, at)
            if tag == _EXTENSIBLE and size >= 26:
                (tag,) = struct.unpack_from("<H", data, at + 24)
            layout = (tag, channels, rate, bits)
        elif name == b"data":
            if layout is None:
                raise _bad("the WAV has its data before its format")
            tag, channels, rate, bits = layout
            if channels == 0 or rate == 0:
                raise _bad("the WAV says that it has no channels, or no rate")
            # A file that was written to a pipe has a size of 0 or all ones: the rest is meant.
            size = min(size, len(data) - at) if 0 < size < 0xFFFFFF00 else len(data) - at
            width = bits // 8
            size -= size % (width * channels) if width else 0
            return _mono(_scaled(data[at : at + size], width, tag), channels), rate
        at += size + (size & 1)
    raise _bad("the WAV has no samples")


def _scaled(data: bytes, width: int, tag: int) -> array[float]:
    if width == 0 or len(data) % width:
        raise _bad(f"{len(data)} bytes are no audio of {8 * width} bits a sample")
    if tag == _FLOAT and width == 4:
        return floats(data)
    if tag == _FLOAT and width == 8:
        return array("f", _array("d", data))
    if tag == _PCM and width == 1:
        return array("f", ((b - 128) / 128 for b in data))
    if tag == _PCM and width == 2:
        return array("f", (s / 32768 for s in _array("h", data)))
    if tag == _PCM and width == 3:
        whole = (int.from_bytes(data[i : i + 3], "little", signed=True) for i in range(0, len(data), 3))
        return array("f", (s / 8388608 for s in whole))
    if tag == _PCM and width == 4:
        return array("f", (s / 2147483648 for s in _array("i", data)))
    raise _bad(f"a WAV of layout {tag} with {8 * width} bits is not decoded: return 16-bit PCM")


def _mono(samples: array[float], channels: int) -> array[float]:
    if channels == 1:
        return samples
    return array("f", (sum(samples[i : i + channels]) / channels for i in range(0, len(samples), channels)))


def _array(code: str, data: bytes) -> array:
    out = array(code)
    out.frombytes(data)
    if sys.byteorder == "big":
        out.byteswap()
    return out


def _bad(message: str) -> PluginError:
    return PluginError(ErrorCodes.TTS_SYNTHESIS_FAILED, message)
