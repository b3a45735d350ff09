"""Channels: where people write to the agent and read its answers."""

from __future__ import annotations

from abc import abstractmethod
from typing import AsyncIterator, Awaitable, Optional, Protocol

from contracts.base import ReadyPlugin

__all__ = ["ChannelContract", "Inbox"]


class Inbox(Protocol):
    """The host's intake."""

    def accept(self, chat: str, sender: str, id: str, text: str) -> Awaitable[None]:
        """Hands a message over. When this returns, the message is durably taken and may be acknowledged at its source."""


class ChannelContract(ReadyPlugin):
    """Carries messages. ``edit``, ``typing`` and ``stream`` are offered when the plugin has them."""

    name: Optional[str] = None

    @abstractmethod
    async def run(self, inbox: Inbox) -> None:
        """Listens until it is cancelled or the source ends."""

    @abstractmethod
    async def send(self, chat: str, text: str, idempotency_key: Optional[str] = None) -> str:
        """Sends a message; its id in the chat."""

    async def edit(self, chat: str, id: str, text: str) -> None:
        """Replaces a message that was sent."""
        raise NotImplementedError("edit is not supported by this plugin")

    async def typing(self, chat: str) -> None:
        """Shows that an answer is being written."""
        raise NotImplementedError("typing is not supported by this plugin")

    async def stream(self, chat: str, pieces: AsyncIterator[str]) -> str:
        """Sends a message piece by piece as it is written; its id in the chat."""
        raise NotImplementedError("stream is not supported by this plugin")
