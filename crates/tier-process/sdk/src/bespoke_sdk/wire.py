"""Lines of JSON-RPC with blobs behind them, read and written within limits. Knows no method."""

from __future__ import annotations

import base64
import binascii
import json
import os
import re
import threading
from typing import Any, BinaryIO, Dict, Iterator, Optional, Union

from bespoke_sdk.errors import ErrorCodes, PluginError

__all__ = [
    "EVENT_WINDOW",
    "INPUT_WINDOW",
    "MAX_PAYLOAD",
    "BadLine",
    "Message",
    "TooLong",
    "Writer",
    "encode",
    "lines",
    "read",
    "read_head",
]

#: The longest message, line and blob together and without their line ends, when nothing else was said.
MAX_PAYLOAD = 64 << 20
#: Bytes of input that a stream may have on its way.
INPUT_WINDOW = 4 << 20
#: Events that a stream may have on its way.
EVENT_WINDOW = 256

_PREFIX = 4096
_ID = re.compile(rb'"id"\s*:\s*(\d{1,10})\s*[,}]')


class Message:
    """One message: its JSON, and the blob that came with it."""

    __slots__ = ("blob", "head")

    def __init__(self, head: Dict[str, Any], blob: bytes = b"") -> None:
        self.head = head
        self.blob = blob


class BadLine:
    """A line that is no message."""

    __slots__ = ("why",)

    def __init__(self, why: str) -> None:
        self.why = why


class TooLong:
    """A message over the limit. It was skipped; its number is known when it stood at the beginning of the line."""

    __slots__ = ("id", "is_answer", "length")

    def __init__(self, length: int, prefix: bytes) -> None:
        found = _ID.search(prefix)
        self.length = length
        self.id = int(found.group(1)) if found else None
        self.is_answer = b'"method"' not in prefix


def lines(source: BinaryIO, limit: int = MAX_PAYLOAD) -> Iterator[Union[bytes, BadLine, TooLong]]:
    """Lines until the end of input, none longer than the limit; a longer one is skipped without being kept."""
    while True:
        line = source.readline(limit + 1)
        if not line:
            return
        if line.endswith(b"\n"):
            if line.strip():
                yield line
            continue
        if len(line) <= limit:
            yield BadLine("the input ended within a line")
            return
        length, prefix = len(line), line[:_PREFIX]
        while not line.endswith(b"\n"):
            line = source.readline(1 << 20)
            if not line:
                return
            length += len(line)
        yield TooLong(length, prefix)


def read(source: BinaryIO, limit: int = MAX_PAYLOAD) -> Iterator[Union[Message, BadLine, TooLong]]:
    """Messages until the end of input. Memory is bounded by ``limit``, whatever comes."""
    for line in lines(source, limit):
        if not isinstance(line, bytes):
            yield line
            continue
        head = read_head(line)
        if isinstance(head, BadLine):
            yield head
            continue
        count = head.pop("blob", 0)
        if isinstance(count, bool) or not isinstance(count, int) or count < 0:
            yield BadLine("`blob` is no count of bytes")
            continue
        if len(line) - 1 + count > limit:
            left = count + 1
            while left:
                skipped = len(source.read(min(left, 1 << 20)))
                if not skipped:
                    return
                left -= skipped
            yield TooLong(len(line) + count, line[:_PREFIX])
            continue
        blob = b""
        if count:
            behind = source.read(count + 1)
            if len(behind) <= count:
                return
            blob = behind[:count]
        try:
            yield Message(head, blob or _blob64(head))
        except ValueError as e:
            yield BadLine(f"`blob64`: {e}")


def read_head(line: bytes) -> Union[Dict[str, Any], BadLine]:
    """The JSON object of a line."""
    try:
        head = json.loads(line)
    except (ValueError, RecursionError) as e:
        return BadLine(f"not JSON: {e}")
    return head if isinstance(head, dict) else BadLine("not a JSON object")


def encode(head: Dict[str, Any], blob: bytes, raw: bool, limit: int) -> bytes:
    """A message as it travels.

    Raises ``RESOURCE_EXHAUSTED`` when it is longer than the peer takes.
    """
    if blob and raw:
        head = {**head, "blob": len(blob)}
    elif blob:
        head = {**head, "blob64": base64.b64encode(blob).decode("ascii")}
    try:
        text = json.dumps(head, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode("utf-8", "replace")
    except ValueError as e:
        raise PluginError(ErrorCodes.PLUGIN_EXCEPTION, f"the message cannot be written as JSON: {e}") from None
    behind = blob if raw else b""
    if len(text) + len(behind) > limit:
        message = f"a message of {len(text) + len(behind)} bytes is longer than the {limit} that the peer takes"
        raise PluginError(ErrorCodes.RESOURCE_EXHAUSTED, message, help="send it in pieces")
    return b"".join((text, b"\n", behind, b"\n")) if behind else text + b"\n"


class Writer:
    """Writes whole messages to a descriptor, from any thread."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._lock = threading.Lock()
        #: Whether the peer takes raw blobs, and the longest message that it takes: known after its hello.
        self.raw = False
        self.limit = MAX_PAYLOAD
        #: The hello was answered: before that, nothing else is said.
        self.greeted = False

    def send(self, head: Dict[str, Any], blob: bytes = b"") -> None:
        """Sends a message. A peer that is gone is passed over: whoever reads from it notices.

        Raises as :func:`encode`.
        """
        view = memoryview(encode({"jsonrpc": "2.0", **head}, blob, self.raw, self.limit))
        with self._lock:
            while view:
                try:
                    view = view[os.write(self._fd, view) :]
                except OSError:
                    return


def _blob64(head: Dict[str, Any]) -> bytes:
    text: Optional[Any] = head.pop("blob64", None)
    if text is None:
        return b""
    if not isinstance(text, str):
        raise ValueError("not a text")
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as e:
        raise ValueError(str(e)) from None
