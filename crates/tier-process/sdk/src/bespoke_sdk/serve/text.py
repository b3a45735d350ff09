"""All that is not audio and not a model: tools, channels, embedders, commands, hooks, endpoints."""

from __future__ import annotations

import codecs
import json
import math
import struct
from collections.abc import AsyncIterator
from typing import Any, Dict, List, Optional, Sequence

from bespoke_sdk.call import Call
from bespoke_sdk.codec import bind, to_json
from bespoke_sdk.errors import ErrorCodes, PluginError
from bespoke_sdk.run import accepted, collect, run
from bespoke_sdk.serve.base import Bulk, Served, Stream, packed, unpacked
from bespoke_sdk.specs import hooks_of, tools_of
from contracts.channel_contract import Attachment
from contracts.hook_contract import Veto
from contracts.http_contract import HttpRequest, HttpResponse
from contracts.tool_contract import ToolOutput


async def call_tool(served: Served, call: Call, name: str, args: Any, blob: bytes) -> Bulk:
    """``tool.call``."""
    method = getattr(served.plugin, tools_of(served.loaded)[name]["method"])
    answer = await collect(await run(method, **bind(method, args.get("args"))))
    if isinstance(answer, dict) and isinstance(answer.get("content"), list):
        answer = ToolOutput(answer["content"], answer.get("data"), bool(answer.get("is_error")))
    if not isinstance(answer, ToolOutput):
        answer = _output(answer)
    content, blobs = [], []
    for part in answer.content:
        if isinstance(part, (bytes, bytearray)):
            part = {"type": "blob", "mime": "application/octet-stream", "bytes": bytes(part)}
        if isinstance(part, dict) and part.get("type") == "blob":
            blobs.append(bytes(part["bytes"]))
            content.append({"type": "blob", "mime": str(part["mime"]), "bytes": []})
        else:
            content.append({"type": "text", "text": part["text"] if isinstance(part, dict) else str(part)})
    out: Dict[str, Any] = {"content": content}
    if answer.data is not None:
        out["data"] = to_json(answer.data)
    if answer.is_error:
        out["is_error"] = True
    return Bulk(out, packed(blobs))


def _output(answer: Any) -> ToolOutput:
    if answer is None:
        return ToolOutput(["done"])
    if isinstance(answer, (str, bytes, bytearray)):
        return ToolOutput([answer])
    data = to_json(answer)
    return ToolOutput([data if isinstance(data, str) else json.dumps(data, ensure_ascii=False)], data)


async def embed(served: Served, call: Call, name: str, args: Any, blob: bytes) -> Bulk:
    """``embedder.embed``."""
    texts = args["texts"]
    vectors = [list(map(float, v)) for v in await run(served.plugin.embed, texts)]
    if len(vectors) != len(texts):
        raise PluginError(ErrorCodes.PLUGIN_EXCEPTION, f"embed returned {len(vectors)} vectors for {len(texts)} texts")
    parts = b"".join(struct.pack(f"<I{len(v)}f", len(v), *_unit(v)) for v in vectors)
    return Bulk({"vectors": [[] for _ in vectors]}, parts)


def _unit(vector: List[float]) -> List[float]:
    length = math.sqrt(sum(x * x for x in vector))
    if not math.isfinite(length):
        raise PluginError(ErrorCodes.PLUGIN_EXCEPTION, "embed returned a vector that is not finite")
    return [x / length for x in vector] if length else vector


class _Output:
    """A command's way to speak."""

    def __init__(self, served: Served, id: int) -> None:
        self._served = served
        self._id = id

    def line(self, text: str) -> None:
        self._served.tell("$/output", {"id": self._id, "line": str(text)})

    def note(self, text: str) -> None:
        self._served.tell("$/output", {"id": self._id, "note": str(text)})


async def run_command(served: Served, call: Call, name: str, args: Any, blob: bytes) -> int:
    """``command.run``."""
    code = await run(served.plugin.run, args["args"], _Output(served, call.id))
    return 0 if code is None else int(code)


async def on_hook(served: Served, call: Call, name: str, event: Any, blob: bytes) -> Dict[str, Any]:
    """``hook.on``."""
    method = hooks_of(served.loaded)[name]["method"]
    reply = await run(getattr(served.plugin, method), event)
    if reply is None:
        return {"reply": "continue"}
    if isinstance(reply, Veto):
        return {"reply": "veto", "reason": reply.reason}
    if isinstance(reply, dict):
        return {"reply": "replace", "event": {**to_json(reply, "event"), "hook": event["hook"]}}
    message = f"`{method}` returned {type(reply).__name__} instead of None, a dict or a Veto"
    raise PluginError(ErrorCodes.PLUGIN_EXCEPTION, message)


class _Inbox:
    """The host's intake."""

    def __init__(self, served: Served, call: int) -> None:
        self._served = served
        self._call = call

    async def accept(
        self,
        chat: str,
        sender: str,
        id: str,
        text: str,
        sender_name: Optional[str] = None,
        attachments: Sequence[Attachment] = (),
    ) -> None:
        message: Dict[str, Any] = {"chat": chat, "sender": sender, "id": id, "text": text}
        if sender_name is not None:
            message["sender_name"] = sender_name
        if attachments:
            message["attachments"] = [
                {"mime": file.mime, "voice": file.voice, "size": len(file.data), **({"name": file.name} if file.name else {})}
                for file in attachments
            ]
        await self._served.host.accept(self._call, message, packed([bytes(file.data) for file in attachments]))


async def run_channel(served: Served, call: Call, name: str, args: Any, blob: bytes) -> None:
    """``channel.run``."""
    await run(served.plugin.run, _Inbox(served, call.id))


async def send(served: Served, call: Call, name: str, message: Any, blob: bytes) -> Dict[str, Any]:
    """``channel.send``."""
    method = served.plugin.send
    more = {key: message.get(key) for key in ("idempotency_key", "reply_to")}
    taken = accepted(method, {**more, "attachments": _files(message.get("attachments") or [], blob) or None})
    return {"chat": message["chat"], "id": str(await run(method, message["chat"], message["text"], **taken))}


def _files(heads: List[Dict[str, Any]], blob: bytes) -> List[Attachment]:
    """The bytes of each stand in the blob, or, from a peer that writes none, in its head."""
    bulk = unpacked(blob) if blob else [bytes(head.get("data") or []) for head in heads]
    if len(bulk) != len(heads):
        raise PluginError(ErrorCodes.INVALID_PARAMS, f"the blob holds {len(bulk)} files, and the message {len(heads)}")
    return [Attachment(head["mime"], data, head.get("name"), bool(head.get("voice"))) for head, data in zip(heads, bulk)]


async def edit(served: Served, call: Call, name: str, args: Any, blob: bytes) -> None:
    """``channel.edit``."""
    await run(served.plugin.edit, args["message"]["chat"], args["message"]["id"], args["new"]["text"])


async def typing(served: Served, call: Call, name: str, args: Any, blob: bytes) -> None:
    """``channel.typing``."""
    await run(served.plugin.typing, args["chat"])


async def stream(served: Served, stream: Stream, name: str, args: Any) -> AsyncIterator[Dict[str, Any]]:
    """``channel.stream``."""
    sent = await run(served.plugin.stream, args["chat"], _texts(stream))
    yield {"chat": args["chat"], "id": str(sent)}


async def _texts(stream: Stream) -> AsyncIterator[str]:
    decode = codecs.getincrementaldecoder("utf-8")("replace").decode
    async for piece in stream.input():
        text = decode(piece)
        if text:
            yield text


async def handle_http(served: Served, call: Call, name: str, args: Any, blob: bytes) -> Bulk:
    """``http.handle``."""
    headers = [(n, v) for n, v in args.get("headers", [])]
    body = blob or bytes(args.get("body", []))
    answer = await run(served.plugin.handle, HttpRequest(args["method"], args["url"], headers, body))
    if isinstance(answer, str):
        answer = HttpResponse(200, [("content-type", "text/plain; charset=utf-8")], answer.encode())
    elif isinstance(answer, (bytes, bytearray)):
        answer = HttpResponse(200, [("content-type", "application/octet-stream")], bytes(answer))
    elif not isinstance(answer, HttpResponse):
        data = json.dumps(to_json(answer), ensure_ascii=False).encode()
        answer = HttpResponse(200, [("content-type", "application/json")], data)
    head = {"status": answer.status, "headers": [[n.lower(), v] for n, v in answer.headers], "body": []}
    return Bulk(head, answer.body)
