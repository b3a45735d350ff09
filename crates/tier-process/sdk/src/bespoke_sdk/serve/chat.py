"""Language models: conversations in, deltas out."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any, Dict, List, Optional

from bespoke_sdk.codec import to_json
from bespoke_sdk.errors import ErrorCodes, PluginError
from bespoke_sdk.run import accepted, pieces, run
from bespoke_sdk.serve.base import Served, text_of
from bespoke_sdk.specs import offers
from contracts.llm_contract import LLMContract

_WAYS = ("stream_chat", "chat", "stream_complete", "complete")
_REASONS = {"length": "length", "max_tokens": "length", "tool_calls": "tool_calls", "function_call": "tool_calls"}


async def models(served: Served, call: Any, name: str, args: Any, blob: bytes) -> List[Dict[str, Any]]:
    """``provider.models``."""
    found = await run(served.plugin.get_models) or [served.loaded.manifest.name]
    out = []
    for model in found:
        entry = {"id": model} if isinstance(model, str) else model if isinstance(model, dict) else vars(model)
        window = entry.get("context_window") or entry.get("context_length") or 0
        known = {"id": str(entry.get("id") or entry.get("name")), "context_window": int(window)}
        out.append({**known, "tools": bool(entry.get("tools")), "json_schema": bool(entry.get("json_schema"))})
    return out


async def chat(served: Served, name: str, request: Any) -> AsyncIterator[Dict[str, Any]]:
    """``provider.chat``, over the first way to answer that the plugin has."""
    plugin = served.plugin
    way = next((w for w in _WAYS if offers(type(plugin), LLMContract, w)), None)
    if way is None:
        raise PluginError(ErrorCodes.METHOD_NOT_FOUND, f"the plugin has none of {', '.join(_WAYS)}")
    if request.get("model") is not None and offers(type(plugin), LLMContract, "get_models"):
        known = [m["id"] for m in await models(served, None, name, None, b"")]
        if request["model"] not in known:
            message = f"there is no model `{request['model']}`"
            raise PluginError(ErrorCodes.LLM_MODEL_NOT_AVAILABLE, message, help=f"models: {', '.join(known[:20])}")
    method = getattr(plugin, way)
    messages = [_message(m) for m in request.get("messages", [])]
    stop = request.get("stop") or None
    offered = {
        "stop_sequences": stop,
        "stop": stop,
        "tools": request.get("tools") or None,
        **{key: request.get(key) for key in ("model", "max_tokens", "temperature", "top_p", "seed", "json_schema")},
        "tool_choice": request.get("tool_choice") if request.get("tools") else None,
    }
    first = messages if way in ("chat", "stream_chat") else _prompt(messages)
    answer = await run(method, first, **accepted(method, offered))
    ending: Dict[str, Any] = {"type": "finish", "reason": "stop"}
    wrote = False
    async for piece in pieces(answer):
        for delta in _deltas(piece, way):
            if delta["type"] == "finish":
                ending.update(delta)
                continue
            if delta["type"] == "tool_call":
                ending["reason"] = "tool_calls"
            wrote = True
            yield delta
    if not wrote and answer is None:
        raise PluginError(ErrorCodes.LLM_COMPLETION_FAILED, f"{way} returned nothing")
    yield ending


def _message(message: Dict[str, Any]) -> Dict[str, Any]:
    out = {"role": message["role"], "content": message.get("text", "")}
    for key in ("tool_calls", "tool_call_id"):
        if message.get(key):
            out[key] = message[key]
    return out


def _prompt(messages: List[Dict[str, Any]]) -> str:
    """A conversation as one text. That of a single message is the message."""
    if len(messages) == 1:
        return messages[0]["content"]
    lines = [f"{m['role'].capitalize()}: {m['content']}" for m in messages]
    return "\n".join([*lines, "Assistant:"])


def _deltas(piece: Any, way: str) -> List[Dict[str, Any]]:
    """What a piece of an answer says: a text, or a dict in the shape of the guide, of a delta, or of an OpenAI choice."""
    if isinstance(piece, str):
        return [{"type": "text", "text": piece}] if piece else []
    entry = piece if isinstance(piece, dict) else to_json(piece, way)
    if not isinstance(entry, dict):
        raise PluginError(ErrorCodes.LLM_COMPLETION_FAILED, f"{way} returned {type(piece).__name__} instead of a text or a dict")
    if entry.get("type") in ("text", "tool_call", "finish"):
        return [to_json(entry, way)]
    choices = entry.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}
    message = entry.get("message") or choice.get("message") or choice.get("delta") or entry
    out: List[Dict[str, Any]] = []
    text = text_of(message, ("content", "text", "response"))
    if text:
        out.append({"type": "text", "text": text})
    calls = message.get("tool_calls") if isinstance(message, dict) else None
    out += [{"type": "tool_call", "call": _tool_call(c, i)} for i, c in enumerate(calls or [])]
    reason = entry.get("finish_reason") or choice.get("finish_reason")
    usage = _usage(entry.get("usage"))
    if not out and text is None and not reason and usage is None:
        raise PluginError(ErrorCodes.LLM_COMPLETION_FAILED, f"{way} returned a dict without content: {', '.join(map(str, entry))}")
    if reason or usage:
        finish: Dict[str, Any] = {"type": "finish"}
        if reason:
            finish["reason"] = _REASONS.get(reason, "stop")
        out.append({**finish, "usage": usage} if usage else finish)
    return out


def _tool_call(call: Dict[str, Any], index: int) -> Dict[str, Any]:
    inner = call.get("function", call)
    args = inner.get("args", inner.get("arguments", {}))
    if isinstance(args, str):
        try:
            args = json.loads(args)
        except ValueError as e:
            message = f"the arguments of the tool call {inner.get('name')} are not JSON: {e}"
            raise PluginError(ErrorCodes.LLM_COMPLETION_FAILED, message) from None
    return {"id": str(call.get("id") or f"call_{index}"), "name": str(inner.get("name")), "args": to_json(args, "args")}


def _usage(usage: Any) -> Optional[Dict[str, int]]:
    if not isinstance(usage, dict):
        return None
    keys = ("prompt_tokens", "cached_tokens", "completion_tokens")
    return {key: int(usage.get(key) or 0) for key in keys}
