"""Values of a plugin as JSON, and arguments back. Every value becomes JSON or an error that names it; nothing is dropped."""

from __future__ import annotations

import base64
import binascii
import dataclasses
import datetime
import decimal
import enum
import inspect
import math
import os
import types
import typing
import uuid
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Dict, List, Union

from bespoke_sdk.errors import ErrorCodes, PluginError

__all__ = ["UNIONS", "bind", "from_json", "to_json"]

_DEEPEST = 64
#: `Union[a, b]`, and `a | b` of Python 3.10.
UNIONS = (Union, getattr(types, "UnionType", Union))


def to_json(value: Any, path: str = "result", depth: int = 0) -> Any:
    """A value as JSON: bytes as ``{"base64": ...}``, dataclasses as objects, sets as lists, dates in ISO 8601.

    Raises ``PLUGIN_EXCEPTION``, naming the place, for what has no form in JSON.
    """
    if value is None or (isinstance(value, (bool, str)) and not isinstance(value, enum.Enum)):
        return value
    if depth > _DEEPEST:
        raise _unfit(f"{path[:80]} is nested deeper than {_DEEPEST}: does it contain itself?")
    if isinstance(value, enum.Enum):
        return to_json(value.value, path, depth + 1)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise _unfit(f"{path} is {value!r}, which JSON has no word for")
        return float(value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return {"base64": base64.b64encode(value).decode("ascii")}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_json(getattr(value, f.name), f"{path}.{f.name}", depth + 1) for f in dataclasses.fields(value)}
    if isinstance(value, (datetime.datetime, datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, datetime.timedelta):
        return value.total_seconds()
    if isinstance(value, (decimal.Decimal, uuid.UUID)):
        return str(value)
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, Mapping):
        return {_key(k): to_json(v, f"{path}.{_key(k)}", depth + 1) for k, v in value.items()}
    for method in ("to_dict", "model_dump", "tolist"):  # own classes, pydantic, numpy
        convert = getattr(value, method, None)
        if callable(convert) and not isinstance(value, type):
            return to_json(convert(), path, depth + 1)
    if isinstance(value, Iterable):
        return [to_json(v, f"{path}[{i}]", depth + 1) for i, v in enumerate(value)]
    raise _unfit(f"{path} is a {type(value).__name__}, which has no form in JSON: return a dict, a dataclass or bytes")


def from_json(value: Any) -> Any:
    """The same with every ``{"base64": ...}`` as bytes: how a captured state comes back."""
    if isinstance(value, dict):
        if value.keys() == {"base64"} and isinstance(value["base64"], str):
            return _bytes(value["base64"], "base64")
        return {k: from_json(v) for k, v in value.items()}
    if isinstance(value, list):
        return [from_json(v) for v in value]
    return value


def bind(method: Callable[..., Any], args: Any) -> Dict[str, Any]:
    """Keyword arguments for a method, with bytes where a parameter is annotated so.

    Raises ``INVALID_PARAMS`` for a name that the method does not take, one that it misses, bytes that are none.
    """
    if args is None:
        args = {}
    signature = inspect.signature(method)
    if isinstance(args, list):
        try:
            args = signature.bind(*args).arguments
        except TypeError as e:
            raise PluginError(ErrorCodes.INVALID_PARAMS, f"{method.__name__}: {e}") from None
    if not isinstance(args, dict):
        raise PluginError(ErrorCodes.INVALID_PARAMS, "the arguments are neither an object nor a list")
    try:
        signature.bind(**args)
    except TypeError as e:
        raise PluginError(ErrorCodes.INVALID_PARAMS, f"{method.__name__}: {e}") from None
    wants = _wants_bytes(method)
    return {name: _argument(value, name, name in wants) for name, value in args.items()}


def _argument(value: Any, name: str, wants_bytes: bool) -> Any:
    if not wants_bytes or value is None or isinstance(value, bytes):
        return value
    if isinstance(value, dict) and isinstance(value.get("base64"), str):
        return _bytes(value["base64"], name)
    raise PluginError(ErrorCodes.INVALID_PARAMS, f'{name} is bytes: send {{"base64": "..."}}')


def _bytes(text: str, name: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as e:
        raise PluginError(ErrorCodes.INVALID_PARAMS, f"{name} is not base64: {e}") from None


def _wants_bytes(method: Callable[..., Any]) -> List[str]:
    function = getattr(method, "__func__", method)
    try:
        hints = typing.get_type_hints(function)
    except Exception:  # an annotation that names what is not imported says nothing of bytes
        hints = dict(getattr(function, "__annotations__", {}))
    return [name for name, hint in hints.items() if name != "return" and _is_bytes(hint)]


def _is_bytes(hint: Any) -> bool:
    if hint in (bytes, bytearray, "bytes", "Optional[bytes]"):
        return True
    return typing.get_origin(hint) in UNIONS and any(_is_bytes(h) for h in typing.get_args(hint))


def _key(key: Any) -> str:
    if isinstance(key, enum.Enum):
        key = key.value
    return key if isinstance(key, str) else str(key)


def _unfit(message: str) -> PluginError:
    return PluginError(ErrorCodes.PLUGIN_EXCEPTION, message)
