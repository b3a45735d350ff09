"""Text to speech."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Any, AsyncIterator, Dict, List, Optional, Union

from bespoke_sdk.audio import tone
from contracts.base import PluginBase

__all__ = ["SynthesisResult", "TTSContract"]


@dataclass
class SynthesisResult:
    """Audio that says what it is. ``format`` is ``wav``, ``pcm_s16le`` or ``pcm_f32le``."""

    audio_data: bytes
    format: str = "wav"
    sample_rate: int = 24000
    duration_ms: Optional[float] = None
    text: str = ""
    voice_id: Optional[str] = None
    metadata: Dict[str, Any] = field(default_factory=dict)


class TTSContract(PluginBase):
    """Speaks.

    Audio is WAV, or raw 16-bit little-endian mono at ``sample_rate`` of the configuration (24000 when it has none), or a
    :class:`SynthesisResult`. Text reaches ``synthesize`` a sentence at a time. ``synthesize`` may also take ``speed`` (1.0 is
    normal) or ``options`` (a dict with ``speed``).
    """

    async def synthesize(self, text: str, voice_id: Optional[str] = None) -> Union[bytes, SynthesisResult]:
        """Convert text to speech audio."""
        raise NotImplementedError("synthesize is not supported by this plugin")

    async def get_voices(self) -> List[Dict[str, Any]]:
        """The voices, the default one first: dicts with ``id``, ``name`` and ``language``. Empty means that any id will do."""
        return []

    async def get_voice_info(self, voice_id: str) -> Dict[str, Any]:
        """One voice, out of ``get_voices``."""
        raise NotImplementedError("get_voice_info is not supported by this plugin")

    def synthesize_stream(self, text: str, voice_id: Optional[str] = None) -> AsyncIterator[bytes]:
        """As ``synthesize``, in pieces as they are ready. Used in its place when a plugin has it."""
        raise NotImplementedError("synthesize_stream is not supported by this plugin")

    def _generate_audio(self, text: str, voice: str) -> bytes:
        """Stands in until the author writes it: a soft tone as long as the text would take. WAV, 24 kHz."""
        logging.getLogger(__name__).warning("%s has no _generate_audio of its own: a tone stands in for speech", type(self).__name__)
        return tone(seconds=max(0.2, 0.06 * len(text)))
