"""What the adapters of all contracts share. No contract is named here."""

from __future__ import annotations

import asyncio
import struct
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Callable, Deque, Dict, List, Optional, Tuple

from bespoke_sdk.call import Call
from bespoke_sdk.errors import ErrorCodes, PluginError
from bespoke_sdk.host_client import HostClient
from bespoke_sdk.loader import Loaded
from bespoke_sdk.specs import specs
from bespoke_sdk.wire import EVENT_WINDOW, INPUT_WINDOW

__all__ = ["Bulk", "Served", "Stream", "packed", "text_of", "unpacked"]


@dataclass
class Bulk:
    """A value whose bulk travels beside it: the JSON has it empty."""

    value: Any
    blob: bytes = b""


class Served:
    """A plugin that was started."""

    def __init__(self, loaded: Loaded, plugin: Any, config: Dict[str, Any], host: HostClient, tell: Callable[..., None]) -> None:
        self.loaded = loaded
        self.plugin = plugin
        self.config = config
        self.host = host
        #: Sends a notification.
        self.tell = tell
        self._names = {(spec["kind"], spec["spec"]["name"]) for spec in specs(loaded)}

    def check_name(self, kind: str, name: str) -> None:
        """Raises ``PLUGIN_NOT_FOUND`` for a contribution that is none of this plugin's."""
        if (kind, name) not in self._names:
            raise PluginError(ErrorCodes.PLUGIN_NOT_FOUND, f"{self.loaded.manifest.name} has no {kind} named `{name}`")


class Stream:
    """One stream: input under credit, events under credit."""

    def __init__(self, id: int, tell: Callable[..., None]) -> None:
        self.id = id
        self._tell = tell
        self._queue: Deque[bytes] = deque()
        self._queued = 0
        self._taken = 0
        self._finished = False
        self._failed: Optional[PluginError] = None
        self._arrived = asyncio.Event()
        self._credit = EVENT_WINDOW
        self._credited = asyncio.Event()

    def data(self, piece: bytes) -> None:
        """Input came."""
        if self._finished:
            self.fail(PluginError(ErrorCodes.INVALID_PARAMS, "input after the end of input"))
        elif self._queued > INPUT_WINDOW:
            self.fail(PluginError(ErrorCodes.RESOURCE_EXHAUSTED, "the host sent more input than it had credit for"))
        else:
            self._queue.append(piece)
            self._queued += len(piece)
            self._arrived.set()

    def finish(self) -> None:
        """No more input comes."""
        self._finished = True
        self._arrived.set()

    def fail(self, error: PluginError) -> None:
        """The input is broken; what is queued is still read."""
        self._failed = self._failed or error
        self._arrived.set()

    def credit(self, amount: int) -> None:
        """The host has room for more events."""
        self._credit += amount
        self._credited.set()

    async def input(self) -> AsyncIterator[bytes]:
        """The input, piece by piece, until it is finished."""
        while True:
            while self._queue:
                piece = self._queue.popleft()
                self._queued -= len(piece)
                self._taken += len(piece)
                if self._taken >= INPUT_WINDOW // 4:
                    self._tell("stream/credit", {"id": self.id, "amount": self._taken})
                    self._taken = 0
                yield piece
            if self._failed is not None:
                raise self._failed
            if self._finished:
                return
            self._arrived.clear()
            await self._arrived.wait()

    async def send(self, event: Any) -> None:
        """Sends an event, as soon as the host has room."""
        while self._credit <= 0:
            self._credited.clear()
            await self._credited.wait()
        self._credit -= 1
        bulk = event if isinstance(event, Bulk) else Bulk(event)
        self._tell("stream/event", {"id": self.id, "event": bulk.value}, bulk.blob)


#: An adapter of a call gets this.
Handler = Callable[[Served, Call, str, Any, bytes], Any]


def packed(parts: List[bytes]) -> bytes:
    """Several blobs as one: the length of each as u32, and its bytes."""
    return b"".join(struct.pack("<I", len(part)) + part for part in parts)


def unpacked(blob: bytes) -> List[bytes]:
    """The same back."""
    out, at = [], 0
    while at + 4 <= len(blob):
        (length,) = struct.unpack_from("<I", blob, at)
        out.append(blob[at + 4 : at + 4 + length])
        at += 4 + length
    return out


def text_of(value: Any, keys: Tuple[str, ...] = ("text", "content")) -> Optional[str]:
    """The text in what a method returned: a text itself, or a dict or object with one."""
    if isinstance(value, str):
        return value
    for key in keys:
        inner = value.get(key) if isinstance(value, dict) else getattr(value, key, None)
        if isinstance(inner, str):
            return inner
    return None
