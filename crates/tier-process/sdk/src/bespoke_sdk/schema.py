"""Holds a configuration against its JSON Schema. The common keywords only, in plain Python; ``jsonschema`` where it is installed.

Known: type, enum, const, properties, required, additionalProperties, items, minimum, maximum, exclusiveMinimum, exclusiveMaximum,
multipleOf, minLength, maxLength, pattern, minItems, maxItems, uniqueItems, minProperties, maxProperties, anyOf, oneOf, allOf, not,
and $ref within the document. Other keywords are passed over, ``format`` among them.
"""

from __future__ import annotations

import difflib
import importlib
import re
from typing import Any, Dict, List

__all__ = ["problems"]

_TYPES: Dict[str, Any] = {
    "object": dict,
    "array": list,
    "string": str,
    "boolean": bool,
    "null": type(None),
}
_DEEPEST = 64


def problems(value: Any, schema: Any) -> List[str]:
    """What does not fit, one sentence each, with its path; empty when all does."""
    try:
        library = importlib.import_module("jsonschema")
    except ImportError:
        return _Checker(schema).check(value, schema, "config", 0)
    validator = library.validators.validator_for(schema, default=library.Draft202012Validator)
    found = sorted(validator(schema).iter_errors(value), key=lambda e: list(map(str, e.absolute_path)))
    return [f"{'.'.join(['config', *map(str, e.absolute_path)])}: {e.message}" for e in found]


class _Checker:
    def __init__(self, root: Any) -> None:
        self._root = root

    def check(self, value: Any, schema: Any, path: str, depth: int) -> List[str]:
        if schema is True or depth > _DEEPEST:
            return []
        if schema is False:
            return [f"{path}: nothing is allowed here"]
        if not isinstance(schema, dict):
            return [f"{path}: the schema is no object"]
        out: List[str] = []
        if "$ref" in schema:
            out += self.check(value, self._resolve(schema["$ref"]), path, depth + 1)
        wanted = schema.get("type")
        if wanted is not None and not any(_is(value, t) for t in ([wanted] if isinstance(wanted, str) else wanted)):
            return [*out, f"{path}: {_short(value)} is not of type {wanted if isinstance(wanted, str) else ' or '.join(wanted)}"]
        if "enum" in schema and not any(_same(value, e) for e in schema["enum"]):
            out.append(f"{path}: {_short(value)} is none of {', '.join(map(_short, schema['enum']))}")
        if "const" in schema and not _same(value, schema["const"]):
            out.append(f"{path}: {_short(value)} is not {_short(schema['const'])}")
        if _is(value, "number"):
            out += _number(value, schema, path)
        elif isinstance(value, str):
            out += _string(value, schema, path)
        elif isinstance(value, list):
            out += self._array(value, schema, path, depth)
        elif isinstance(value, dict):
            out += self._object(value, schema, path, depth)
        return out + self._combined(value, schema, path, depth)

    def _array(self, value: List[Any], schema: Dict[str, Any], path: str, depth: int) -> List[str]:
        out = _count(len(value), schema, "Items", path, "items")
        if schema.get("uniqueItems") and any(_same(a, b) for i, a in enumerate(value) for b in value[:i]):
            out.append(f"{path}: an item stands there twice")
        if "items" in schema:
            for i, item in enumerate(value):
                out += self.check(item, schema["items"], f"{path}[{i}]", depth + 1)
        return out

    def _object(self, value: Dict[str, Any], schema: Dict[str, Any], path: str, depth: int) -> List[str]:
        out = _count(len(value), schema, "Properties", path, "keys")
        known = schema.get("properties", {})
        out += [f"{path}.{key}: is missing" for key in schema.get("required", []) if key not in value]
        patterns = schema.get("patternProperties", {})
        for key, item in value.items():
            matching = [sub for pattern, sub in patterns.items() if re.search(pattern, key)]
            if key in known:
                matching.append(known[key])
            for sub in matching:
                out += self.check(item, sub, f"{path}.{key}", depth + 1)
            more = schema.get("additionalProperties", True)
            if matching or more is True:
                continue
            if more is False:
                close = difflib.get_close_matches(key, known, 1)
                out.append(f"{path}.{key}: no such key" + (f"; did you mean `{close[0]}`?" if close else ""))
            else:
                out += self.check(item, more, f"{path}.{key}", depth + 1)
        return out

    def _combined(self, value: Any, schema: Dict[str, Any], path: str, depth: int) -> List[str]:
        out: List[str] = []
        for sub in schema.get("allOf", []):
            out += self.check(value, sub, path, depth + 1)
        for word in ("anyOf", "oneOf"):
            if word in schema:
                tried = [self.check(value, sub, path, depth + 1) for sub in schema[word]]
                fits = sum(not t for t in tried)
                if fits == 0:
                    out.append(f"{path}: {_short(value)} fits none of the {word} ({'; '.join(t[0] for t in tried)})")
                elif word == "oneOf" and fits > 1:
                    out.append(f"{path}: {_short(value)} fits {fits} of the oneOf instead of one")
        if "not" in schema and not self.check(value, schema["not"], path, depth + 1):
            out.append(f"{path}: {_short(value)} is what it must not be")
        return out

    def _resolve(self, ref: Any) -> Any:
        if not isinstance(ref, str) or not ref.startswith("#"):
            return True
        at = self._root
        for part in ref[1:].split("/")[1:]:
            part = part.replace("~1", "/").replace("~0", "~")
            if not isinstance(at, dict) or part not in at:
                return False
            at = at[part]
        return at


def _is(value: Any, kind: str) -> bool:
    if kind in ("number", "integer"):
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return False
        return kind == "number" or float(value).is_integer()
    if kind not in _TYPES:
        return False
    return isinstance(value, _TYPES[kind])


def _same(a: Any, b: Any) -> bool:
    """Equality of JSON: ``true`` is not 1."""
    return isinstance(a, bool) == isinstance(b, bool) and a == b


def _number(value: float, schema: Dict[str, Any], path: str) -> List[str]:
    out = []
    if "minimum" in schema and value < schema["minimum"]:
        out.append(f"{path}: {value} is less than {schema['minimum']}")
    if "maximum" in schema and value > schema["maximum"]:
        out.append(f"{path}: {value} is more than {schema['maximum']}")
    if "exclusiveMinimum" in schema and value <= schema["exclusiveMinimum"]:
        out.append(f"{path}: {value} is not more than {schema['exclusiveMinimum']}")
    if "exclusiveMaximum" in schema and value >= schema["exclusiveMaximum"]:
        out.append(f"{path}: {value} is not less than {schema['exclusiveMaximum']}")
    if "multipleOf" in schema and not float(value / schema["multipleOf"]).is_integer():
        out.append(f"{path}: {value} is no multiple of {schema['multipleOf']}")
    return out


def _string(value: str, schema: Dict[str, Any], path: str) -> List[str]:
    out = _count(len(value), schema, "Length", path, "characters")
    if "pattern" in schema and not re.search(schema["pattern"], value):
        out.append(f"{path}: {_short(value)} does not match {schema['pattern']}")
    return out


def _count(count: int, schema: Dict[str, Any], what: str, path: str, unit: str) -> List[str]:
    out = []
    if count < schema.get(f"min{what}", 0):
        out.append(f"{path}: {count} {unit} are fewer than {schema[f'min{what}']}")
    if count > schema.get(f"max{what}", count):
        out.append(f"{path}: {count} {unit} are more than {schema[f'max{what}']}")
    return out


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
