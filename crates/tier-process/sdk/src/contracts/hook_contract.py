"""Hooks: places where a plugin may look at, change or stop what the host does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Callable, Dict, Optional, Sequence, TypeVar, Union

from contracts.base import ReadyPlugin

__all__ = ["HookContract", "Veto", "hook"]

F = TypeVar("F", bound=Callable[..., Any])


@dataclass
class Veto:
    """Stops what was about to happen."""

    #: Why, for the user.
    reason: str


class HookContract(ReadyPlugin):
    """A subscription to one hook, as the method ``on``, or several, as methods marked with :func:`hook`."""

    name: Optional[str] = None
    #: Which: before_agent_run, after_agent_run, before_message_send, after_message_receive, before_tool_execute,
    #: after_tool_execute, on_session_create, on_session_end, on_gateway_start, on_gateway_shutdown, on_client_connect,
    #: on_client_disconnect, on_event.
    hook: str = ""
    #: Higher runs earlier.
    priority: int = 0
    #: Most time of one call, in milliseconds.
    timeout_ms: int = 5000
    #: ``open``: a failure is passed over. ``closed``: a failure is a veto.
    on_failure: str = "open"
    #: Only looks; what it returns is ignored.
    observer: bool = False
    #: For ``on_event``: what topics of events begin with that it hears. Of other plugins' only with the permission.
    topics: Sequence[str] = ()

    async def on(self, event: Dict[str, Any]) -> Union[Dict[str, Any], Veto, None]:
        """Called at the hook. ``None`` lets the event be, a dict replaces it, a :class:`Veto` stops it."""
        raise NotImplementedError("on is not supported by this plugin")


def hook(
    place: str,
    name: Optional[str] = None,
    priority: int = 0,
    timeout_ms: int = 5000,
    on_failure: str = "open",
    observer: bool = False,
    topics: Sequence[str] = (),
) -> Callable[[F], F]:
    """Marks a method as a subscription of its own: ``@hook("before_agent_run")``. Its name is that of the method, or ``name``."""

    def mark(function: F) -> F:
        function.__bespoke_hook__ = {  # type: ignore[attr-defined]
            "name": name or function.__name__,
            "hook": place,
            "priority": priority,
            "timeout_ms": timeout_ms,
            "on_failure": on_failure,
            "observer": observer,
            "topics": topics,
        }
        return function

    return mark
