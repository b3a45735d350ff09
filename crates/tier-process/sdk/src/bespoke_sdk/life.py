"""The life of a plugin: start, health, new configuration, state, end, and its own methods by name."""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import Callable
from typing import Any, Dict, List, Optional

from bespoke_sdk.codec import bind, from_json, to_json
from bespoke_sdk.errors import ErrorCodes, PluginError, described, error_of
from bespoke_sdk.run import collect, run
from bespoke_sdk.serve.base import Bulk, Served
from contracts.base import PluginBase, PluginStatus

__all__ = ["UNKNOWN", "capture", "initialize", "invoke", "reconfigure", "restore", "shutdown", "vitals"]

#: The host's to call, at their time.
_LIFE = ("initialize", "shutdown", "capture_state", "restore_state", "reconfigure")
#: It is to look, not to work.
_HEALTH_SECONDS = 2.0


#: Nobody knows how the plugin does.
UNKNOWN: Dict[str, Any] = {"health": {"status": "unknown"}, "facts": {}}


async def initialize(plugin: PluginBase, config: Dict[str, Any]) -> None:
    """Initialises a plugin. Its status is READY then, whether it says so itself or not.

    Raises ``INITIALIZE_FAILED``, or the plugin's own code.
    """
    plugin._status = PluginStatus.INITIALIZING
    try:
        went_well = await run(plugin.initialize, config)
    except PluginError:
        raise
    except Exception as e:
        raise PluginError(ErrorCodes.INITIALIZE_FAILED, f"initialize failed: {described(e)}") from e
    if went_well is False:
        raise PluginError(ErrorCodes.INITIALIZE_FAILED, "initialize returned False")
    if plugin._status in (PluginStatus.UNLOADED, PluginStatus.INITIALIZING):
        plugin._status = PluginStatus.READY


async def vitals(plugin: PluginBase) -> Dict[str, Any]:
    """Health, and the facts of a health check as texts.

    Raises ``HEALTH_CHECK_TIMEOUT``.
    """
    try:
        checked = await asyncio.wait_for(run(plugin.health_check), _HEALTH_SECONDS)
        report = checked if isinstance(checked, dict) else to_json(checked, "health_check")
    except asyncio.TimeoutError:
        message = f"health_check did not answer within {_HEALTH_SECONDS:g} s"
        raise PluginError(ErrorCodes.HEALTH_CHECK_TIMEOUT, message, retryable=True) from None
    except Exception as e:
        return {"health": {"status": "failed", "reason": f"health_check failed: {error_of(e).message}"}, "facts": {}}
    report = report if isinstance(report, dict) else {}
    status = to_json(report.get("status"), "status")
    message = str(report.get("message") or "")
    facts = {"status": str(status), "message": message}
    for key in ("latency_ms", "memory_mb"):
        if report.get(key) is not None:
            facts[key] = str(report[key])
    details = report.get("details")
    for key, value in (details if isinstance(details, dict) else {}).items():
        facts.setdefault(str(key), value if isinstance(value, str) else json.dumps(to_json(value, "details")))
    return {"health": _health(status, message), "facts": facts}


def _health(status: Any, message: str) -> Dict[str, Any]:
    if status in ("ready", "busy"):
        return {"status": "ok"}
    if status in ("unloaded", "initializing"):
        return {"status": "unknown"}
    return {"status": "failed", "reason": message or str(status)}


async def reconfigure(served: Served, config: Dict[str, Any]) -> str:
    """``applied`` when the plugin takes the new values while it runs, else ``restart``."""
    method = getattr(served.plugin, "reconfigure", None)
    if method is None or await run(method, config) is False:
        return "restart"
    served.config = config
    return "applied"


async def capture(plugin: Any) -> Optional[Bulk]:
    """What the next instance needs, as JSON."""
    method = getattr(plugin, "capture_state", None)
    state = None if method is None else await run(method)
    if state is None:
        return None
    text = json.dumps(to_json(state, "capture_state"), ensure_ascii=False).encode()
    return Bulk({"version": plugin.STATE_VERSION, "bytes": []}, text)


async def restore(plugin: Any, state: Dict[str, Any], blob: bytes) -> None:
    """Goes on from a captured state.

    Raises ``CONTRACT_MISMATCH`` for another version, ``METHOD_NOT_FOUND`` when the plugin keeps no state.
    """
    method = getattr(plugin, "restore_state", None)
    if method is None:
        raise PluginError(ErrorCodes.METHOD_NOT_FOUND, f"{type(plugin).__name__} has no restore_state")
    if state["version"] != plugin.STATE_VERSION:
        message = f"the state is of version {state['version']}, {type(plugin).__name__} reads {plugin.STATE_VERSION}"
        raise PluginError(ErrorCodes.CONTRACT_MISMATCH, message)
    await run(method, from_json(json.loads(blob or bytes(state.get("bytes", [])))))


async def shutdown(plugin: PluginBase) -> None:
    """Ends a plugin.

    Raises ``SHUTDOWN_FAILED``.
    """
    plugin._status = PluginStatus.SHUTTING_DOWN
    try:
        went_well = await run(plugin.shutdown)
    except Exception as e:
        plugin._status = PluginStatus.ERROR
        raise PluginError(ErrorCodes.SHUTDOWN_FAILED, f"shutdown failed: {described(e)}") from e
    if went_well is False:
        raise PluginError(ErrorCodes.SHUTDOWN_FAILED, "shutdown returned False")
    plugin._status = PluginStatus.STOPPED


async def invoke(plugin: Any, method: str, args: Any) -> Any:
    """Any public method by name, with keyword arguments. Generators are collected.

    Raises ``METHOD_NOT_FOUND``, naming the methods that there are; ``INVALID_PARAMS``.
    """
    function = _method(plugin, method)
    if function is None or method in _LIFE:
        message = f"{method} is the host's to call" if function is not None else f"there is no method `{method}`"
        raise PluginError(ErrorCodes.METHOD_NOT_FOUND, message, help=f"methods: {', '.join(methods(plugin))}")
    return to_json(await collect(await run(function, **bind(function, args))))


def methods(plugin: Any) -> List[str]:
    """The public methods that can be called by name."""
    names = (name for name in dir(type(plugin)) if name not in _LIFE)
    return [name for name in names if _method(plugin, name) is not None]


def _method(plugin: Any, name: str) -> Optional[Callable[..., Any]]:
    """A public method of the class: not a property, not a class, not an attribute of ``object``."""
    if name.startswith("_"):
        return None
    found = inspect.getattr_static(type(plugin), name, None)
    if inspect.isfunction(found) or isinstance(found, (staticmethod, classmethod)):
        return getattr(plugin, name)
    return None
