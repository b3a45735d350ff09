"""Channels: where people write to the agent and read its answers."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import AsyncIterator, Awaitable, Optional, Protocol, Sequence

from contracts.base import ReadyPlugin

__all__ = ["Attachment", "ChannelContract", "Inbox"]


@dataclass
class Attachment:
    """A file that goes with a message."""

    #: Media type, such as ``audio/ogg``.
    mime: str
    data: bytes
    #: Its name, without folders.
    name: Optional[str] = None
    #: Whether it was spoken to be heard: a voice note, and no piece of music.
    voice: bool = False


class Inbox(Protocol):
    """The host's intake."""

    def accept(
        self,
        chat: str,
        sender: str,
        id: str,
        text: str,
        sender_name: Optional[str] = None,
        attachments: Sequence[Attachment] = (),
    ) -> Awaitable[None]:
        """Hands a message over. When this returns, the message is durably taken and may be acknowledged at its source."""


class ChannelContract(ReadyPlugin):
    """Carries messages. ``edit``, ``typing`` and ``stream`` are offered when the plugin has them.

    ``send`` may also take ``reply_to``, the id of the message that is answered, and ``attachments``, a list of :class:`Attachment`:
    files are offered to a channel whose ``send`` takes them.
    """

    name: Optional[str] = None
    #: Whether a message that is sent again with the same ``idempotency_key`` arrives once.
    idempotent: bool = False

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
