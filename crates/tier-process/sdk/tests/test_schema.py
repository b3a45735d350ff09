"""The validator of configurations, keyword by keyword, in plain Python."""

from __future__ import annotations

import sys
import unittest
from typing import Any
from unittest import mock

from bespoke_sdk import schema

CASES = [
    # schema, what fits, what does not
    ({"type": "integer"}, [1, 2.0, -3], [True, 1.5, "1", None]),
    ({"type": "number"}, [1, 1.5], [True, "1"]),
    ({"type": ["string", "null"]}, ["", None], [0]),
    ({"type": "boolean"}, [True], [1, 0]),
    ({"enum": ["cpu", 1]}, ["cpu", 1], ["cuda", True]),
    ({"const": False}, [False], [0, None]),
    ({"minimum": 1, "maximum": 300}, [1, 300], [0, 301]),
    ({"exclusiveMinimum": 0, "exclusiveMaximum": 1}, [0.5], [0, 1]),
    ({"multipleOf": 5}, [10, 0], [7]),
    ({"minLength": 1, "maxLength": 2, "pattern": "^a"}, ["a", "ab"], ["", "b", "abc"]),
    ({"items": {"type": "string"}, "minItems": 1, "maxItems": 2, "uniqueItems": True}, [["a"]], [[], [1], ["a", "a"], ["a", "b", "c"]]),
    ({"properties": {"a": {"type": "string"}}, "required": ["a"]}, [{"a": "", "b": 1}], [{}, {"a": 1}]),
    ({"properties": {"a": True}, "additionalProperties": False}, [{"a": 1}, {}], [{"b": 1}]),
    ({"additionalProperties": {"type": "integer"}, "maxProperties": 1}, [{"a": 1}], [{"a": "1"}, {"a": 1, "b": 2}]),
    ({"anyOf": [{"type": "string"}, {"minimum": 5}]}, ["", 5], [4]),
    ({"oneOf": [{"multipleOf": 2}, {"multipleOf": 3}]}, [2, 3], [6, 5]),
    ({"allOf": [{"minimum": 1}, {"maximum": 2}]}, [1], [0, 3]),
    ({"not": {"type": "null"}}, [0], [None]),
    ({"$defs": {"a/b": {"type": "string"}}, "$ref": "#/$defs/a~1b"}, ["x"], [1]),
    (True, [1], []),
    (False, [], [1]),
]


class Validator(unittest.TestCase):
    """Each keyword."""

    def problems(self, value: Any, of: Any) -> Any:
        with mock.patch.dict(sys.modules, {"jsonschema": None}):
            return schema.problems(value, of)

    def test_keywords(self) -> None:
        for of, good, bad in CASES:
            for value in good:
                self.assertEqual(self.problems(value, of), [], (of, value))
            for value in bad:
                self.assertTrue(self.problems(value, of), (of, value))

    def test_a_problem_names_its_place_and_a_close_key(self) -> None:
        of = {"properties": {"voice": {"properties": {"name": {"type": "string"}}}}, "additionalProperties": False}
        found = self.problems({"voice": {"name": 7}, "vioce": 1}, of)
        self.assertEqual(found, ["config.voice.name: 7 is not of type string", "config.vioce: no such key; did you mean `voice`?"])

    def test_a_schema_that_holds_itself_ends(self) -> None:
        self.assertEqual(self.problems(1, {"$ref": "#"}), [])


if __name__ == "__main__":
    unittest.main()
