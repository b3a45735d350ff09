"""``self.host`` of a plugin: what the host does for it. Each call is a message with an answer; nothing is done in this process."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Coroutine, Iterable
from pathlib import Path
from typing import Any, Deque, Dict, List, Optional, Protocol, Tuple, TypeVar, Union

from bespoke_sdk.call import current_call
from bespoke_sdk.codec import to_json
from bespoke_sdk.errors import ErrorCodes, PluginError

__all__ = ["HostClient", "HttpReply"]

T = TypeVar("T")
_BODY_WINDOW = 16
_EVENT_WINDOW = 256


class _Sender(Protocol):
    limit: int

    def send(self, head: Dict[str, Any], blob: bytes = b"") -> None: ...


class HttpReply:
    """What a server answered: its head, and its body as it comes. Redirects are not followed."""

    def __init__(self, status: int, headers: List[Tuple[str, str]], body: AsyncIterator[bytes]) -> None:
        self.status = status
        #: Names in lower case, in order, repeated where the server repeated them.
        self.headers = headers
        self.body = body

    def header(self, name: str) -> Optional[str]:
        """The first header of a name."""
        return next((value for key, value in self.headers if key == name.lower()), None)

    async def read(self, limit: int = 16 << 20) -> bytes:
        """The rest of the body. Raises ``RESOURCE_EXHAUSTED`` when it is longer than ``limit`` bytes."""
        out = bytearray()
        async for piece in self.body:
            if len(out) + len(piece) > limit:
                raise PluginError(ErrorCodes.RESOURCE_EXHAUSTED, f"the answer is longer than {limit} bytes")
            out += piece
        return bytes(out)


class HostClient:
    """The host, as a plugin sees it. From a sync method, ``self.host.wait(self.host.secret("KEY"))`` waits for an answer."""

    def __init__(self, loop: asyncio.AbstractEventLoop, writer: _Sender) -> None:
        self._loop = loop
        self._writer = writer
        self._next = 0
        self._waiting: Dict[int, _Waiting] = {}
        #: The model files of the manifest, by name: a path or the error.
        self.models: Dict[str, Any] = {}
        #: The native runtimes of the manifest, by name: where they lie or the error.
        self.runtimes: Dict[str, Any] = {}
        #: Threads that one request may use.
        self.cpu_budget = 1

    def wait(self, call: Coroutine[Any, Any, T]) -> T:
        """The answer to a call of this class, for sync methods. Never in async ones: they ``await`` it."""
        return asyncio.run_coroutine_threadsafe(call, self._loop).result()

    def log(self, level: str, line: str) -> None:
        """Writes a line to the host's log: ``debug``, ``info``, ``warn`` or ``error``. The ``logging`` module does the same."""
        self._writer.send({"method": "$/log", "params": {"level": level, "line": line}})

    def progress(self, value: Any) -> None:
        """Tells the caller of the running call how far the work is."""
        call = current_call()
        if call is not None:
            call.progress(value)

    def now(self) -> int:
        """The time, in microseconds since 1970."""
        return time.time_ns() // 1000

    async def sleep(self, seconds: float) -> None:
        """Waits, on the host's clock."""
        await self._request("host.sleep", {"us": max(0, int(seconds * 1_000_000))})

    async def call(self, kind: str, name: str, args: Any) -> Any:
        """Calls a contribution of another plugin, such as ``("tool", "clock", {})``. Needs the permission."""
        call = current_call()
        under = {"call": call.id} if call is not None else {}
        body = {**under, "target": {"kind": kind, "name": name}, "args": to_json(args, "args")}
        return (await self._request("host.call", body))[0]

    async def emit(self, topic: str, payload: Any) -> None:
        """Tells everybody who subscribed. ``topic`` is put under the plugin's id."""
        await self._request("host.emit", {"topic": topic, "payload": to_json(payload, "payload")})

    async def subscribe(self, prefix: str) -> AsyncIterator[Dict[str, Any]]:
        """Events whose topic begins with ``prefix``, from now on. A plugin does not hear its own."""
        waiting = self._begin("host.subscribe", prefix, b"", _EVENT_WINDOW)
        try:
            await waiting.take()
            async for event, _ in self._items(waiting):
                yield event
        finally:
            self._end(waiting)

    async def secret(self, name: str) -> str:
        """A secret by the name that the manifest declares. The error's data is ``{"unset": name}`` when the user has set none."""
        return (await self._request("host.secret", name))[0]

    async def load(self, key: str) -> Optional[bytes]:
        """A value that the plugin stored."""
        value, blob = await self._request("host.load", key)
        return None if value is None else blob or bytes(value)

    async def store(self, key: str, value: Optional[bytes]) -> None:
        """Stores a value durably; ``None`` removes it."""
        await self._request("host.store", {"key": key, "value": None if value is None else []}, value or b"")

    async def http(
        self,
        method: str,
        url: str,
        headers: Union[Dict[str, str], Iterable[Tuple[str, str]]] = (),
        body: bytes = b"",
        timeout: Optional[float] = None,
    ) -> HttpReply:
        """Makes an HTTP request through the host, which checks where it goes. ``timeout`` is until the head is there."""
        pairs = headers.items() if isinstance(headers, dict) else headers
        request: Dict[str, Any] = {"method": method, "url": url, "headers": [[n.lower(), v] for n, v in pairs], "body": []}
        if timeout is not None:
            request["timeout_ms"] = int(timeout * 1000)
        waiting = self._begin("host.http", request, body, _BODY_WINDOW)
        try:
            head, _ = await waiting.take()
        except BaseException:
            self._end(waiting)
            raise
        return HttpReply(head["status"], [(n, v) for n, v in head["headers"]], self._body(waiting))

    def model(self, file: str) -> Path:
        """Where a model file of the manifest lies, verified. Raises ``MODEL_NOT_FOUND``, with the command that fetches it."""
        found = self.models.get(file, {})
        if "found" in found:
            return Path(found["found"])
        if "error" in found:
            raise PluginError.from_wire(found["error"])
        raise PluginError(ErrorCodes.MODEL_NOT_FOUND, f"{file} is no model file of this plugin's manifest")

    def runtime(self, spec: str) -> Dict[str, Any]:
        """The libraries of a native runtime of the manifest: ``library``, ``preload``, ``folder``, ``version``, ``origin``.

        Raises ``DEPENDENCY_MISSING``, with the command that installs them.
        """
        found = self.runtimes.get(spec, {})
        if "found" in found:
            return dict(found["found"])
        if "error" in found:
            raise PluginError.from_wire(found["error"])
        raise PluginError(ErrorCodes.DEPENDENCY_MISSING, f"{spec} is no runtime of this plugin's manifest")

    async def publish(self, specs: List[Dict[str, Any]]) -> None:
        """Replaces the dynamic contributions, of kinds that the manifest marks so."""
        await self._request("host.publish", {"specs": specs})

    async def report_health(self, status: str, reason: str = "") -> None:
        """Says how the plugin does, without being asked: ``ok``, ``degraded`` or ``failed``."""
        await self._request("host.report_health", {"status": status, **({"reason": reason} if reason else {})})

    async def accept(self, call: int, message: Dict[str, Any], blob: bytes = b"") -> None:
        """Hands a message to the inbox of a running channel; the blob holds the bytes of its files."""
        await self._request("inbox.accept", {"call": call, "message": message}, blob)

    def answered(self, id: int, value: Any, blob: bytes, error: Optional[PluginError]) -> None:
        """An answer came. On the loop."""
        self._put(id, ("error", error, b"") if error else ("answer", value, blob))

    def event(self, id: int, value: Any, blob: bytes) -> None:
        """An item of a streamed answer came."""
        self._put(id, ("item", value, blob))

    def ended(self, id: int, error: Optional[PluginError]) -> None:
        """A streamed answer ended."""
        self._put(id, ("error", error, b"") if error else ("end", None, b""))

    async def _request(self, method: str, args: Any, blob: bytes = b"") -> Tuple[Any, bytes]:
        waiting = self._begin(method, args, blob, 0)
        try:
            answer = await waiting.take()
            waiting.over = True
            return answer
        finally:
            self._end(waiting)

    def _begin(self, method: str, args: Any, blob: bytes, window: int) -> _Waiting:
        self._next = self._next % 0xFFFFFFFF + 1
        waiting = _Waiting(self._next, window)
        self._waiting[waiting.id] = waiting
        try:
            self._writer.send({"id": waiting.id, "method": method, "params": {"args": args}}, blob)
        except PluginError:
            del self._waiting[waiting.id]
            raise
        return waiting

    def _end(self, waiting: _Waiting) -> None:
        if self._waiting.pop(waiting.id, None) is not None and not waiting.over:
            self._writer.send({"method": "$/cancel", "params": {"id": waiting.id, "abandoned": True}})

    async def _items(self, waiting: _Waiting) -> AsyncIterator[Tuple[Any, bytes]]:
        taken = 0
        while True:
            kind, value, blob = await waiting.next()
            if kind == "end":
                waiting.over = True
                return
            taken += 1
            if taken >= waiting.window // 2:
                self._writer.send({"method": "stream/credit", "params": {"id": waiting.id, "amount": taken, "host_call": True}})
                taken = 0
            yield value, blob

    async def _body(self, waiting: _Waiting) -> AsyncIterator[bytes]:
        try:
            async for value, blob in self._items(waiting):
                yield blob or bytes(value or [])
        finally:
            self._end(waiting)

    def _put(self, id: int, item: Tuple[str, Any, bytes]) -> None:
        waiting = self._waiting.get(id)
        if waiting is not None:
            waiting.put(item)


class _Waiting:
    """A call of the host under way."""

    def __init__(self, id: int, window: int) -> None:
        self.id = id
        self.window = window
        #: The host has said its last word.
        self.over = False
        self._items: Deque[Tuple[str, Any, bytes]] = deque()
        self._arrived = asyncio.Event()

    def put(self, item: Tuple[str, Any, bytes]) -> None:
        if len(self._items) > self.window + 1:
            item = ("error", PluginError(ErrorCodes.RESOURCE_EXHAUSTED, "the host sent more than it had credit for"), b"")
        self._items.append(item)
        self._arrived.set()

    async def next(self) -> Tuple[str, Any, bytes]:
        while not self._items:
            self._arrived.clear()
            await self._arrived.wait()
        item = self._items.popleft()
        if item[0] == "error":
            self.over = True
            raise item[1]
        return item

    async def take(self) -> Tuple[Any, bytes]:
        """The answer itself."""
        kind, value, blob = await self.next()
        if kind != "answer":
            raise PluginError(ErrorCodes.INVALID_REQUEST, f"{kind} comes before the answer")
        return value, blob
