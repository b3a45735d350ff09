"""One guest process, seen from the host. Knows the wire and the process, not what plugins are for."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
from pathlib import Path
from typing import Any, Dict, Optional

from bespoke_sdk.errors import ErrorCodes, PluginError
from bespoke_sdk.wire import MAX_PAYLOAD, encode

__all__ = ["Child"]

_START_SECONDS = 120.0
_END_SECONDS = 5.0
_LOG_LINE = 1 << 16
_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warn": logging.WARNING, "error": logging.ERROR}


class Child:
    """A guest that was started and answered its hello."""

    def __init__(self, name: str, process: asyncio.subprocess.Process) -> None:
        self._name = name
        self._process = process
        self._log = logging.getLogger(f"plugins.{name}")
        self._next = 0
        self._waiting: Dict[int, asyncio.Future[Any]] = {}
        self._readers = [asyncio.ensure_future(self._read()), asyncio.ensure_future(self._read_log())]
        #: Whether it still runs.
        self.alive = True

    @classmethod
    async def start(cls, name: str, folder: Path, python: str, config: Dict[str, Any], log_level: str) -> Child:
        """Starts a guest and its plugin.

        Raises what the plugin says, or ``LOAD_FAILED`` when it says nothing in time.
        """
        root = str(Path(__file__).resolve().parent.parent.parent)
        paths = [root, *(p for p in os.environ.get("PYTHONPATH", "").split(os.pathsep) if p)]
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(dict.fromkeys(paths)), "PYTHONUNBUFFERED": "1"}
        process = await asyncio.create_subprocess_exec(
            *(python, "-m", "bespoke_sdk.guest", "--plugin-dir", str(folder), "--log-level", log_level),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=env,
            limit=MAX_PAYLOAD + 1024,
        )
        child = cls(name, process)
        hello = {"protocol": 1, "oldest": 1, "host": "plugins._host", "features": [], "max_payload": MAX_PAYLOAD}
        try:
            await child._request(0, "hello", hello, _START_SECONDS, ErrorCodes.LOAD_FAILED)
            setup = {"args": {"config": config, "cpu_budget": 1}}
            await child._request(child._number(), "plugin.start", setup, _START_SECONDS, ErrorCodes.INITIALIZE_FAILED)
        except BaseException:
            await child.end()
            raise
        return child

    async def call(self, method: str, args: Any, seconds: float, late: int = ErrorCodes.EXECUTION_TIMEOUT) -> Any:
        """A method of the wire.

        Raises what the plugin says; ``late`` when it says nothing in time, however it is busy; ``PLUGIN_CRASHED``.
        """
        return (await self._request(self._number(), method, {"args": args}, seconds, late)).get("result")

    async def capture(self, seconds: float) -> Optional[Dict[str, Any]]:
        """The plugin's state, as :meth:`restore` takes it; ``None`` when it has none."""
        head = await self._request(self._number(), "plugin.capture_state", {"args": {}}, seconds, ErrorCodes.EXECUTION_TIMEOUT)
        return None if head.get("result") is None else {"state": head["result"], "blob64": head.get("blob64", "")}

    async def restore(self, captured: Dict[str, Any], seconds: float) -> None:
        """Gives a captured state to the plugin."""
        params, late = {"args": captured["state"]}, ErrorCodes.EXECUTION_TIMEOUT
        await self._request(self._number(), "plugin.restore_state", params, seconds, late, blob64=captured["blob64"])

    async def end(self) -> None:
        """Ends the guest: by the end of its input, and if that does not do, by force."""
        if self._process.stdin and not self._process.stdin.is_closing():
            self._process.stdin.close()
        try:
            await asyncio.wait_for(self._process.wait(), _END_SECONDS)
        except asyncio.TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()
        await asyncio.gather(*self._readers, return_exceptions=True)

    def _number(self) -> int:
        self._next = self._next % 0xFFFFFFFF + 1
        return self._next

    async def _request(self, id: int, method: str, params: Any, seconds: float, late: int, **more: Any) -> Dict[str, Any]:
        if not self.alive:
            raise self._crashed()
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting[id] = answer
        try:
            await self._send({"id": id, "method": method, "params": params, **more})
            return await asyncio.wait_for(answer, seconds)
        except asyncio.TimeoutError:
            await self._send({"method": "$/cancel", "params": {"id": id, "abandoned": True}})
            raise PluginError(late, f"{self._name} did not answer {method} within {seconds:g} s", retryable=True) from None
        except asyncio.CancelledError:
            await self._send({"method": "$/cancel", "params": {"id": id, "abandoned": True}})
            raise
        finally:
            self._waiting.pop(id, None)

    async def _send(self, head: Dict[str, Any]) -> None:
        line = encode({"jsonrpc": "2.0", **head}, b"", False, MAX_PAYLOAD)
        stdin = self._process.stdin
        # That it has gone is noticed where its answers are read.
        with contextlib.suppress(ConnectionError, RuntimeError):
            if stdin and not stdin.is_closing():
                stdin.write(line)
                await stdin.drain()

    async def _read(self) -> None:
        assert self._process.stdout
        try:
            while True:
                line = await self._process.stdout.readuntil(b"\n")
                try:
                    head = json.loads(line)
                except ValueError:
                    head = None
                if isinstance(head, dict):
                    await self._take(head)
                else:
                    self._log.warning("wrote a line that is no message: %.200r", line)
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError):
            pass
        finally:
            self.alive = False
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._process.wait(), _END_SECONDS)
            for answer in self._waiting.values():
                if not answer.done():
                    answer.set_exception(self._crashed())

    async def _take(self, head: Dict[str, Any]) -> None:
        method, id = head.get("method"), head.get("id")
        if method is None:
            answer = self._waiting.get(id)  # type: ignore[arg-type]
            if answer is not None and not answer.done():
                if "error" in head:
                    answer.set_exception(PluginError.from_wire(head["error"]))
                else:
                    answer.set_result(head)
        elif method == "$/log":
            params = head.get("params", {})
            self._log.log(_LEVELS.get(params.get("level"), logging.INFO), "%s", params.get("line"))
        elif id is not None and method == "host.sleep":
            seconds = head["params"]["args"]["us"] / 1_000_000
            asyncio.get_running_loop().call_later(seconds, lambda: asyncio.ensure_future(self._send({"id": id, "result": None})))
        elif id is not None:
            error = PluginError(ErrorCodes.METHOD_NOT_FOUND, f"this host has no {method}: run the plugin with bespoke")
            await self._send({"id": id, "error": error.to_wire()})

    async def _read_log(self) -> None:
        assert self._process.stderr
        rest = b""
        while True:
            some = await self._process.stderr.read(_LOG_LINE)
            *whole, rest = (rest + some).split(b"\n")
            if not some or len(rest) > _LOG_LINE:
                whole, rest = [*whole, rest], b""
            for line in whole:
                if line:
                    self._log.info("%s", line.decode("utf-8", "replace"))
            if not some:
                return

    def _crashed(self) -> PluginError:
        code = self._process.returncode
        how = "" if code is None else f" (signal {-code})" if code < 0 else f" (exit code {code})"
        return PluginError(ErrorCodes.PLUGIN_CRASHED, f"{self._name} has ended{how}", retryable=True, plugin=self._name)
