"""One link to a host: who waits for what, and which call each message belongs to. Knows no contract and does no I/O of its own."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import sys
import threading
import traceback
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

from bespoke_sdk import life, serve
from bespoke_sdk.call import Call, enter
from bespoke_sdk.codec import to_json
from bespoke_sdk.errors import ErrorCodes, PluginError, described, error_of
from bespoke_sdk.host_client import HostClient
from bespoke_sdk.loader import Loaded, load
from bespoke_sdk.serve.base import Bulk, Served, Stream
from bespoke_sdk.specs import specs
from bespoke_sdk.stuck import Watch
from bespoke_sdk.wire import MAX_PAYLOAD, Message, TooLong, Writer

__all__ = ["OLDEST_PROTOCOL", "PROTOCOL", "Session"]

PROTOCOL = 1
OLDEST_PROTOCOL = 1
_DEEPEST_CALL = 8
_log = logging.getLogger("bespoke_sdk")


class _Running:
    """A call or stream under way. It is answered once, by whoever comes first."""

    def __init__(self, call: Call, streams: bool) -> None:
        self.call = call
        #: Whether it is a stream, or a call whose answer is one; and the stream, once it has begun.
        self.streams = streams
        self.stream: Optional[Stream] = None
        self.task: Optional[asyncio.Task[None]] = None
        self._lock = threading.Lock()
        self._answered = False

    def answer_once(self) -> bool:
        """True for the first who asks."""
        with self._lock:
            first, self._answered = not self._answered, True
        return first


class Session:
    """Serves one plugin."""

    def __init__(self, loop: asyncio.AbstractEventLoop, writer: Writer, folder: Path, leave: Callable[[str], None]) -> None:
        self._loop = loop
        self._writer = writer
        self._folder = folder
        self._loaded: Optional[Loaded] = None
        self._load_error: Optional[PluginError] = None
        self._served: Optional[Served] = None
        self._stopped = False
        self._host = HostClient(loop, writer)
        self._running: Dict[int, _Running] = {}
        self._watch = Watch(loop, folder.resolve(), self._calls, lambda vitals: self._tell("$/vitals", vitals), leave)
        #: The link has ended.
        self.over = False

    # From the reader's thread.

    def received(self, message: Message) -> None:
        """A message came. What must not wait for the plugin is done here."""
        head = message.head
        method, params = head.get("method"), head.get("params")
        params = params if isinstance(params, dict) else {}
        if method == "$/ping":
            self._tell("$/pong", {"id": params.get("id")})
            return
        if method == "$/cancel":
            self._answer_cancelled(params.get("id"), bool(params.get("abandoned")))
        if method == "stream/reset":
            # Noted before the loop hears of it, which the stream itself may hold.
            self._give_up(params.get("id"))
        opened = method == "stream/open"
        id = params.get("id") if opened else head.get("id")
        if isinstance(method, str) and method != "hello" and (opened or "id" in head):
            # Known from here on, so that a cancellation that comes right behind it finds it.
            self._admit(id, str(params.get("method")) if opened else method, params, message.blob, opened)
        else:
            self._loop.call_soon_threadsafe(self._take, message)

    def too_long(self, message: TooLong) -> None:
        """A message was longer than the limit; whoever waits for it is told."""
        text = f"a message of {message.length} bytes is longer than the {MAX_PAYLOAD} that this side takes"
        error = PluginError(ErrorCodes.RESOURCE_EXHAUSTED, text, help="send it in pieces")
        if message.id is None:
            _log.error("%s; it was skipped", text)
        elif message.is_answer:
            self._loop.call_soon_threadsafe(self._host.answered, message.id, None, b"", error)
        elif message.id in self._running:
            self._loop.call_soon_threadsafe(self._fail_input, message.id, error)
        else:
            self._send({"id": message.id, "error": error.to_wire()})

    def end(self) -> None:
        """The input has ended."""
        self._loop.call_soon_threadsafe(self._end)

    def _admit(self, id: Any, method: str, params: Dict[str, Any], blob: bytes, opened: bool) -> None:
        if isinstance(id, bool) or not isinstance(id, int):
            _log.warning("a message from the host has the id %r, which is no number", id)
            return
        if id in self._running:
            self._refuse(id, PluginError(ErrorCodes.INVALID_REQUEST, f"{id} is under way already"), opened)
            return
        cx = params.get("cx")
        args = params.get("args")
        # A method by its name is what the author knows it by.
        named = isinstance(args, dict) and method == "plugin.invoke"
        name = str(args.get("method")) if named else str(params.get("name") or "")
        call = Call(id, method, cx if isinstance(cx, dict) else {}, lambda value: self._progress(id, value), name)
        running = _Running(call, opened or method in serve.CHATS)
        self._running[id] = running
        self._loop.call_soon_threadsafe(self._begin, running, params, blob, opened)

    def _answer_cancelled(self, id: Any, abandoned: bool) -> None:
        running = self._give_up(id)
        if running is None:
            return
        # Answered before the plugin is asked, which may hold the loop, or a thread that cannot be stopped.
        if (abandoned or not running.streams) and running.answer_once() and not abandoned:
            if running.call.method == "channel.run":
                self._send({"id": id, "result": None})
            else:
                self._send({"id": id, "error": PluginError(ErrorCodes.CANCELLED, "cancelled by the caller").to_wire()})

    def _give_up(self, id: Any) -> Optional[_Running]:
        """Nobody waits for a call or stream any more."""
        running = self._running.get(id) if isinstance(id, int) else None
        if running is not None:
            running.call.cancel()
            self._watch.given_up()
        return running

    def _calls(self) -> List[Tuple[Call, Any]]:
        """What has not ended. From any thread."""
        return [(running.call, running.task) for running in list(self._running.values())]

    # On the loop.

    def load(self) -> None:
        """Imports the plugin. The host's hello is answered after that."""
        try:
            self._loaded = load(self._folder)
        except PluginError as e:
            if e.__cause__ is not None:
                traceback.print_exception(type(e.__cause__), e.__cause__, e.__cause__.__traceback__, file=sys.stderr)
            self._load_error = e
        except Exception as e:
            traceback.print_exc(file=sys.stderr)
            self._load_error = PluginError(ErrorCodes.LOAD_FAILED, f"loading failed: {type(e).__name__}: {e}")

    def _take(self, message: Message) -> None:
        head, blob = message.head, message.blob
        id, method, params = head.get("id"), head.get("method"), head.get("params")
        params = params if isinstance(params, dict) else {}
        if isinstance(id, bool) or not (id is None or isinstance(id, int)):
            _log.warning("a message from the host has the id %r, which is no number", id)
        elif method is None and id is not None:
            error = PluginError.from_wire(head["error"]) if "error" in head else None
            self._host.answered(id, head.get("result"), blob, error)
        elif method == "hello":
            self._hello(params)
        elif isinstance(method, str):
            self._notified(method, params, blob)
        else:
            _log.warning("a line from the host is neither a request nor an answer")

    def _notified(self, method: str, params: Dict[str, Any], blob: bytes) -> None:
        id = params.get("id")
        running = self._running.get(id) if isinstance(id, int) else None
        stream = running.stream if running else None
        if method == "stream/data" and stream:
            stream.data(blob)
        elif method == "stream/finish" and stream:
            stream.finish()
        elif method == "stream/reset" and running:
            self._drop(running)
        elif method == "stream/credit" and stream:
            stream.credit(int(params.get("amount", 0)))
        elif method == "$/cancel" and running:
            if params.get("abandoned"):
                self._drop(running)
            elif running.task:
                running.task.cancel()
        elif method == "stream/event" and isinstance(id, int):
            self._host.event(id, params.get("event"), blob)
        elif method == "stream/end" and isinstance(id, int):
            self._host.ended(id, PluginError.from_wire(params["error"]) if params.get("error") else None)
        elif method == "$/goodbye":
            self._end()
        # A newer host may say more than we understand.

    def _hello(self, params: Dict[str, Any]) -> None:
        try:
            protocol, oldest = int(params.get("protocol", 0)), int(params.get("oldest", 0))
            if min(protocol, PROTOCOL) < max(oldest, OLDEST_PROTOCOL):
                message = f"the host speaks protocol {oldest} to {protocol}, this plugin {OLDEST_PROTOCOL} to {PROTOCOL}"
                older = protocol < OLDEST_PROTOCOL
                raise PluginError(ErrorCodes.LOAD_FAILED, message, help=f"install a newer {'host' if older else 'bespoke_sdk'}")
            self._writer.raw = "blob" in (params.get("features") or [])
            if isinstance(params.get("max_payload"), int):
                self._writer.limit = params["max_payload"]
            if self._loaded is None:
                raise self._load_error or PluginError(ErrorCodes.LOAD_FAILED, "the plugin was not loaded")
            manifest = self._loaded.manifest
            hello = {
                "protocol": PROTOCOL,
                "oldest": OLDEST_PROTOCOL,
                "plugin": manifest.name,
                "version": manifest.version,
                "specs": specs(self._loaded),
                "features": ["blob"],
                "max_payload": MAX_PAYLOAD,
            }
            self._send({"id": 0, "result": hello})
            self._writer.greeted = True
        except Exception as e:
            self._send({"id": 0, "error": error_of(e).to_wire()})

    def _begin(self, running: _Running, params: Dict[str, Any], blob: bytes, opened: bool) -> None:
        context = contextvars.copy_context()
        context.run(enter, running.call)
        if running.streams:
            running.stream = Stream(running.call.id, self._tell)
        name, args = params.get("name") or "", params.get("args")
        work = self._stream(running, name, args, opened) if running.stream else self._call(running, name, args, blob)
        running.task = context.run(self._loop.create_task, work)
        # A task that is cancelled before its first step never gets to its own end.
        running.task.add_done_callback(lambda _: self._settle(running, opened))
        if running.call.cancelled:
            running.task.cancel()

    def _settle(self, running: _Running, opened: bool) -> None:
        self._running.pop(running.call.id, None)
        if running.answer_once():
            self._refuse(running.call.id, PluginError(ErrorCodes.CANCELLED, "cancelled by the caller"), opened)

    async def _call(self, running: _Running, name: str, args: Any, blob: bytes) -> None:
        call, error, bulk = running.call, None, Bulk(None)
        try:
            self._check_depth(call)
            result = await self._answer(call, name, args, blob)
            bulk = result if isinstance(result, Bulk) else Bulk(result)
        except BaseException as e:
            self._failed(call, e)
            error = error_of(e)
        self._running.pop(call.id, None)
        if not running.answer_once():
            return
        if error is None:
            try:
                self._writer.send({"id": call.id, "result": bulk.value}, bulk.blob)
                return
            except PluginError as e:
                error = e
        self._refuse(call.id, error, False)

    async def _stream(self, running: _Running, name: str, args: Any, opened: bool) -> None:
        call, stream = running.call, running.stream
        assert stream is not None
        error: Optional[PluginError] = None
        answered = opened
        try:
            self._check_depth(call)
            events = self._events(call, stream, name, args)
            try:
                async for event in events:
                    if not answered:
                        answered = True
                        self._writer.send({"id": call.id, "result": None})
                    await stream.send(event)
            finally:
                await events.aclose()
        except BaseException as e:
            self._failed(call, e)
            error = error_of(e)
        self._running.pop(call.id, None)
        if not running.answer_once():
            return
        if not answered and error is not None:
            self._refuse(call.id, error, False)
            return
        if not answered:
            self._send({"id": call.id, "result": None})
        self._tell("stream/end", {"id": call.id, **({"error": error.to_wire()} if error else {})})

    def _events(self, call: Call, stream: Stream, name: str, args: Any) -> AsyncGenerator[Any, None]:
        served = self._ready()
        kind = call.method.partition(".")[0]
        if call.method in serve.CHATS:
            served.check_name(kind, name)
            return serve.CHATS[call.method](served, name, args)
        if call.method in serve.STREAMS:
            served.check_name(kind, name)
            return serve.STREAMS[call.method](served, stream, name, args)
        raise PluginError(ErrorCodes.METHOD_NOT_FOUND, f"{call.method} is not supported")

    async def _answer(self, call: Call, name: str, args: Any, blob: bytes) -> Any:
        method = call.method
        if method == "plugin.start":
            return await self._start(args)
        if method in serve.CALLS:
            served = self._ready()
            served.check_name(method.partition(".")[0], name)
            return await serve.CALLS[method](served, call, name, args, blob)
        if not method.startswith("plugin."):
            raise PluginError(ErrorCodes.METHOD_NOT_FOUND, f"{method} is not supported")
        served = self._ready()
        plugin = served.plugin
        if method == "plugin.vitals":
            return self._watch.vitals(await life.vitals(plugin))
        if method == "plugin.invoke":
            return await life.invoke(plugin, str(args["method"]), args.get("args"))
        if method == "plugin.methods":
            return life.methods(plugin)
        if method == "plugin.reconfigure":
            return await life.reconfigure(served, args)
        if method == "plugin.capture_state":
            return await life.capture(plugin)
        if method == "plugin.restore_state":
            return await life.restore(plugin, args, blob)
        if method == "plugin.shutdown":
            if not self._stopped:
                self._stopped = True
                await life.shutdown(plugin)
            return None
        raise PluginError(ErrorCodes.METHOD_NOT_FOUND, f"{method} is not supported")

    async def _start(self, setup: Dict[str, Any]) -> Dict[str, Any]:
        if self._loaded is None:
            raise self._load_error or PluginError(ErrorCodes.LOAD_FAILED, "the plugin was not loaded")
        if self._served is not None:
            raise PluginError(ErrorCodes.ALREADY_LOADED, "this guest has been started before: one guest, one instance")
        try:
            plugin = self._loaded.plugin()
        except Exception as e:
            raise PluginError(ErrorCodes.INITIALIZE_FAILED, f"__init__ failed: {described(e)}") from e
        config = setup.get("config") or {}
        self._host.models = setup.get("models") or {}
        self._host.runtimes = setup.get("runtimes") or {}
        self._host.cpu_budget = int(setup.get("cpu_budget") or 1)
        plugin.host = self._host
        plugin.manifest = self._loaded.manifest.raw
        plugin.data_dir = Path(setup["data_dir"]) if setup.get("data_dir") else None
        await life.initialize(plugin, config)
        self._served = Served(self._loaded, plugin, config, self._host, self._tell)
        try:
            return self._watch.vitals(await life.vitals(plugin))
        except PluginError as e:
            _log.warning("%s", e.message)
            return life.UNKNOWN

    def _ready(self) -> Served:
        if self._served is None:
            raise PluginError(ErrorCodes.NOT_READY, "the plugin has not been started", retryable=True)
        return self._served

    def _check_depth(self, call: Call) -> None:
        if call.depth > _DEEPEST_CALL:
            message = f"a call at depth {call.depth}: is there a cycle of plugins?"
            raise PluginError(ErrorCodes.RESOURCE_EXHAUSTED, message)

    def _fail_input(self, id: int, error: PluginError) -> None:
        running = self._running.get(id)
        if running and running.stream:
            running.stream.fail(error)

    def _drop(self, running: _Running) -> None:
        """Nobody wants it any more: it ends, and says nothing."""
        running.answer_once()
        running.call.cancel()
        if running.task:
            running.task.cancel()

    def _failed(self, call: Call, exc: BaseException) -> None:
        """What the author wants to see of a failure goes to the log."""
        cause = exc.__cause__ if isinstance(exc, PluginError) else exc
        if cause is None or isinstance(cause, asyncio.CancelledError):
            return
        print(f"{call.method} failed:", file=sys.stderr)
        traceback.print_exception(type(cause), cause, cause.__traceback__, file=sys.stderr)

    def _end(self) -> None:
        if not self.over:
            self.over = True
            self._loop.create_task(self._wind_up())

    async def _wind_up(self) -> None:
        try:
            if self._served is not None and not self._stopped:
                self._stopped = True
                await life.shutdown(self._served.plugin)
        except Exception:
            traceback.print_exc(file=sys.stderr)
        finally:
            self._loop.stop()

    def _progress(self, id: int, value: Any) -> None:
        self._tell("$/progress", {"id": id, "value": to_json(value, "progress")})

    def _tell(self, method: str, params: Dict[str, Any], blob: bytes = b"") -> None:
        self._writer.send({"method": method, "params": params}, blob)

    def _refuse(self, id: int, error: PluginError, opened: bool) -> None:
        if opened:
            self._tell("stream/end", {"id": id, "error": error.to_wire()})
        else:
            self._send({"id": id, "error": error.to_wire()})

    def _send(self, head: Dict[str, Any]) -> None:
        """Sends an answer; one that cannot be sent becomes the error that says so."""
        try:
            self._writer.send(head)
        except PluginError as e:
            e.data = None
            self._writer.send({"id": head.get("id"), "error": e.to_wire()})
