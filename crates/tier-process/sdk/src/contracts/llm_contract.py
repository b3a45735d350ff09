"""Language models."""

from __future__ import annotations

from typing import Any, AsyncIterator, Dict, List, Optional, Union

from contracts.base import PluginBase

__all__ = ["LLMContract"]


class LLMContract(PluginBase):
    """Continues conversations. A plugin has at least one of the four ways to answer; the host takes the first of
    ``stream_chat``, ``chat``, ``stream_complete``, ``complete`` that is there.

    Messages are dicts with ``role`` and ``content``, for tools also ``tool_calls`` (``id``, ``name``, ``args``) and
    ``tool_call_id``. Beside what is written here, a method gets by name what it has a parameter for: ``model``, ``tools``,
    ``tool_choice``, ``top_p``, ``stop_sequences`` (or ``stop``), ``seed``, ``json_schema``. What the caller left open is not
    passed, so that the plugin's own defaults hold.
    """

    async def complete(
        self,
        prompt: str,
        max_tokens: int = 1024,
        temperature: float = 0.7,
        stop_sequences: Optional[List[str]] = None,
    ) -> str:
        """Generate text completion."""
        raise NotImplementedError("complete is not supported by this plugin")

    async def chat(self, messages: List[Dict[str, Any]], max_tokens: int = 1024, temperature: float = 0.7) -> Union[str, Dict[str, Any]]:
        """Generate chat response: a text, or a dict with ``content`` and perhaps ``tool_calls``, ``finish_reason``, ``usage``."""
        raise NotImplementedError("chat is not supported by this plugin")

    async def get_models(self) -> List[Dict[str, Any]]:
        """The models, the default one first: dicts with ``id`` and perhaps ``context_window``, ``tools``, ``json_schema``."""
        return []

    def stream_complete(self, prompt: str, max_tokens: int = 1024, temperature: float = 0.7) -> AsyncIterator[str]:
        """Stream text completion."""
        raise NotImplementedError("stream_complete is not supported by this plugin")

    def stream_chat(
        self, messages: List[Dict[str, Any]], max_tokens: int = 1024, temperature: float = 0.7
    ) -> AsyncIterator[Union[str, Dict[str, Any]]]:
        """Stream chat response: texts, and dicts as ``chat`` returns them."""
        raise NotImplementedError("stream_chat is not supported by this plugin")
