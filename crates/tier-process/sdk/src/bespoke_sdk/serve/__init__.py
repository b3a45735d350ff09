"""From a call on the wire to a method of a contract, and back: one module per group of contracts."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Dict

from bespoke_sdk.serve import audio, chat, text
from bespoke_sdk.serve.base import Bulk, Served, Stream

__all__ = ["CALLS", "CHATS", "STREAMS", "Bulk", "Served", "Stream"]

#: Methods with one answer.
CALLS: Dict[str, Callable[..., Awaitable[Any]]] = {
    "stt.transcribe": audio.transcribe,
    "tts.voices": audio.voices,
    "provider.models": chat.models,
    "tool.call": text.call_tool,
    "embedder.embed": text.embed,
    "command.run": text.run_command,
    "hook.on": text.on_hook,
    "channel.run": text.run_channel,
    "channel.send": text.send,
    "channel.edit": text.edit,
    "channel.typing": text.typing,
    "http.handle": text.handle_http,
}

#: Calls whose answer is a stream of events.
CHATS: Dict[str, Callable[..., AsyncIterator[Any]]] = {"provider.chat": chat.chat}

#: Streams with input.
STREAMS: Dict[str, Callable[..., AsyncIterator[Any]]] = {
    "tts.open": audio.speak,
    "stt.open": audio.listen,
    "vad.open": audio.detect,
    "channel.stream": text.stream,
}
