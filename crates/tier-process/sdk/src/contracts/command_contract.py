"""Commands: verbs that a plugin adds to the command line."""

from __future__ import annotations

from abc import abstractmethod
from typing import List, Optional, Protocol

from contracts.base import ReadyPlugin

__all__ = ["CommandContract", "Output"]


class Output(Protocol):
    """A command's way to speak."""

    def line(self, text: str) -> None:
        """Writes a line of data."""

    def note(self, text: str) -> None:
        """Writes a line for the person: progress, warnings."""


class CommandContract(ReadyPlugin):
    """A verb."""

    #: The verb: a-z, 0-9, -.
    name: Optional[str] = None
    #: One line for the list of commands; the docstring when absent.
    about: Optional[str] = None
    #: How it is called, such as ``weather CITY [--days N]``.
    usage: Optional[str] = None
    #: Whether only a user with a login may run it.
    require_auth: bool = True

    @abstractmethod
    async def run(self, args: List[str], out: Output) -> Optional[int]:
        """Runs it; the exit code, 0 to 255. ``None`` is 0."""
