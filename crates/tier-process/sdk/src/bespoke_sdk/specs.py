"""What a class contributes, as the host is told before anything starts."""

from __future__ import annotations

import enum
import inspect
import typing
from typing import Any, Callable, Dict, List, Optional, Type

from bespoke_sdk.codec import UNIONS
from bespoke_sdk.loader import Loaded, kinds_of
from contracts.base import PluginBase

__all__ = ["default_rate", "hooks_of", "offers", "specs", "tools_of"]

_DEFAULT_RATE = 24000
_JSON_TYPES: Dict[Any, Dict[str, Any]] = {
    str: {"type": "string"},
    int: {"type": "integer"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
    dict: {"type": "object"},
    list: {"type": "array"},
    bytes: {
        "type": "object",
        "properties": {"base64": {"type": "string"}},
        "required": ["base64"],
        "additionalProperties": False,
    },
}


def specs(loaded: Loaded) -> List[Dict[str, Any]]:
    """The specs of a plugin's contributions."""
    out: List[Dict[str, Any]] = []
    for kind, contract in kinds_of(loaded.plugin):
        if kind == "tool":
            out += [{"kind": "tool", "spec": tool["spec"]} for tool in tools_of(loaded).values()]
        elif kind == "hook":
            out += [{"kind": "hook", "spec": hook["spec"]} for hook in hooks_of(loaded).values()]
        else:
            spec = {"name": _name(loaded, kind), **_SPECS[kind](loaded, contract)}
            out.append({"kind": kind, "spec": spec})
    return out


def offers(plugin: Type[PluginBase], contract: Type[PluginBase], method: str) -> bool:
    """Whether a class has a method of its own in place of the contract's."""
    return getattr(plugin, method) is not getattr(contract, method)


def default_rate(loaded: Loaded) -> int:
    """Samples per second of raw audio, as far as is known without a configuration."""
    manifest = loaded.manifest
    default = manifest.config_schema.get("properties", {}).get("sample_rate", {}).get("default")
    for rate in (manifest.default_config.get("sample_rate"), default, getattr(loaded.plugin, "sample_rate", None)):
        if isinstance(rate, int) and rate > 0:
            return rate
    return _DEFAULT_RATE


def tools_of(loaded: Loaded) -> Dict[str, Dict[str, Any]]:
    """By name, the spec of each tool and the method that serves it."""
    plugin: Any = loaded.plugin
    marked = [(name, f.__bespoke_tool__) for name, f in inspect.getmembers(plugin) if hasattr(f, "__bespoke_tool__")]
    out: Dict[str, Dict[str, Any]] = {}
    for method, mark in marked:
        function = getattr(plugin, method)
        out[mark["name"]] = _tool(mark["name"], method, mark["description"] or _doc(function), mark["input_schema"], function)
    from contracts.tool_contract import ToolContract

    if not marked or offers(plugin, ToolContract, "call"):
        name = _name(loaded, "tool")
        described = plugin.description or _doc(plugin.call) or _doc(plugin) or loaded.manifest.raw.get("description", "")
        out[name] = _tool(name, "call", described, plugin.input_schema, plugin.call)
    return out


def hooks_of(loaded: Loaded) -> Dict[str, Dict[str, Any]]:
    """By name, the spec of each subscription and the method that serves it."""
    plugin: Any = loaded.plugin
    marked = [(name, f.__bespoke_hook__) for name, f in inspect.getmembers(plugin) if hasattr(f, "__bespoke_hook__")]
    out = {mark["name"]: _hook(method, mark) for method, mark in marked}
    from contracts.hook_contract import HookContract

    if not marked or offers(plugin, HookContract, "on"):
        keys = ("hook", "priority", "timeout_ms", "on_failure", "observer", "topics")
        name = _name(loaded, "hook")
        out[name] = _hook("on", {"name": name, **{key: getattr(plugin, key) for key in keys}})
    return out


def _hook(method: str, mark: Dict[str, Any]) -> Dict[str, Any]:
    spec = {**mark, "topics": [str(topic) for topic in mark["topics"]]}
    if not spec["topics"]:
        del spec["topics"]
    return {"method": method, "spec": spec}


def _tool(name: str, method: str, description: str, schema: Optional[Dict[str, Any]], function: Callable[..., Any]) -> Dict[str, Any]:
    spec = {"name": name, "description": description, "input_schema": schema or _schema_of(function)}
    return {"method": method, "spec": spec}


def _schema_of(function: Callable[..., Any]) -> Dict[str, Any]:
    try:
        hints = typing.get_type_hints(function)
    except Exception:  # an annotation that names what is not imported
        hints = {}
    properties: Dict[str, Any] = {}
    required: List[str] = []
    more = False
    for parameter in list(inspect.signature(function).parameters.values())[1:]:
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            more = True
        elif parameter.kind is not inspect.Parameter.VAR_POSITIONAL:
            properties[parameter.name] = _schema_of_hint(hints.get(parameter.name, Any))
            if parameter.default is inspect.Parameter.empty:
                required.append(parameter.name)
    schema: Dict[str, Any] = {"type": "object", "properties": properties, "additionalProperties": more}
    if required:
        schema["required"] = required
    return schema


def _schema_of_hint(hint: Any) -> Dict[str, Any]:
    if hint in _JSON_TYPES:
        return dict(_JSON_TYPES[hint])
    if inspect.isclass(hint) and issubclass(hint, enum.Enum):
        return {"enum": [member.value for member in hint]}
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return {"enum": list(args)}
    if origin in UNIONS:
        some = [_schema_of_hint(a) for a in args if a is not type(None)]
        return some[0] if len(some) == 1 else {"anyOf": some}
    if origin is list and args:
        return {"type": "array", "items": _schema_of_hint(args[0])}
    return dict(_JSON_TYPES.get(origin, {}))


def _name(loaded: Loaded, kind: str) -> str:
    declared = [name for k, name in loaded.manifest.provides if k == kind]
    own = getattr(loaded.plugin, "name", None)
    return own if isinstance(own, str) else declared[0] if len(declared) == 1 else loaded.manifest.name


def _doc(of: Any) -> str:
    """The first paragraph of its own docstring."""
    own = of.__dict__.get("__doc__") if inspect.isclass(of) else getattr(of, "__doc__", None)
    text = inspect.cleandoc(own or "")
    return " ".join(text.split("\n\n")[0].split())


def _tts(loaded: Loaded, _: Type[PluginBase]) -> Dict[str, Any]:
    return {"sample_rate": default_rate(loaded)}


def _stt(loaded: Loaded, contract: Type[PluginBase]) -> Dict[str, Any]:
    streaming = all(offers(loaded.plugin, contract, m) for m in ("start_stream", "feed_audio", "end_stream"))
    return {"languages": list(getattr(loaded.plugin, "languages", [])), "streaming": streaming}


def _channel(loaded: Loaded, contract: Type[PluginBase]) -> Dict[str, Any]:
    has = {word: offers(loaded.plugin, contract, method) for word, method in (("edits", "edit"), ("typing", "typing"))}
    plugin: Any = loaded.plugin
    files = "attachments" in inspect.signature(plugin.send).parameters
    return {**has, "streams": offers(plugin, contract, "stream"), "idempotent": bool(plugin.idempotent), "attachments": files}


def _command(loaded: Loaded, _: Type[PluginBase]) -> Dict[str, Any]:
    plugin: Any = loaded.plugin
    about = plugin.about or _doc(plugin) or loaded.manifest.raw.get("description", "")
    return {"about": about, "usage": plugin.usage or _name(loaded, "command"), "require_auth": plugin.require_auth}


_SPECS: Dict[str, Callable[[Loaded, Any], Dict[str, Any]]] = {
    "tts": _tts,
    "stt": _stt,
    "provider": lambda loaded, contract: {},
    "channel": _channel,
    "vad": lambda loaded, contract: {},
    "embedder": lambda loaded, contract: {"dimensions": loaded.plugin.dimensions},
    "command": _command,
    "http": lambda loaded, contract: {"body_limit": loaded.plugin.body_limit},
}
