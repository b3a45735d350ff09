"""The call that runs just now, as the plugin's code may ask for it."""

from __future__ import annotations

import threading
import time
from contextvars import ContextVar
from typing import Any, Callable, Dict, Optional

from bespoke_sdk.errors import ErrorCodes, PluginError

__all__ = ["Call", "current_call"]

_current: ContextVar[Optional[Call]] = ContextVar("bespoke_call", default=None)


class Call:
    """One call or stream of the host."""

    def __init__(self, id: int, method: str, cx: Dict[str, Any], progress: Callable[[Any], None], name: str = "") -> None:
        self.id = id
        self.method = method
        #: What is called, in words: ``tool dice``, or the method by its name.
        kind = "method" if method == "plugin.invoke" else method.partition(".")[0]
        self.what = f"{kind} {name}" if name else method
        #: Since when nobody waits for it, in seconds on the monotonic clock; ``None`` while somebody does.
        self.given_up: Optional[float] = None
        self._cx = cx
        self._progress = progress
        self._cancelled = threading.Event()
        if cx.get("cancelled"):
            self.cancel()

    @property
    def cancelled(self) -> bool:
        """Whether the caller has gone. Sync methods that take long ask between steps; async ones are cancelled."""
        return self._cancelled.is_set()

    def check(self) -> None:
        """Raises ``CANCELLED`` when the caller has gone."""
        if self.cancelled:
            raise PluginError(ErrorCodes.CANCELLED, "cancelled by the caller")

    def cancel(self) -> None:
        """Notes that the caller has gone."""
        if self.given_up is None:
            self.given_up = time.monotonic()
        self._cancelled.set()

    @property
    def deadline_us(self) -> Optional[int]:
        """When the caller stops waiting, in microseconds since 1970."""
        return self._cx.get("deadline")

    @property
    def session(self) -> Optional[str]:
        """The session on whose behalf the call is made."""
        return self._cx.get("session")

    @property
    def caller(self) -> Optional[str]:
        """The plugin that made the call; ``None`` when the host itself did."""
        return self._cx.get("caller")

    @property
    def trace(self) -> int:
        """Groups the calls of one turn in logs."""
        return self._cx.get("trace", 0)

    @property
    def depth(self) -> int:
        """How many plugins stand between the outermost caller and this call."""
        return self._cx.get("depth", 0)

    def progress(self, value: Any) -> None:
        """Tells the caller how far the work is."""
        self._progress(value)


def current_call() -> Optional[Call]:
    """The call that runs just now; ``None`` outside of one. Works in async methods, sync ones, and tasks made by them."""
    return _current.get()


def enter(call: Call) -> None:
    """Makes a call the current one of this task."""
    _current.set(call)
