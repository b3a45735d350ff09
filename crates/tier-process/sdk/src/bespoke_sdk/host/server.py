"""JSON-RPC 2.0 for the plugins of a host: requests, notifications, batches. Reads and writes through what it is given."""

from __future__ import annotations

import asyncio
import datetime
import json
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Dict, List, Optional, Union

from bespoke_sdk import __version__
from bespoke_sdk.errors import ErrorCodes, PluginError, code_name, error_of
from bespoke_sdk.host.plugins import CALL_SECONDS, Plugins
from bespoke_sdk.manifest import CONTRACTS
from bespoke_sdk.wire import MAX_PAYLOAD, BadLine, TooLong

__all__ = ["Server"]

_log = logging.getLogger("launcher")


class Server:
    """Answers lines."""

    def __init__(self, plugins: Plugins, write: Callable[[bytes], None], stop: Callable[[], None]) -> None:
        self._plugins = plugins
        self._write = write
        self._stop = stop
        self._requests = 0
        self._errors = 0
        self._last: Optional[Dict[str, str]] = None
        self._running: Dict[Any, asyncio.Task[Any]] = {}
        self._methods: Dict[str, Callable[[Any], Awaitable[Any]]] = {
            "ping": self._ping,
            "status": self._status,
            "shutdown": self._shutdown,
            "plugin/list": self._list,
            "plugin/load": self._load,
            "plugin/unload": self._unload,
            "plugin/swap": self._swap,
            "plugin/health": self._health,
            "plugin/get_config_schema": self._config_schema,
            "plugin/call": self._call,
        }

    async def line(self, line: Union[bytes, BadLine, TooLong]) -> None:
        """Answers one line: a request, a notification, or a batch of them."""
        if isinstance(line, TooLong):
            message = f"a line of {line.length} bytes is longer than {MAX_PAYLOAD}"
            self._say(self._error(line.id, PluginError(ErrorCodes.RESOURCE_EXHAUSTED, message)))
            return
        try:
            if isinstance(line, BadLine):
                raise ValueError(line.why)
            asked = json.loads(line)
        except (ValueError, RecursionError) as e:
            self._say(self._error(None, PluginError(ErrorCodes.PARSE_ERROR, f"not JSON: {e}")))
            return
        if isinstance(asked, list) and asked:
            answers = await asyncio.gather(*(self._request(one) for one in asked))
            answers = [a for a in answers if a is not None]
            if answers:
                self._say(answers)
            return
        answer = await self._request(asked)
        if answer is not None:
            self._say(answer)

    async def _request(self, asked: Any) -> Optional[Dict[str, Any]]:
        id = asked.get("id") if isinstance(asked, dict) else None
        try:
            method, params = self._read(asked)
        except PluginError as e:
            return self._error(id if isinstance(id, (str, int)) else None, e)
        if method == "$/cancel":
            task = self._running.get((params or {}).get("id"))
            if task is not None:
                task.cancel()
            return None
        now = datetime.datetime.now(datetime.timezone.utc).isoformat()
        self._requests += 1
        self._last = {"method": method, "timestamp": now}
        task = asyncio.ensure_future(self._dispatch(method, params))
        if "id" in asked:
            self._running[id] = task
        try:
            result = await task
        except asyncio.CancelledError:
            return self._error(id, PluginError(ErrorCodes.CANCELLED, "cancelled by the caller")) if "id" in asked else None
        except Exception as e:
            if not isinstance(e, PluginError):
                _log.exception("%s failed", method)
                e = PluginError(ErrorCodes.INTERNAL_ERROR, f"{type(e).__name__}: {e}")
            if "id" in asked:
                return self._error(id, e)
            _log.error("%s, which nobody waits for, failed: %s", method, e)
            return None
        finally:
            self._running.pop(id, None)
        return {"jsonrpc": "2.0", "id": id, "result": result} if "id" in asked else None

    def _read(self, asked: Any) -> tuple:
        if not isinstance(asked, dict):
            raise PluginError(ErrorCodes.INVALID_REQUEST, "a request is a JSON object")
        id, method, params = asked.get("id"), asked.get("method"), asked.get("params")
        if asked.get("jsonrpc") != "2.0":
            raise PluginError(ErrorCodes.INVALID_REQUEST, '`jsonrpc` is not "2.0"')
        if isinstance(id, bool) or not (id is None or isinstance(id, (str, int, float))):
            raise PluginError(ErrorCodes.INVALID_REQUEST, "`id` is neither a text nor a number")
        if not isinstance(method, str):
            raise PluginError(ErrorCodes.INVALID_REQUEST, "`method` is no text")
        if params is not None and not isinstance(params, (dict, list)):
            raise PluginError(ErrorCodes.INVALID_REQUEST, "`params` is neither an object nor a list")
        return method, params

    async def _dispatch(self, method: str, params: Any) -> Any:
        known = self._methods.get(method)
        if known is not None:
            if isinstance(params, list):
                raise PluginError(ErrorCodes.INVALID_PARAMS, f"{method} takes its params by name")
            return await known(params or {})
        contract, slash, name = method.partition("/")
        if slash and contract in CONTRACTS and name and "/" not in name:
            if isinstance(params, dict) and isinstance(params.get("plugin"), str):
                args = {k: v for k, v in params.items() if k != "plugin"}
                return await self._plugins.call(params["plugin"], name, args)
            return await self._plugins.call_contract(contract, name, params)
        message = f"there is no method `{method}`"
        raise PluginError(ErrorCodes.METHOD_NOT_FOUND, message, help=f"methods: {', '.join(self._methods)}, <contract>/<method>")

    async def _ping(self, params: Any) -> str:
        return "pong"

    async def _status(self, params: Any) -> Dict[str, Any]:
        return {
            "version": __version__,
            "request_count": self._requests,
            "error_count": self._errors,
            "last_request": self._last,
            "registered_methods": sorted(self._methods),
            "loaded": self._plugins.loaded,
        }

    async def _shutdown(self, params: Any) -> Dict[str, Any]:
        self._stop()
        now = datetime.datetime.now(datetime.timezone.utc).isoformat()
        return {"status": "shutting_down", "reason": params.get("reason", "requested"), "timestamp": now}

    async def _list(self, params: Any) -> List[Dict[str, Any]]:
        return self._plugins.list()

    async def _load(self, params: Any) -> Dict[str, Any]:
        return await self._plugins.load(_needed(params, "name"), params.get("config"))

    async def _unload(self, params: Any) -> Dict[str, Any]:
        return await self._plugins.unload(_needed(params, "name"))

    async def _swap(self, params: Any) -> Dict[str, Any]:
        return await self._plugins.swap(_needed(params, "old"), _needed(params, "new"), params.get("config"))

    async def _health(self, params: Any) -> Dict[str, Any]:
        name = params.get("name")
        return await (self._plugins.health_of_all() if name is None else self._plugins.health(name))

    async def _config_schema(self, params: Any) -> Dict[str, Any]:
        manifest = self._plugins.manifest(params.get("plugin_id") or _needed(params, "name"))
        return {"plugin_id": manifest.name, "config_schema": manifest.config_schema}

    async def _call(self, params: Any) -> Any:
        seconds = params.get("timeout", CALL_SECONDS)
        if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not seconds > 0:
            raise PluginError(ErrorCodes.INVALID_PARAMS, "`timeout` is no number of seconds")
        return await self._plugins.call(_needed(params, "plugin"), _needed(params, "method"), params.get("args"), seconds)

    def _error(self, id: Any, exc: Exception) -> Dict[str, Any]:
        self._errors += 1
        error = error_of(exc)
        now = datetime.datetime.now(datetime.timezone.utc).isoformat()
        wire = {**error.to_wire(), "data": {"details": error.data, "plugin": error.plugin, "timestamp": now}}
        _log.info("answered %s: %s", code_name(error.code), error.message)
        return {"jsonrpc": "2.0", "id": id, "error": wire}

    def _say(self, answer: Any) -> None:
        self._write(json.dumps(answer, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace") + b"\n")


def _needed(params: Dict[str, Any], key: str) -> str:
    value = params.get(key)
    if not isinstance(value, str):
        raise PluginError(ErrorCodes.INVALID_PARAMS, f"`{key}` is missing" if value is None else f"`{key}` is no text")
    return value
