"""The error that crosses the wire, its stable codes, and what an exception of a plugin becomes. Not a place for logging."""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
from enum import IntEnum
from pathlib import Path
from typing import Any, Dict, Optional

__all__ = ["ErrorCodes", "PluginError", "at", "code_name", "described", "error_of", "own_code"]


class ErrorCodes(IntEnum):
    """The stable numbers: JSON-RPC's own, the host's (-32000 to -32062) and an application's (1000 to 1301)."""

    PARSE_ERROR = -32700
    INVALID_REQUEST = -32600
    METHOD_NOT_FOUND = -32601
    INVALID_PARAMS = -32602
    INTERNAL_ERROR = -32603

    PLUGIN_NOT_FOUND = -32000
    NOT_READY = -32001
    PLUGIN_NOT_READY = -32001
    LOAD_FAILED = -32002
    PLUGIN_LOAD_FAILED = -32002
    INITIALIZE_FAILED = -32003
    SHUTDOWN_FAILED = -32004
    ALREADY_LOADED = -32005
    CONTRACT_MISMATCH = -32010
    CONTRACT_NOT_FOUND = -32011
    MANIFEST_INVALID = -32012
    MANIFEST_MISSING = -32013
    HOTSWAP_FAILED = -32020
    HOTSWAP_ROLLBACK_FAILED = -32021
    DISCOVERY_FAILED = -32030
    HEALTH_CHECK_TIMEOUT = -32040
    RESOURCE_EXHAUSTED = -32050
    DEPENDENCY_MISSING = -32051
    MODEL_NOT_FOUND = -32052
    PERMISSION_DENIED = -32053
    NETWORK_FAILED = -32054
    CONFLICT = -32055
    EXECUTION_TIMEOUT = -32060
    PLUGIN_EXCEPTION = -32061
    PLUGIN_CRASHED = -32062
    CANCELLED = -32800

    TTS_SYNTHESIS_FAILED = 1000
    TTS_VOICE_NOT_FOUND = 1001
    TTS_TEXT_TOO_LONG = 1002
    STT_TRANSCRIPTION_FAILED = 1100
    STT_AUDIO_INVALID = 1101
    STT_LANGUAGE_NOT_SUPPORTED = 1102
    LLM_COMPLETION_FAILED = 1200
    LLM_MODEL_NOT_AVAILABLE = 1201
    LLM_CONTEXT_TOO_LONG = 1202
    LLM_RATE_LIMITED = 1203
    MCP_CONNECTION_FAILED = 1300
    MCP_TOOL_NOT_FOUND = 1301


def code_name(code: int) -> str:
    """The name of a code, or ``UNKNOWN`` for a number that is not in the table."""
    try:
        return ErrorCodes(code).name
    except ValueError:
        return "UNKNOWN"


class PluginError(Exception):
    """A failure with a stable code. ``raise PluginError(1000, "...")`` reaches the caller with this code and text."""

    def __init__(
        self,
        code: int,
        message: str,
        data: Any = None,
        *,
        retryable: bool = False,
        help: Optional[str] = None,  # the name that the wire has
        plugin: Optional[str] = None,
    ) -> None:
        super().__init__(message)
        self.code = int(code)
        self.message = str(message)
        self.data = data
        self.retryable = retryable
        self.help = help
        self.plugin = plugin

    def to_wire(self) -> Dict[str, Any]:
        """The error as it travels; what is not set is left out."""
        out: Dict[str, Any] = {"code": self.code, "message": self.message, "kind": code_name(self.code)}
        if self.retryable:
            out["retryable"] = True
        for key in ("help", "data", "plugin"):
            value = getattr(self, key)
            if value is not None:
                out[key] = value
        return out

    @classmethod
    def from_wire(cls, error: Any) -> PluginError:
        """The error that a peer sent; what is not readable stands in its message."""
        if not isinstance(error, dict) or not isinstance(error.get("code"), int):
            return cls(ErrorCodes.INVALID_REQUEST, f"an error of the peer that cannot be read: {error!r:.200}")
        return cls(
            error["code"],
            str(error.get("message", "")),
            error.get("data"),
            retryable=bool(error.get("retryable")),
            help=error.get("help"),
            plugin=error.get("plugin"),
        )

    def __str__(self) -> str:
        return f"{self.message} ({code_name(self.code)} {self.code})"


#: The folder of the plugin, with a separator at its end; empty until it is known.
_own = ""


def own_code(folder: Path) -> None:
    """Says where the plugin's own code lies, so that an error can name the line of it."""
    global _own
    _own = os.path.join(str(folder), "")


def at(exc: BaseException) -> Optional[str]:
    """File and line of the plugin's own code that was last on the way to an exception, such as ``plugin.py:12``.

    The file is named from the plugin's folder on: where that lies is nobody's business. Packages that were installed below it are not
    its own.
    """
    found: Optional[str] = None
    trace = exc.__traceback__
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if _own and file.startswith(_own) and "site-packages" not in file:
            found = f"{file[len(_own):]}:{trace.tb_lineno}"
        trace = trace.tb_next
    return found


def described(exc: BaseException) -> str:
    """An exception in words: its type, what it says, and where in the plugin's own code it came from."""
    said = str(exc)
    place = at(exc)
    return type(exc).__name__ + (f": {said}" if said else "") + (f" ({place})" if place else "")


def error_of(exc: BaseException) -> PluginError:
    """What an exception out of a plugin's code becomes. By its type, never by words in its message.

    Its data names the type and, where it is known, the line of the plugin's own code.
    """
    if isinstance(exc, PluginError):
        return exc
    error = _error_of(exc)
    if error.code != ErrorCodes.CANCELLED:
        place = at(exc)
        error.data = {"exception": type(exc).__name__, **({"at": place} if place else {})}
    return error


def _error_of(exc: BaseException) -> PluginError:
    if isinstance(exc, (asyncio.CancelledError, concurrent.futures.CancelledError)):
        return PluginError(ErrorCodes.CANCELLED, "cancelled by the caller")
    if isinstance(exc, (asyncio.TimeoutError, concurrent.futures.TimeoutError, TimeoutError)):
        return PluginError(ErrorCodes.EXECUTION_TIMEOUT, str(exc) or "the plugin gave up waiting", retryable=True)
    if isinstance(exc, NotImplementedError):
        return PluginError(ErrorCodes.METHOD_NOT_FOUND, str(exc) or "not supported by this plugin")
    if isinstance(exc, (ValueError, TypeError)):
        return PluginError(ErrorCodes.INVALID_PARAMS, str(exc) or described(exc))
    if isinstance(exc, MemoryError):
        return PluginError(ErrorCodes.RESOURCE_EXHAUSTED, "out of memory")
    if isinstance(exc, SystemExit):
        return PluginError(ErrorCodes.PLUGIN_EXCEPTION, f"the plugin called sys.exit({exc.code!r}); it goes on running")
    return PluginError(ErrorCodes.PLUGIN_EXCEPTION, described(exc))
