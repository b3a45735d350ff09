"""docs/python.md: every block of it runs. docs/protocol.md: every message of it is known here."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import unittest
from pathlib import Path
from typing import Any, Dict

from bespoke_sdk import host_client, serve, session
from tests.kit import LIMIT, SDK, Folder, PluginError, environment

DOCS = SDK.parent.parent.parent / "docs"
TEXT = (DOCS / "python.md").read_text("utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", TEXT, re.M | re.S)


def block(word: str, language: str = "python") -> str:
    """The one block in which a word stands."""
    (found,) = (body for lang, body in BLOCKS if lang == language and word in body)
    return found


class Page(Folder):
    """The page for authors."""

    def serve(self, name: str, contract: str, word: str, **manifest: Any) -> Any:
        folder = self.plugin(name, "", contract, **manifest)
        (folder / "__init__.py").write_text(block(word), "utf-8")
        return self.guest(folder)

    def test_every_block_is_run_by_a_test(self) -> None:
        classes = ("Dice", "Beeper", "Parrot", "Weather", "Cup", "Counter", "Careful")
        words = [f"class {name}" for name in classes] + ["import Beeper"]
        self.assertEqual({block(word) for word in words}, {body for language, body in BLOCKS if language == "python"})
        self.assertEqual(sorted(language for language, _ in BLOCKS if language != "python"), ["json", "sh", "sh", "toml", "toml"])
        # The script of the stand-in names the tool above.
        self.assertIn('name = "dice", args = { sides = 20 }', block("[plugins.fake]", "toml"))
        # The first command; tests/with_pytest.py runs it in full, and the test file.
        path = block("pip install", "sh").split()[-1]
        self.assertEqual((DOCS.parent / path).resolve(), SDK)
        self.assertTrue((SDK / "pyproject.toml").is_file())

    def test_the_tool_and_its_command_line(self) -> None:
        folder = self.plugins / "dice"
        folder.mkdir()
        (folder / "manifest.json").write_text(block('"dice"', "json"), "utf-8")
        (folder / "__init__.py").write_text(block("class Dice"), "utf-8")
        guest = self.guest(folder)
        self.assertEqual(guest.hello["specs"][0]["spec"]["description"], "Rolls dice.")
        self.assertEqual(guest.call("tool.call", {"args": {"sides": 1, "count": 3}}, name="dice")["data"], [1, 1, 1])
        (self.root / "bin").mkdir()
        (self.root / "bin" / "python").symlink_to(sys.executable)
        env = environment(PATH=f"{self.root}/bin{os.pathsep}{os.environ['PATH']}")
        command = ["sh", "-c", block("plugins._host", "sh")]
        done = subprocess.run(command, cwd=self.root, env=env, capture_output=True, text=True, timeout=LIMIT, check=False)
        answers = {answer["id"]: answer["result"] for answer in map(json.loads, done.stdout.splitlines())}
        self.assertEqual(answers[1]["status"], "ready")
        self.assertIn(answers[2][0], range(1, 21))

    def test_speech(self) -> None:
        guest = self.serve("beeper", "tts", "class Beeper")
        id = guest.open("tts.open", {}, name="beeper")
        guest.tell("stream/data", b"Hi", id=id)
        guest.tell("stream/finish", id=id)
        ((event, blob),) = guest.events(id)
        self.assertEqual((event["audio"]["rate"], len(blob)), (24000, 2000 * 4))
        self.assertEqual(guest.call("plugin.vitals", {})["facts"]["pitch"], "440")

    def test_streaming(self) -> None:
        guest = self.serve("parrot", "llm", "class Parrot")
        id = guest.begin("provider.chat", {"messages": [{"role": "user", "text": "a b"}]}, name="parrot")
        guest.end(id)
        texts = [event.get("text") for event, _ in guest.events(id)]
        self.assertEqual(texts, ["a ", "b ", None])

    @unittest.skipIf(sys.version_info < (3, 11), "reads TOML with the library of Python 3.11")
    def test_a_command(self) -> None:
        folder = self.plugins / "dice-cup"
        folder.mkdir()
        (folder / "plugin.toml").write_text(block('"dice-cup"', "toml"), "utf-8")
        (folder / "cup.py").write_text(block("class Cup"), "utf-8")
        guest = self.guest(folder)
        spec = {"name": "cup", "about": "Rolls dice.", "usage": "cup [COUNT]", "require_auth": False}
        self.assertEqual(guest.hello["specs"], [{"kind": "command", "spec": spec}])
        id = guest.begin("command.run", {"args": ["3"]}, name="cup")
        self.assertEqual(guest.end(id)[0], 0)
        for _ in range(3):
            self.assertRegex(guest.take("$/output", id).head["params"]["line"], "^[1-6]$")
        id = guest.begin("command.run", {"args": ["many"]}, name="cup")
        self.assertEqual(guest.end(id)[0], 2)
        self.assertEqual(guest.take("$/output", id).head["params"]["note"], "`many` is no number of dice")

    def test_the_host(self) -> None:
        guest = self.serve("weather", "tool", "class Weather")
        id = guest.begin("tool.call", {"args": {"city": "Rome"}}, name="weather")
        answers = {1: ("key", b""), 2: ({"status": 200, "headers": []}, b""), 3: (None, b"")}
        for number, (result, blob) in answers.items():
            guest.take("request", number)
            guest.send({"id": number, "result": result}, blob)
        guest.tell("stream/event", b"sun", id=2, event=[])
        guest.tell("stream/end", id=2)
        self.assertEqual(guest.end(id)[0]["content"], [{"type": "text", "text": "sun"}])
        id = guest.begin("tool.call", {"args": {}}, name="last")
        guest.take("request", 4)
        guest.send({"id": 4, "result": []}, b"Rome")
        self.assertEqual(guest.end(id)[0]["content"], [{"type": "text", "text": "Rome"}])

    def test_state(self) -> None:
        old, new = self.serve("counter", "tool", "class Counter"), self.guest(self.plugins / "counter")
        old.invoke("call")
        new.call("plugin.restore_state", *old.end(old.begin("plugin.capture_state", {})))
        self.assertEqual(new.invoke("call"), 2)

    def test_errors(self) -> None:
        guest = self.serve("careful", "tool", "class Careful")
        self.assertEqual(guest.invoke("call", text="7"), 7)
        for text, code in (("x", -32602), ("1" * 21, -32050)):
            with self.assertRaises(PluginError) as caught:
                guest.invoke("call", text=text)
            self.assertEqual(caught.exception.code, code)


class Protocol(unittest.TestCase):
    """The page of the wire."""

    def messages(self, side: str) -> Dict[str, Any]:
        """Methods that a side calls, with their params."""
        out = {}
        for line in (DOCS / "protocol.md").read_text("utf-8").splitlines():
            if line.startswith(f"{side} {{"):
                head, _ = json.JSONDecoder().raw_decode(line[2:])
                method, params = head.get("method", ""), head.get("params", {})
                if method == "stream/open":
                    out[params["method"]] = params
                elif "id" in head and method:
                    out[method] = params
        return out

    def test_every_call_of_the_host_is_served(self) -> None:
        known = {*serve.CALLS, *serve.CHATS, *serve.STREAMS}
        source = Path(session.__file__).read_text("utf-8")
        asked = {method for method in self.messages("→") if method != "accelerator.devices"}
        self.assertGreater(len(asked), 20)
        self.assertEqual({m for m in asked if m not in known and f'"{m}"' not in source}, set())

    def test_every_call_of_the_plugin_can_be_made(self) -> None:
        source = Path(host_client.__file__).read_text("utf-8")
        asked = self.messages("←")
        self.assertGreater(len(asked), 8)
        self.assertEqual({m for m in asked if f'"{m}"' not in source}, set())


if __name__ == "__main__":
    unittest.main()
