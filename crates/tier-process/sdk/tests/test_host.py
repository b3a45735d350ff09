"""``python -m plugins._host``: its methods, codes, exit codes, and the recorded defects of the host that it stands in for."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
import unittest
from pathlib import Path
from typing import Any, Dict, List, Optional
from unittest import mock

from bespoke_sdk.errors import ErrorCodes
from tests.kit import LIMIT, Folder, block, environment

PLUGIN = """
    import asyncio, dataclasses, os, sys, time
    from contracts.base import HealthStatus, PluginError, PluginStatus
    from contracts.tts_contract import TTSContract, SynthesisResult

    class Speaker(TTSContract):
        async def initialize(self, config):
            self.config, self.count = config, 0
            if config.get("voice") == "broken":
                raise RuntimeError("no such engine")
            return True

        async def shutdown(self):
            return True

        def health_check(self):
            if self.config.get("voice") == "stuck":
                time.sleep(3600)
            return HealthStatus(self._status, "fine", {"count": self.count}, latency_ms=1.5, memory_mb=2.0)

        async def synthesize(self, text, voice_id=None):
            return SynthesisResult(b"ab", text=text, voice_id=voice_id)

        def get_voices(self):
            return [{"id": self.config.get("voice", "none"), "language": "en"}]

        async def count_up(self):
            self.count += 1
            return self.count

        async def slow(self, seconds: float):
            await asyncio.sleep(seconds)
            return "done"

        async def hold(self):
            time.sleep(3600)

        def leave(self):
            sys.exit(7)

        def die(self):
            os._exit(9)

        def missing(self):
            raise PluginError(1001, "not found: manifest initialize failed")

        def capture_state(self):
            return {"count": self.count}

        def restore_state(self, state):
            if self.config.get("voice") == "forgetful":
                raise ValueError("what state?")
            self.count = state["count"]
"""
SCHEMA = {"type": "object", "properties": {"voice": {"type": "string"}}, "additionalProperties": False}


class Host:
    """A host under test."""

    def __init__(self, root: Path, *flags: str) -> None:
        pipe = subprocess.PIPE
        command = [sys.executable, "-m", "plugins._host", *flags]
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, cwd=root, env=environment())
        self.answers: queue.Queue[Any] = queue.Queue()
        self.log: List[bytes] = []
        self._kept: Dict[Any, Any] = {}
        self._next = 0
        assert self.process.stdout and self.process.stderr
        self._threads = [
            threading.Thread(target=lambda: [self.answers.put(json.loads(line)) for line in self.process.stdout], daemon=True),
            threading.Thread(target=lambda: self.log.extend(self.process.stderr), daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def write(self, line: str) -> None:
        assert self.process.stdin
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()

    def begin(self, method: str, /, **params: Any) -> int:
        self._next += 1
        self.write(json.dumps({"jsonrpc": "2.0", "id": self._next, "method": method, "params": params}))
        return self._next

    def take(self) -> Any:
        try:
            return self.answers.get(timeout=LIMIT)
        except queue.Empty:
            raise AssertionError(f"no answer; the log: {b''.join(self.log).decode()}") from None

    def end(self, id: Any) -> Any:
        while id not in self._kept:
            answer = self.take()
            self._kept[answer["id"]] = answer
        return self._kept.pop(id)

    def call(self, method: str, /, **params: Any) -> Any:
        answer = self.end(self.begin(method, **params))
        assert "result" in answer, answer
        return answer["result"]

    def error(self, method: str, /, **params: Any) -> Dict[str, Any]:
        answer = self.end(self.begin(method, **params))
        assert "error" in answer, answer
        return answer["error"]

    def close(self) -> int:
        assert self.process.stdin
        if not self.process.stdin.closed:
            with contextlib.suppress(OSError):
                self.process.stdin.close()
        try:
            code = self.process.wait(LIMIT)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        for thread in self._threads:
            thread.join(LIMIT)
        for stream in (self.process.stdout, self.process.stderr):
            stream.close()
        return code


class Hosts(Folder):
    """A host over a folder of plugins."""

    def setUp(self) -> None:
        super().setUp()
        self.plugin("speaker", PLUGIN, "tts", config_schema=SCHEMA, default_config={"voice": "anna"}, display_name="Speaker")

    def host(self, *flags: str) -> Host:
        host = Host(self.root, *flags)
        self.addCleanup(host.close)
        return host

    def loaded(self, config: Optional[Dict[str, Any]] = None) -> Host:
        host = self.host()
        host.call("plugin/load", name="speaker", **({} if config is None else {"config": config}))
        return host

    def test_methods_and_shapes(self) -> None:
        host = self.host()
        self.assertEqual(host.call("ping"), "pong")
        row = {"name": "speaker", "version": "1.0.0", "contract": "tts", "path": str(self.plugins / "speaker")}
        self.assertEqual(host.call("plugin/list"), [{**row, "valid": True, "loaded": False, "errors": []}])
        loaded = host.call("plugin/load", name="speaker")
        more = {"initialized": True, "status": "ready", "display_name": "Speaker", "description": "", "load_errors": []}
        self.assertEqual(loaded, {**row, **more})
        health = {"plugin": "speaker", "status": "ready", "message": "fine", "details": {"count": 0}}
        health.update(latency_ms=1.5, memory_mb=2.0)
        self.assertEqual(host.call("plugin/health", name="speaker"), health)
        self.assertEqual(host.call("plugin/health"), {"speaker": health})
        self.assertEqual(host.call("plugin/get_config_schema", plugin_id="speaker"), {"plugin_id": "speaker", "config_schema": SCHEMA})
        status = host.call("status")
        self.assertEqual((status["loaded"], status["error_count"]), (["speaker"], 0))
        self.assertIn("plugin/call", status["registered_methods"])
        self.assertEqual(host.call("plugin/unload", name="speaker"), {"success": True, "plugin": "speaker"})
        self.assertEqual(host.error("plugin/health", name="speaker")["code"], -32001)
        self.assertEqual(host.call("shutdown", reason="test")["status"], "shutting_down")
        self.assertEqual(host.close(), 0)

    def test_seed003_1_plugin_call_and_contract_method(self) -> None:
        host = self.loaded()
        result = {"audio_data": {"base64": "YWI="}, "format": "wav", "sample_rate": 24000, "duration_ms": None}
        result.update(text="Hi", voice_id=None, metadata={})
        self.assertEqual(host.call("plugin/call", plugin="speaker", method="synthesize", args={"text": "Hi"}), result)
        # Seed 003, defect 2: a dataclass; 3: a sync method; 13: a plugin addressed by name.
        self.assertEqual(host.call("tts/synthesize", text="Hi"), result)
        self.assertEqual(host.call("tts/get_voices"), [{"id": "anna", "language": "en"}])
        self.assertEqual(host.call("tts/get_voices", plugin="speaker"), [{"id": "anna", "language": "en"}])
        self.assertEqual(host.error("tts/voice/set")["code"], -32601)
        self.assertEqual(host.error("stt/transcribe")["code"], -32001)
        self.assertEqual(host.error("oracle/ask")["code"], -32601)

    def test_seed003_4_a_long_line_is_a_request_like_others(self) -> None:
        host = self.loaded()
        text = "a" * (3 << 20)
        self.assertEqual(host.call("tts/synthesize", text=text)["text"], text)

    def test_seed003_6_a_time_out_holds_while_the_plugin_blocks(self) -> None:
        host = self.loaded()
        self.assertEqual(host.error("plugin/call", plugin="speaker", method="hold", timeout=0.2)["code"], -32060)
        self.assertEqual(host.call("ping"), "pong")

    def test_seed003_7_sys_exit_does_not_end_the_host(self) -> None:
        host = self.loaded()
        error = host.error("plugin/call", plugin="speaker", method="leave")
        self.assertEqual((error["code"], error["data"]["plugin"]), (-32061, "speaker"))
        self.assertEqual(host.call("plugin/call", plugin="speaker", method="count_up"), 1)

    def test_seed003_8_a_slow_call_holds_nobody(self) -> None:
        host = self.loaded()
        slow = host.begin("plugin/call", plugin="speaker", method="slow", args={"seconds": 3600}, timeout=7200)
        self.assertEqual(host.call("ping"), "pong")
        self.assertEqual(host.call("plugin/health", name="speaker")["status"], "busy")
        host.write(json.dumps({"jsonrpc": "2.0", "method": "$/cancel", "params": {"id": slow}}))
        self.assertEqual(host.end(slow)["error"]["code"], -32800)

    def test_seed003_9_scalars_and_batches(self) -> None:
        host = self.host()
        for line, code in (("42", -32600), ("{", -32700), ("[]", -32600), ('"x"', -32600), ("{}", -32600), ("[" * 99_999, -32700)):
            host.write(line)
            self.assertEqual(host.take()["error"]["code"], code, line[:9])
        one = {"jsonrpc": "2.0", "method": "ping"}
        host.write(json.dumps([{**one, "id": "a"}, one, 7, {**one, "id": None}, {**one, "id": 2, "method": "none"}]))
        answers = host.take()
        got = [(a["id"], a.get("result") or a["error"]["code"]) for a in answers]
        self.assertEqual(got, [("a", "pong"), (None, -32600), (None, "pong"), (2, -32601)])
        host.write(json.dumps([one]))
        host.write(json.dumps(one))
        self.assertEqual(host.call("ping"), "pong")

    def test_seed003_10_a_plugin_that_does_not_load_says_why(self) -> None:
        self.plugin("bad", "import nothing_of_this_name", "tts")
        (self.plugins / "empty").mkdir()
        host = self.host()
        error = host.error("plugin/load", name="bad")
        self.assertEqual(error["code"], -32051)
        self.assertIn("nothing_of_this_name", error["message"])
        self.assertEqual(host.error("plugin/load", name="empty")["code"], -32013)
        for number, (key, word) in enumerate((("verison", "did you mean `version`"), ("name", "differs from the folder"))):
            path = self.plugin(f"wrong{number}", "", "tts") / "manifest.json"
            path.write_text(json.dumps({**json.loads(path.read_text()), key: "other"}))
            error = host.error("plugin/load", name=f"wrong{number}")
            self.assertEqual(error["code"], -32012)
            self.assertIn(word, error["message"])
        self.assertEqual(host.error("plugin/load", name="../speaker")["code"], -32000)
        self.assertEqual(host.error("plugin/load")["code"], -32602)
        error = host.error("plugin/load", name="speaker", config={"voice": "broken"})
        self.assertEqual(error["code"], -32003)
        self.assertIn("no such engine", error["message"])
        self.assertEqual(host.call("status")["loaded"], [])

    def test_seed003_11_loading_twice_applies_the_config_or_refuses(self) -> None:
        host = self.loaded()
        self.assertEqual(host.error("plugin/load", name="speaker")["code"], -32005)
        host.call("plugin/call", plugin="speaker", method="count_up")
        host.call("plugin/load", name="speaker", config={"voice": "bert"})
        self.assertEqual(host.call("tts/get_voices")[0]["id"], "bert")
        self.assertEqual(host.call("plugin/call", plugin="speaker", method="count_up"), 2)
        self.assertEqual(host.error("plugin/load", name="speaker", config={"voice": "broken"})["code"], -32003)
        self.assertEqual(host.call("tts/get_voices")[0]["id"], "bert")

    def test_seed003_12_codes_do_not_come_from_words(self) -> None:
        host = self.loaded()
        error = host.error("plugin/call", plugin="speaker", method="missing")
        self.assertEqual((error["code"], error["kind"]), (1001, "TTS_VOICE_NOT_FOUND"))
        self.assertEqual(host.error("plugin/call", plugin="speaker", method="no_such")["code"], -32601)
        self.assertEqual(host.error("plugin/call", plugin="nobody", method="x")["code"], -32000)

    def test_seed003_14_a_plugin_that_died_is_started_again(self) -> None:
        host = self.loaded({"voice": "bert"})
        for _ in range(3):
            error = host.error("plugin/call", plugin="speaker", method="die")
            self.assertEqual((error["code"], error["retryable"]), (-32062, True))
            self.assertEqual(host.call("tts/get_voices")[0]["id"], "bert")
        host.error("plugin/call", plugin="speaker", method="die")
        error = host.error("tts/get_voices")
        self.assertEqual(error["code"], -32062)
        self.assertIn("left alone", error["message"])
        host.call("plugin/unload", name="speaker")
        host.call("plugin/load", name="speaker")

    def test_seed003_15_a_config_is_held_against_the_schema(self) -> None:
        host = self.host()
        for config, word in (({"voice": 7}, "voice"), ({"vioce": "x"}, "vioce"), ([], "object")):
            error = host.error("plugin/load", name="speaker", config=config)
            self.assertEqual(error["code"], -32602)
            self.assertIn(word, error["message"])
        (self.root / "config").mkdir()
        (self.root / "config" / "speaker.json").write_text('{"voice": "carl"}')
        host.call("plugin/load", name="speaker")
        self.assertEqual(host.call("tts/get_voices")[0]["id"], "carl")

    def test_seed003_16_swap_overlaps_drains_and_hands_over_state(self) -> None:
        self.plugin("speaker2", PLUGIN, "tts", default_config={"voice": "two"})
        host = self.loaded()
        for _ in range(3):
            host.call("plugin/call", plugin="speaker", method="count_up")
        slow = host.begin("plugin/call", plugin="speaker", method="slow", args={"seconds": 0.3})
        swap = host.begin("plugin/swap", old="speaker", new="speaker2")
        held = [host.begin("tts/count_up") for _ in range(20)]
        self.assertEqual(host.end(slow)["result"], "done")
        result = host.end(swap)["result"]
        self.assertEqual((result["success"], result["rollback_performed"], result["errors"]), (True, False, []))
        self.assertEqual(sorted(host.end(id)["result"] for id in held), list(range(4, 24)))
        self.assertEqual(host.call("tts/get_voices")[0]["id"], "two")
        self.assertEqual(host.error("plugin/call", plugin="speaker", method="count_up")["code"], -32001)

    def test_a_swap_that_fails_leaves_the_old_one(self) -> None:
        self.plugin("forgetful", PLUGIN, "tts", default_config={"voice": "forgetful"})
        self.plugin("other", "from contracts.tool_contract import ToolContract\nclass A(ToolContract): pass\n", "tool")
        host = self.loaded()
        host.call("plugin/call", plugin="speaker", method="count_up")
        error = host.error("plugin/swap", old="speaker", new="forgetful")
        self.assertEqual((error["code"], error["data"]["details"]["rollback_performed"]), (-32020, True))
        self.assertEqual(host.error("plugin/swap", old="speaker", new="other")["code"], -32010)
        self.assertEqual(host.error("plugin/swap", old="speaker", new="nobody")["code"], -32000)
        self.assertEqual(host.call("plugin/call", plugin="speaker", method="count_up"), 2)

    def test_a_health_check_that_hangs_is_timed_out(self) -> None:
        host = self.loaded({"voice": "stuck"})
        self.assertEqual(host.error("plugin/health", name="speaker")["code"], -32040)
        self.assertEqual(host.call("plugin/health")["speaker"]["details"], {"code": -32040})
        self.assertEqual(host.call("tts/get_voices")[0]["id"], "stuck")

    def test_a_call_right_behind_a_load_finds_the_plugin(self) -> None:
        host = self.host()
        load, call = host.begin("plugin/load", name="speaker"), host.begin("tts/get_voices")
        self.assertEqual(host.end(call)["result"][0]["id"], "anna")
        self.assertIn("result", host.end(load))

    def test_exit_codes(self) -> None:
        host = self.host()
        host.call("ping")
        self.assertEqual(host.close(), 4)
        for number, code in ((signal.SIGINT, 2), (signal.SIGTERM, 3)):
            host = self.loaded()
            host.process.send_signal(number)
            self.assertEqual(host.process.wait(LIMIT), code)
        self.assertEqual(self.host("--plugins-dir", "nowhere").process.wait(LIMIT), 1)
        self.assertEqual(self.host("--no-such-flag").process.wait(LIMIT), 1)
        done = subprocess.run([sys.executable, "-m", "plugins._host", "--version"], env=environment(), capture_output=True, check=False)
        self.assertEqual((done.returncode, done.stdout[:13]), (0, b"plugins._host"))

    def test_auto_load_brings_up_the_others(self) -> None:
        self.plugin("bad", "raise KeyError('x')", "tts")
        host = self.host("--auto-load", "--log-level", "debug")
        self.assertEqual(host.call("status")["loaded"], ["speaker"])
        host.close()
        self.assertIn(b"bad does not load", b"".join(host.log))
        self.assertIn("bad does not load", (self.root / "logs" / "launcher.log").read_text())

    def test_no_guest_outlives_its_host(self) -> None:
        host = self.loaded()
        pid = host.call("plugin/call", plugin="speaker", method="slow", args={"seconds": 0}) and self.children(host)
        self.assertTrue(pid)
        host.process.kill()
        until = time.monotonic() + LIMIT
        while any(Path(f"/proc/{p}").exists() and "Z" not in Path(f"/proc/{p}/stat").read_text().rpartition(")")[2][:3] for p in pid):
            self.assertLess(time.monotonic(), until)
            time.sleep(0.05)

    def children(self, host: Host) -> List[str]:
        return Path(f"/proc/{host.process.pid}/task/{host.process.pid}/children").read_text().split()


class Dependencies(Folder):
    """What a plugin needs."""

    CODE = "from contracts.tool_contract import ToolContract\nclass A(ToolContract):\n    def call(self): return 1\n"

    def test_seed003_versions_are_compared_and_nothing_is_installed_unasked(self) -> None:
        self.plugin("fits", self.CODE, dependencies=["pip>=1"])
        self.plugin("newer", self.CODE, dependencies=["pip>=9999"])
        self.plugin("absent", self.CODE)
        (self.plugins / "absent" / "requirements.txt").write_text("no-such-distribution-anywhere==1\n# a remark\n")
        host = Host(self.root)
        self.addCleanup(host.close)
        host.call("plugin/load", name="fits")
        for name, word in (("newer", "pip"), ("absent", "no-such-distribution-anywhere")):
            error = host.error("plugin/load", name=name)
            self.assertEqual(error["code"], -32051)
            self.assertIn(word, error["message"])
            self.assertIn("--auto-install-deps", error["help"])
            self.assertFalse((self.plugins / name / ".venv").exists())

    def test_asked_for_they_go_into_an_environment_of_the_plugin(self) -> None:
        package = self.root / "package"
        package.mkdir()
        wheel(package)
        code = "import sys, thing\nfrom contracts.tool_contract import ToolContract\n"
        code += "class A(ToolContract):\n    def call(self): return [thing.VALUE, sys.prefix]\n"
        folder = self.plugin("needy", code, dependencies=["thing>=1"])
        (folder / "requirements.txt").write_text("thing==1.0  # a remark\n")
        settings = mock.patch.dict(os.environ, PIP_NO_INDEX="1", PIP_FIND_LINKS=str(package))
        settings.start()
        self.addCleanup(settings.stop)
        for flag in ("--auto-install-deps", "--sync-mode"):
            # The second time it is there, and used without being asked for.
            host = Host(self.root, flag)
            host.call("plugin/load", name="needy")
            self.assertEqual(host.call("plugin/call", plugin="needy", method="call"), [7, str(folder / ".venv")])
            self.assertEqual(host.close(), 4)
        failed = subprocess.run([sys.executable, "-c", "import thing"], capture_output=True, check=False)
        self.assertNotEqual(failed.returncode, 0, "it was installed into the host's Python")


    def test_lines_of_requirements_are_packages_and_no_options(self) -> None:
        marker = self.root / "marker"
        lines = (f"--log={marker}", f"--target={marker}", "-e .", "./thing", f"thing @ file://{marker}", "file:thing.whl")
        for number, line in enumerate(lines):
            (self.plugin(f"p{number}", self.CODE) / "requirements.txt").write_text(f"# a remark\n{line}\n")
            self.plugin(f"q{number}", self.CODE, dependencies=[line])
        host = Host(self.root, "--auto-install-deps")
        self.addCleanup(host.close)
        for number, line in enumerate(lines):
            error = host.error("plugin/load", name=f"p{number}")
            self.assertEqual(error["code"], int(ErrorCodes.MANIFEST_INVALID), (line, error))
            self.assertIn("requirements.txt:2", error["message"])
            error = host.error("plugin/load", name=f"q{number}")
            self.assertEqual(error["code"], int(ErrorCodes.MANIFEST_INVALID), (line, error))
        self.assertFalse(marker.exists())


def wheel(folder: Path) -> None:
    """A distribution `thing` 1.0, to be installed without a network."""
    import zipfile

    with zipfile.ZipFile(folder / "thing-1.0-py3-none-any.whl", "w") as file:
        file.writestr("thing.py", "VALUE = 7\n")
        info = "thing-1.0.dist-info"
        file.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: thing\nVersion: 1.0\n")
        file.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        file.writestr(f"{info}/RECORD", f"thing.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n")


class Guide(Folder):
    """The guide's command lines, as they stand."""

    def test_the_guides_command_lines(self) -> None:
        folder = self.plugins / "my_plugin"
        folder.mkdir()
        (folder / "__init__.py").write_text(block(2), "utf-8")
        (folder / "manifest.json").write_text(block(1).replace("my_tts_plugin", "my_plugin"), "utf-8")
        env = environment(PATH=f"{self.bin()}{os.pathsep}{os.environ['PATH']}")
        lines = block(16).splitlines()
        start = next(line for line in lines if line.startswith("python"))
        echoes = [line for line in lines if line.startswith("echo")]
        script = "{\n" + "\n".join(echoes) + "\n} | " + start
        done = subprocess.run(["sh", "-c", script], cwd=self.root, env=env, capture_output=True, text=True, timeout=LIMIT, check=False)
        self.assertEqual(done.returncode, 4, done.stderr)
        answers = [json.loads(line) for line in done.stdout.splitlines()]
        self.assertEqual([a["id"] for a in answers], [1, 2])
        self.assertTrue(answers[0]["result"]["initialized"])
        self.assertTrue(answers[1]["result"]["base64"].startswith("UklG"))
        for number in (15, 23):
            command = block(number).strip()
            done = subprocess.run(
                ["sh", "-c", command],
                cwd=self.root,
                env=env,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=LIMIT,
                check=False,
            )
            self.assertEqual(done.returncode, 4, done.stderr)
        self.assertTrue((self.root / "logs" / "plugins.log").exists())

    def bin(self) -> Path:
        """A folder in which `python` is this Python."""
        folder = self.root / "bin"
        folder.mkdir()
        (folder / "python").symlink_to(sys.executable)
        return folder


if __name__ == "__main__":
    unittest.main()
