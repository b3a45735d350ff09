"""HTTP endpoints that a plugin serves under the gateway."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, field
from typing import Any, List, Optional, Tuple, Union

from contracts.base import ReadyPlugin

__all__ = ["HttpEndpointContract", "HttpRequest", "HttpResponse"]


@dataclass
class HttpRequest:
    """A request. The body is raw, so that signatures over it can be checked."""

    method: str
    #: Path and query.
    url: str
    #: Names in lower case, in order, repeated where the peer repeated them.
    headers: List[Tuple[str, str]] = field(default_factory=list)
    body: bytes = b""

    def header(self, name: str) -> Optional[str]:
        """The first header of a name."""
        return next((value for key, value in self.headers if key == name.lower()), None)


@dataclass
class HttpResponse:
    """A response."""

    status: int = 200
    headers: List[Tuple[str, str]] = field(default_factory=list)
    body: bytes = b""


class HttpEndpointContract(ReadyPlugin):
    """An endpoint, mounted at ``/hooks/<plugin>/<name>``."""

    name: Optional[str] = None
    #: Most bytes of a request's body.
    body_limit: int = 1 << 20

    @abstractmethod
    async def handle(self, request: HttpRequest) -> Union[HttpResponse, str, bytes, Any]:
        """Answers a request. A text or bytes is a 200; a dict or list is a 200 of JSON."""
