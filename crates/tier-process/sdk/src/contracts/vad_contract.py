"""Voice activity detection: where in a stream of audio somebody speaks."""

from __future__ import annotations

from abc import abstractmethod
from array import array
from typing import Any, Dict, Iterable, Optional, Protocol

from contracts.base import ReadyPlugin

__all__ = ["Detector", "VADContract", "speech_end", "speech_start", "window"]


def window(at: int, probability: float, elapsed_us: int = 0) -> Dict[str, Any]:
    """One window that ends ``at`` (samples since the start) was looked at."""
    return {"type": "window", "at": at, "probability": probability, "elapsed_us": elapsed_us}


def speech_start(at: int, start: int) -> Dict[str, Any]:
    """Somebody began to speak at ``start``, as was decided ``at``."""
    return {"type": "speech_start", "at": at, "from": start}


def speech_end(at: int, end: int) -> Dict[str, Any]:
    """They stopped at ``end``, as was decided ``at``."""
    return {"type": "speech_end", "at": at, "to": end}


class Detector(Protocol):
    """One stream."""

    def push(self, samples: array[float]) -> Iterable[Dict[str, Any]]:
        """Looks at samples, mono in -1.0 to 1.0; what was found."""


class VADContract(ReadyPlugin):
    """Finds speech."""

    name: Optional[str] = None

    @abstractmethod
    def open(self, sample_rate: int) -> Detector:
        """A new stream with an empty state. ``push`` runs on a thread."""
