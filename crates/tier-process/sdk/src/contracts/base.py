"""What all plugins share: their life, their status and how they report health. Contracts stand in modules of their own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, Optional

from bespoke_sdk.errors import ErrorCodes, PluginError

if TYPE_CHECKING:
    from bespoke_sdk.host_client import HostClient

__all__ = ["ErrorCodes", "HealthStatus", "PluginBase", "PluginError", "PluginStatus", "ReadyPlugin"]


class PluginStatus(Enum):
    """Where a plugin stands in its life."""

    UNLOADED = "unloaded"
    INITIALIZING = "initializing"
    READY = "ready"
    BUSY = "busy"
    ERROR = "error"
    SHUTTING_DOWN = "shutting_down"
    STOPPED = "stopped"


@dataclass
class HealthStatus:
    """What ``health_check`` returns."""

    status: PluginStatus
    message: str = ""
    details: Dict[str, Any] = field(default_factory=dict)
    #: How long a request takes, in milliseconds.
    latency_ms: Optional[float] = None
    #: Memory in use, in MiB.
    memory_mb: Optional[float] = None


class PluginBase(ABC):
    """A plugin. One object is one configured life; the host makes another one for another configuration.

    Beside the three abstract methods a plugin may have, sync or async: ``capture_state() -> dict`` and
    ``restore_state(state)`` for a hot swap, and ``reconfigure(config) -> bool`` to take a new configuration while it runs.
    """

    #: Version of what ``capture_state`` returns. A state of another version is refused, and the swap rolled back.
    STATE_VERSION: int = 1

    #: The manifest. Set by the host before ``initialize``.
    manifest: Dict[str, Any] = {}
    #: A folder of the plugin's own, where it has one. Set by the host before ``initialize``.
    data_dir: Optional[Path] = None
    #: The way to the host: log, http, secrets, other plugins. Set by the host before ``initialize``.
    host: HostClient

    # On the class too, so that a plugin whose __init__ does not call super() has it.
    _status: PluginStatus = PluginStatus.UNLOADED

    def __init__(self) -> None:
        self._status = PluginStatus.UNLOADED

    @property
    def status(self) -> PluginStatus:
        """Where the plugin stands in its life."""
        return self._status

    @abstractmethod
    async def initialize(self, config: Dict[str, Any]) -> bool:
        """Initialize plugin with configuration."""

    @abstractmethod
    async def shutdown(self) -> bool:
        """Shutdown plugin and release resources."""

    @abstractmethod
    def health_check(self) -> HealthStatus:
        """Check plugin health status."""


class ReadyPlugin(PluginBase):
    """A plugin with the plainest life: keeps its configuration, is ready at once. Base of the contracts beyond the guide's."""

    def __init__(self) -> None:
        super().__init__()
        self.config: Dict[str, Any] = {}

    async def initialize(self, config: Dict[str, Any]) -> bool:
        """Keeps the configuration."""
        self.config = config
        self._status = PluginStatus.READY
        return True

    async def shutdown(self) -> bool:
        """Nothing to release."""
        self._status = PluginStatus.STOPPED
        return True

    def health_check(self) -> HealthStatus:
        """Reports the status."""
        return HealthStatus(status=self._status)
