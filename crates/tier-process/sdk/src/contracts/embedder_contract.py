"""Embedders: texts to vectors."""

from __future__ import annotations

from abc import abstractmethod
from typing import List, Optional

from contracts.base import ReadyPlugin

__all__ = ["EmbedderContract"]


class EmbedderContract(ReadyPlugin):
    """Embeds."""

    name: Optional[str] = None
    #: Length of a vector.
    dimensions: int = 0

    @abstractmethod
    async def embed(self, texts: List[str]) -> List[List[float]]:
        """One vector per text, in order. They are brought to unit length."""
