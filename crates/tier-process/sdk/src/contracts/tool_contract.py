"""Tools: functions that a model may call."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Callable, Dict, List, Optional, TypeVar

from contracts.base import ReadyPlugin

__all__ = ["ToolContract", "ToolOutput", "tool"]

F = TypeVar("F", bound=Callable[..., Any])


@dataclass
class ToolOutput:
    """An answer in full. A plain text, number, dict, list or bytes does in most cases."""

    #: Texts and bytes that the model reads.
    content: List[Any] = field(default_factory=list)
    #: The same as data, for programs.
    data: Any = None
    #: The content says what went wrong, so that the model can try again.
    is_error: bool = False

    @classmethod
    def error(cls, text: str) -> ToolOutput:
        """Tells the model what went wrong."""
        return cls(content=[text], is_error=True)


class ToolContract(ReadyPlugin):
    """One tool, as the method ``call``, or several, as methods marked with :func:`tool`.

    What is not said is taken from the code: the name from the manifest, the description from the docstring, the schema from the
    annotations of the parameters.
    """

    #: Name as the model writes it: a-z, 0-9, _.
    name: Optional[str] = None
    #: When and why to call it, for the model.
    description: Optional[str] = None
    #: JSON Schema of the arguments, an object.
    input_schema: Optional[Dict[str, Any]] = None

    async def call(self, **args: Any) -> Any:
        """Runs the tool."""
        raise NotImplementedError("call is not supported by this plugin")


def tool(name: Optional[str] = None, description: Optional[str] = None, input_schema: Optional[Dict[str, Any]] = None) -> Callable[[F], F]:
    """Marks a method as a tool of its own: ``@tool()``, with what shall differ from what the code says."""

    def mark(function: F) -> F:
        function.__bespoke_tool__ = {  # type: ignore[attr-defined]
            "name": name or function.__name__,
            "description": description,
            "input_schema": input_schema,
        }
        return function

    return mark
