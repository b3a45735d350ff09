"""The guide's code blocks, as they stand: each runs, and its plugins serve."""

from __future__ import annotations

import abc
import inspect
import json
import textwrap
import unittest
from typing import Any, Dict

from bespoke_sdk import audio, names
from bespoke_sdk.manifest import Manifest
from contracts import base, llm_contract, stt_contract, tts_contract
from tests.kit import GUIDE, Folder, PluginError, block

#: Blocks of methods without their class.
METHODS = (8, 11, 18, 19, 20, 21, 22)
#: Whole modules, but for the two plugins and the test file, which have tests of their own.
MODULES = (3, 4, 5, 6, 9, 12)


class Blocks(Folder):
    """All blocks."""

    def run_block(self, number: int) -> Dict[str, Any]:
        names.install()
        code = block(number)
        if number in METHODS:
            code = "class Snippet:\n" + textwrap.indent(code, "    ")
        scope: Dict[str, Any] = {"__name__": f"block_{number}"}
        exec(compile(code, f"block_{number:02}", "exec"), scope)
        return scope

    def test_every_python_block_is_run_by_a_test(self) -> None:
        python = {int(path.stem.partition("_")[2]) for path in GUIDE.glob("block_*.python")}
        self.assertEqual(python, {*METHODS, *MODULES, 2, 17, 24})

    def test_blocks_run(self) -> None:
        for number in (*METHODS, *MODULES):
            with self.subTest(block=number):
                self.run_block(number)

    def test_only_what_the_guide_calls_abstract_is_abstract(self) -> None:
        theirs = self.run_block(3)["PluginBase"].__abstractmethods__
        self.assertEqual(theirs, {"initialize", "shutdown", "health_check"})
        for contract in (base.PluginBase, tts_contract.TTSContract, stt_contract.STTContract, llm_contract.LLMContract):
            self.assertEqual(contract.__abstractmethods__, theirs)

    def test_the_contracts_have_the_guides_methods(self) -> None:
        for number, ours in ((4, tts_contract.TTSContract), (5, stt_contract.STTContract), (6, llm_contract.LLMContract)):
            theirs = self.run_block(number)["MyPlugin"]
            self.assertTrue(issubclass(theirs, ours))
            for name, method in vars(theirs).items():
                if inspect.isfunction(method):
                    mine = list(inspect.signature(getattr(ours, name)).parameters)
                    self.assertEqual(mine, list(inspect.signature(method).parameters), name)

    def test_errors_are_raised_as_the_guide_raises_them(self) -> None:
        import asyncio

        plugin = self.run_block(9)["MyPlugin"]
        for text, kind in (("", ValueError), ("x" * 10001, PluginError)):
            with self.assertRaises(kind) as caught:
                asyncio.run(plugin.synthesize(None, text))
        self.assertEqual(caught.exception.code, 1002)

        class ModelError(Exception):
            pass

        scope = self.run_block(19)
        scope["synthesize"], scope["ModelError"] = scope["Snippet"].synthesize, ModelError

        class Broken(scope["Snippet"]):
            async def _do_synthesis(self, text: str, voice: Any) -> bytes:
                raise ModelError("no engine")

        broken = Broken()
        with self.assertRaises(PluginError) as caught:
            asyncio.run(broken.synthesize("x"))
        self.assertEqual((caught.exception.code, caught.exception.message), (1000, "Synthesis failed: no engine"))
        self.assertEqual(broken._status, base.PluginStatus.ERROR)

    def test_the_health_of_the_guide(self) -> None:
        health = self.run_block(8)["Snippet"]().health_check()
        self.assertEqual((health.status, health.latency_ms, health.memory_mb), (base.PluginStatus.READY, 2.5, 256.0))
        table = "UNLOADED INITIALIZING READY BUSY ERROR SHUTTING_DOWN STOPPED"
        self.assertEqual([status.name for status in base.PluginStatus], table.split())

    def test_state_as_the_guide_captures_it(self) -> None:
        complete = "\n    async def initialize(self, config): self._cache, self._settings = {}, {}\n"
        complete += "    async def shutdown(self): return True\n    def health_check(self): return HealthStatus(self._status)\n"
        complete += "    async def fill(self): self._cache = {'a': b'1'}\n    async def look(self): return self._cache\n"
        folder = self.plugin("stateful", "", "tts")
        (folder / "__init__.py").write_text(block(12) + complete)
        old, new = self.guest(folder), self.guest(folder)
        old.invoke("fill")
        new.call("plugin.restore_state", *old.end(old.begin("plugin.capture_state", {})))
        self.assertEqual(new.invoke("look"), {"a": {"base64": "MQ=="}})

    def test_the_guides_manifests_are_valid(self) -> None:
        for number in (1, 7):
            manifest = json.loads(block(number))
            folder = self.plugins / manifest["name"]
            folder.mkdir()
            (folder / "manifest.json").write_text(block(number), "utf-8")
            self.assertEqual(Manifest.find(folder).name, manifest["name"])
        for number in (10, 14):
            self.assertTrue(set(json.loads(block(number))) <= {"config_schema", "dependencies"})

    def test_the_quick_start_plugin_speaks(self) -> None:
        folder = self.plugins / "my_tts_plugin"
        folder.mkdir()
        (folder / "manifest.json").write_text(block(1), "utf-8")
        (folder / "__init__.py").write_text(block(2), "utf-8")
        guest = self.guest(folder)
        self.assertEqual(guest.hello["specs"], [{"kind": "tts", "spec": {"name": "my_tts_plugin", "sample_rate": 24000}}])
        self.assertEqual(guest.call("tts.voices", {}, name="my_tts_plugin"), [{"id": "default", "language": "en-US"}])
        id = guest.open("tts.open", {"voice": "default"}, name="my_tts_plugin")
        guest.tell("stream/data", b"Hello. And bye.", id=id)
        guest.tell("stream/finish", id=id)
        events = guest.events(id)
        self.assertEqual([event["audio"]["rate"] for event, _ in events], [24000, 24000])
        self.assertGreater(max(audio.floats(events[0][1])), 0.05)
        self.assertEqual(guest.call("plugin.vitals", {})["facts"]["message"], "Plugin operational")

    def test_the_complete_plugin_loads_and_reports_its_health(self) -> None:
        folder = self.plugin("example", "", "tts", entry_point="main")
        (folder / "main.py").write_text(block(24), "utf-8")
        guest = self.guest(folder)
        details = {"engine_loaded": False, "voices_count": 0}
        report = guest.invoke("health_check")
        self.assertEqual((report["status"], report["message"], report["details"]), ("ready", "TTS engine operational", details))
        # Its `_load_engine` is the author's to write: until then, using the engine is an error of the call.
        with self.assertRaises(PluginError) as caught:
            guest.invoke("get_voices")
        self.assertEqual(caught.exception.code, -32061)
        engine = """
            class Engine:
                def get_voices(self): return [{"id": "a", "language": "en"}]
                def synthesize(self, text, voice): return bytes(len(text) * 2)
                def unload(self): pass

            ExampleTTSPlugin._load_engine = lambda self, path: Engine()
        """
        folder = self.plugin("example_with_engine", "", "tts")
        (folder / "__init__.py").write_text(block(24) + textwrap.dedent(engine), "utf-8")
        guest = self.guest(folder)
        self.assertEqual(guest.invoke("get_voice_info", voice_id="a"), {"id": "a", "language": "en"})
        self.assertEqual(guest.invoke("synthesize", text="ab"), {"base64": "AAAAAA=="})
        with self.assertRaises(PluginError) as caught:
            guest.invoke("synthesize", text=" ")
        self.assertEqual((caught.exception.code, caught.exception.message), (-32602, "Text cannot be empty"))

    def test_a_contract_cannot_be_made_without_its_methods(self) -> None:
        self.assertTrue(issubclass(base.PluginBase, abc.ABC))
        with self.assertRaises(TypeError):
            tts_contract.TTSContract()


if __name__ == "__main__":
    unittest.main()
