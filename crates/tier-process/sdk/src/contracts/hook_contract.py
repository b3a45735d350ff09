"""Hooks: places where a plugin may look at, change or stop what the host does."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, Dict, Optional, Union

from contracts.base import ReadyPlugin

__all__ = ["HookContract", "Veto"]


@dataclass
class Veto:
    """Stops what was about to happen."""

    #: Why, for the user.
    reason: str


class HookContract(ReadyPlugin):
    """A subscription to one hook."""

    name: Optional[str] = None
    #: Which: before_agent_run, after_agent_run, before_message_send, after_message_receive, before_tool_execute,
    #: after_tool_execute, on_session_create, on_session_end, on_gateway_start, on_gateway_shutdown, on_client_connect,
    #: on_client_disconnect.
    hook: str = ""
    #: Higher runs earlier.
    priority: int = 0
    #: Most time of one call, in milliseconds.
    timeout_ms: int = 5000
    #: ``open``: a failure is passed over. ``closed``: a failure is a veto.
    on_failure: str = "open"
    #: Only looks; what it returns is ignored.
    observer: bool = False

    @abstractmethod
    async def on(self, event: Dict[str, Any]) -> Union[Dict[str, Any], Veto, None]:
        """Called at the hook. ``None`` lets the event be, a dict replaces it, a :class:`Veto` stops it."""
