"""Speech to text."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Dict, List, Optional, Union

from contracts.base import PluginBase

__all__ = ["STTContract", "TranscriptionResult"]


@dataclass
class TranscriptionResult:
    """What was said. A segment is a dict with ``text`` and ``start``/``end`` in seconds, or ``start_ms``/``end_ms``."""

    text: str
    language: Optional[str] = None
    segments: List[Dict[str, Any]] = field(default_factory=list)


class STTContract(PluginBase):
    """Listens.

    ``transcribe`` gets WAV (16 bit, mono, at the rate of the recording) and returns a text, a dict or a
    :class:`TranscriptionResult`. A plugin that can listen live has all three of ``start_stream``, ``feed_audio`` and
    ``end_stream``; its chunks are raw 16-bit little-endian mono, at 16 kHz unless ``start_stream`` takes ``sample_rate``.
    """

    async def transcribe(self, audio: bytes, language: Optional[str] = None) -> Union[str, Dict[str, Any], TranscriptionResult]:
        """Convert audio to text."""
        raise NotImplementedError("transcribe is not supported by this plugin")

    async def get_languages(self) -> List[Dict[str, Any]]:
        """The languages: dicts with ``code``. Empty means that any will do."""
        return []

    async def start_stream(self) -> str:
        """Start a live session; its id."""
        raise NotImplementedError("start_stream is not supported by this plugin")

    async def feed_audio(self, session_id: str, audio_chunk: bytes) -> Dict[str, Any]:
        """Feed a session. A dict with ``text`` is a guess so far; with ``is_final`` true, a finished utterance."""
        raise NotImplementedError("feed_audio is not supported by this plugin")

    async def end_stream(self, session_id: str) -> str:
        """End a session; what was said since the last finished utterance."""
        raise NotImplementedError("end_stream is not supported by this plugin")
