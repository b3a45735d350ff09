"""The guest over its pipe: calls, cancellation, limits, methods by name, the life of a plugin."""

from __future__ import annotations

import base64
import os
import signal
import sys
import textwrap
import time
import unittest
from pathlib import Path

from tests.kit import LIMIT, SRC, Folder, PluginError

ECHO = """
    import asyncio, collections, dataclasses, datetime, enum, logging, os, sys, threading, time
    from pathlib import Path
    from typing import Optional
    from contracts.base import PluginError
    from contracts.tool_contract import ToolContract

    class Colour(enum.Enum):
        RED = "red"

    @dataclasses.dataclass
    class Point:
        x: int
        data: bytes

    class Echo(ToolContract):
        '''Says it again.'''
        name = "echo"
        go = threading.Event()

        async def call(self, text: str, times: int = 1) -> str:
            return text * times

        def sync(self, text: str) -> str:
            return text.upper()

        async def everything(self):
            return {
                "point": Point(1, b"ab"), "colour": Colour.RED, "when": datetime.datetime(2025, 1, 2, 3),
                "path": Path("a") / "b", "set": {3}, "tuple": (1, 2), 5: None,
            }

        async def odd(self):
            return object()

        async def nan(self):
            return float("nan")

        def sized(self, audio: Optional[bytes] = None) -> int:
            assert isinstance(audio, bytes), type(audio)
            return len(audio)

        async def countdown(self, n: int):
            for i in range(n, 0, -1):
                yield i

        def steps(self, n: int):
            yield from range(n)

        async def wait(self):
            await asyncio.sleep(3600)

        def block(self):
            self.go.wait(60)
            return "blocked"

        async def hold_the_loop(self):
            self.go.wait(60)
            return "held"

        def release(self):
            self.go.set()

        async def leave(self):
            sys.exit(7)

        def leave_on_thread(self):
            sys.exit(8)

        async def leave_later(self):
            async def later():
                sys.exit(9)
            asyncio.create_task(later())
            return "soon"

        async def die(self):
            os._exit(3)

        async def fail(self, how: str):
            raise {
                "plugin": PluginError(1002, "too long"), "value": ValueError("not found at all"), "type": TypeError("t"),
                "key": KeyError("k"), "time": asyncio.TimeoutError(), "later": NotImplementedError("no"),
            }[how]

        def deep(self):
            return collections.ChainMap({})["missing"]

        def speak_out(self):
            print("a stray line")
            sys.stdout.write('{"jsonrpc":"2.0","id":1,"result":"forged"}\\n')
            os.write(1, b"from C\\n")
            return sys.stdin.read()

        def note(self):
            logging.getLogger("echo").warning("mind the gap")

        def big(self, n: int) -> str:
            return "x" * n

        @property
        def secret(self):
            return "no method"

        def _private(self):
            return "no"
"""


class Calls(Folder):
    """A plugin under calls."""

    def setUp(self) -> None:
        super().setUp()
        self.echo = self.guest(self.plugin("echo", ECHO))

    def fails(self, code: int, method: str, /, **args: object) -> PluginError:
        with self.assertRaises(PluginError) as caught:
            self.echo.invoke(method, **args)
        self.assertEqual(caught.exception.code, code, caught.exception)
        return caught.exception

    def test_hello_describes_the_plugin(self) -> None:
        hello = self.echo.hello
        spec = {
            "name": "echo",
            "description": "Says it again.",
            "input_schema": {
                "type": "object",
                "properties": {"text": {"type": "string"}, "times": {"type": "integer"}},
                "additionalProperties": False,
                "required": ["text"],
            },
        }
        self.assertEqual(hello["specs"], [{"kind": "tool", "spec": spec}])
        self.assertEqual((hello["protocol"], hello["plugin"], hello["version"]), (1, "echo", "1.0.0"))
        self.assertIn("blob", hello["features"])
        self.assertEqual(hello["max_payload"], 64 << 20)

    def test_a_tool_is_called_by_its_contract(self) -> None:
        answer = self.echo.call("tool.call", {"args": {"text": "ab", "times": 2}}, name="echo")
        self.assertEqual(answer, {"content": [{"type": "text", "text": "abab"}]})
        for args, name, code in (({"text": 1, "more": 2}, "echo", -32602), ({}, "echo", -32602), ({"text": ""}, "other", -32000)):
            with self.assertRaises(PluginError) as caught:
                self.echo.call("tool.call", {"args": args}, name=name)
            self.assertEqual(caught.exception.code, code)

    def test_methods_by_name(self) -> None:
        self.assertEqual(self.echo.invoke("sync", text="a"), "A")
        self.assertEqual(
            self.echo.invoke("everything"),
            {
                "point": {"x": 1, "data": {"base64": "YWI="}},
                "colour": "red",
                "when": "2025-01-02T03:00:00",
                "path": "a/b",
                "set": [3],
                "tuple": [1, 2],
                "5": None,
            },
        )
        self.assertEqual(self.echo.invoke("countdown", n=3), [3, 2, 1])
        self.assertEqual(self.echo.invoke("steps", n=3), [0, 1, 2])
        self.assertEqual(self.echo.invoke("sized", audio={"base64": base64.b64encode(b"\0\xff").decode()}), 2)
        self.assertEqual(self.echo.invoke("health_check")["status"], "ready")

    def test_what_is_no_public_method_is_not_found(self) -> None:
        for name in ("nothing", "_private", "__init__", "secret", "go", "initialize", "__class__"):
            error = self.fails(-32601, name)
            self.assertIn("countdown", error.help or "")
        self.fails(-32602, "sync")
        self.fails(-32602, "sync", text="a", more=1)
        self.fails(-32602, "sized", audio="text")
        self.fails(-32602, "sized", audio={"base64": "?"})

    def test_codes_go_by_type_not_by_words(self) -> None:
        for how, code in (
            ("plugin", 1002),
            ("value", -32602),
            ("type", -32602),
            ("key", -32061),
            ("time", -32060),
            ("later", -32601),
        ):
            self.fails(code, "fail", how=how)
        self.assertIn("KeyError: 'k'", self.echo.log())

    def test_an_error_names_its_type_and_the_line_of_the_plugins_own_code(self) -> None:
        line = next(n for n, text in enumerate(textwrap.dedent(ECHO).splitlines(), 1) if "raise {" in text)
        for how, code, type_name in (
            ("value", -32602, "ValueError"),
            ("type", -32602, "TypeError"),
            ("key", -32061, "KeyError"),
            ("later", -32601, "NotImplementedError"),
        ):
            error = self.fails(code, "fail", how=how)
            self.assertEqual(error.data["exception"], type_name)
            file, _, at = error.data["at"].partition(":")
            # Of the folder nothing is told, and of the lines of the one statement any may be meant.
            self.assertEqual(file, "__init__.py")
            self.assertTrue(line <= int(at) <= line + 4, error.data)
        # Raised deep in the library: the last line that is the plugin's own.
        error = self.fails(-32061, "deep")
        self.assertRegex(error.message, r"^KeyError: .*missing.* \(__init__\.py:\d+\)$")
        # An author's own error stays as it is.
        self.assertIsNone(self.fails(1002, "fail", how="plugin").data)

    def test_seed003_2_a_result_without_a_form_in_json_is_an_error_not_silence(self) -> None:
        self.assertIn("object", self.fails(-32061, "odd").message)
        self.assertIn("nan", self.fails(-32061, "nan").message)

    def test_seed003_5_print_does_not_reach_the_link(self) -> None:
        self.assertEqual(self.echo.invoke("speak_out"), "")
        self.assertEqual(self.echo.invoke("sync", text="still here"), "STILL HERE")
        self.assertTrue(self.echo.of("bad line", None).empty())
        log = self.echo.log()
        for line in ("a stray line", "forged", "from C"):
            self.assertIn(line, log)

    def test_seed003_7_sys_exit_is_an_error_of_the_call(self) -> None:
        self.assertIn("sys.exit(7)", self.fails(-32061, "leave").message)
        self.assertIn("sys.exit(8)", self.fails(-32061, "leave_on_thread").message)
        self.assertEqual(self.echo.invoke("leave_later"), "soon")
        self.assertEqual(self.echo.invoke("sync", text="a"), "A")

    def test_seed003_8_a_blocking_method_holds_nobody_else(self) -> None:
        blocked = [self.echo.begin("plugin.invoke", {"method": "block"}) for _ in range(4)]
        self.assertEqual(self.echo.invoke("sync", text="a"), "A")
        self.ping()
        self.echo.invoke("release")
        for id in blocked:
            self.assertEqual(self.echo.end(id)[0], "blocked")

    def ping(self) -> None:
        self.echo.tell("$/ping", id=77)
        self.echo.take("$/pong", 77)

    def test_seed003_6_ping_and_cancel_work_while_the_loop_is_held(self) -> None:
        held = self.echo.begin("plugin.invoke", {"method": "hold_the_loop"})
        self.ping()
        self.echo.tell("$/cancel", id=held)
        with self.assertRaises(PluginError) as caught:
            self.echo.end(held)
        self.assertEqual(caught.exception.code, -32800)

    def test_cancel_ends_async_and_sync_calls(self) -> None:
        for method in ("wait", "block"):
            id = self.echo.begin("plugin.invoke", {"method": method})
            self.echo.tell("$/cancel", id=id)
            with self.assertRaises(PluginError) as caught:
                self.echo.end(id)
            self.assertEqual(caught.exception.code, -32800)
        self.echo.invoke("release")
        # An abandoned call is not answered, and its number is free again.
        id = self.echo.begin("plugin.invoke", {"method": "wait"})
        self.echo.tell("$/cancel", id=id, abandoned=True)
        self.assertEqual(self.echo.invoke("sync", text="a"), "A")
        self.assertTrue(self.echo.of("answer", id).empty())

    def test_calls_run_beside_each_other(self) -> None:
        slow = self.echo.begin("plugin.invoke", {"method": "wait"})
        ids = [self.echo.begin("plugin.invoke", {"method": "sync", "args": {"text": str(i)}}) for i in range(200)]
        self.assertEqual([self.echo.end(id)[0] for id in ids], [str(i) for i in range(200)])
        self.echo.tell("$/cancel", id=slow)

    def test_seed003_4_long_lines_arrive(self) -> None:
        text = "é" * (4 << 20)
        self.assertEqual(self.echo.invoke("sync", text=text), text.upper())

    def test_over_the_limit_is_an_error_on_either_side(self) -> None:
        small = self.guest(self.plugins / "echo", max_payload=10_000)
        with self.assertRaises(PluginError) as caught:
            small.invoke("big", n=20_000)
        self.assertEqual(caught.exception.code, -32050)
        self.assertEqual(len(small.invoke("big", n=9_000)), 9_000)
        # A line over 64 MiB, in pieces, so that it is not in memory here either.
        small.write(b'{"jsonrpc":"2.0","id":99,"method":"plugin.invoke","params":{"args":{"method":"big","args":{"text":"')
        for _ in range(65):
            small.write(b"x" * (1 << 20))
        small.write(b'"}}}}\n')
        with self.assertRaises(PluginError) as caught:
            small.end(99)
        self.assertEqual(caught.exception.code, -32050)
        self.assertEqual(small.invoke("big", n=2), "xx")

    def test_lines_that_are_no_messages_are_passed_over(self) -> None:
        for line in (
            b"garbage\n",
            b"42\n",
            b"[1]\n",
            b"\xff\xfe\n",
            b"\n",
            b'{"id":"x"}\n',
            b'{"blob":-1}\n',
            b"[" * 100_000 + b"\n",
        ):
            self.echo.write(line)
        self.assertEqual(self.echo.invoke("sync", text="a"), "A")
        self.assertIn("no message", self.echo.take("$/log", None).head["params"]["line"])

    def test_half_a_line_at_the_end_ends_quietly(self) -> None:
        self.echo.write(b'{"jsonrpc":"2.0","id":5,"meth')
        self.echo.close()
        self.assertEqual(self.echo.process.returncode, 0)

    def test_logging_becomes_lines_for_the_host(self) -> None:
        self.echo.invoke("note")
        self.assertEqual(self.echo.take("$/log", None).head["params"], {"level": "warn", "line": "mind the gap"})

    def test_ids_and_unknown_methods(self) -> None:
        first = self.echo.begin("plugin.invoke", {"method": "wait"})
        self.echo.send({"id": first, "method": "plugin.vitals", "params": {"args": {}}})
        with self.assertRaises(PluginError) as caught:
            self.echo.end(first)
        self.assertEqual(caught.exception.code, -32600)
        for method in ("tool.rename", "plugin.dance", "stt.transcribe"):
            with self.assertRaises(PluginError) as caught:
                self.echo.call(method, {}, name="echo")
            self.assertIn(caught.exception.code, (-32601, -32000))
        with self.assertRaises(PluginError) as caught:
            self.echo.call("plugin.invoke", {"method": "sync"}, cx={"depth": 9})
        self.assertEqual(caught.exception.code, -32050)

    def test_the_guest_ends_with_its_input(self) -> None:
        self.echo.begin("plugin.invoke", {"method": "block"})
        self.echo.close()
        self.assertEqual(self.echo.process.returncode, 0)

    def test_a_crash_is_the_end_of_the_process(self) -> None:
        self.echo.begin("plugin.invoke", {"method": "die"})
        self.assertEqual(self.echo.process.wait(LIMIT), 3)


class Lives(Folder):
    """Loading, starting, health, configuration, state, the end."""

    def hello_error(self, folder) -> dict:
        guest = self.guest(folder, start=False)
        self.assertIsNotNone(guest.hello_error, guest.hello)
        return guest.hello_error

    def test_why_a_plugin_does_not_load(self) -> None:
        base = "from contracts.tts_contract import TTSContract\n"
        cases = [
            ("import no_such_module_anywhere", -32051, "no_such_module_anywhere"),
            ("import sys; sys.exit(3)", -32002, "sys.exit"),
            ("def f(:", -32002, "SyntaxError"),
            ("x = 1", -32010, "extends a contract"),
            (base + "class A(TTSContract): pass", -32002, "health_check, initialize, shutdown"),
            ("from contracts.tool_contract import ToolContract\nclass A(ToolContract): pass", -32010, "tts"),
            (base + "class A(TTSContract): pass\nclass B(TTSContract): pass", -32002, "A, B"),
            ("Plugin = 7", -32010, "Plugin"),
        ]
        for i, (code, number, word) in enumerate(cases):
            with self.subTest(code=code):
                error = self.hello_error(self.plugin(f"p{i}", code, "tts"))
                self.assertEqual(error["code"], number, error)
                self.assertIn(word, error["message"])

    def test_why_a_manifest_is_refused(self) -> None:
        folder = self.plugins / "m"
        folder.mkdir()
        self.assertEqual(self.hello_error(folder)["code"], -32013)
        good = '{"name":"m","version":"1.0.0","contract":"tool","entry_point":"main"'
        for text, code, word in (
            ("{", -32012, "line 1"),
            (good.replace('"version"', '"verison"') + "}", -32012, "`version` is missing"),
            (good.replace('"m"', '"M"') + "}", -32012, "beginning with a letter"),
            (good.replace('"tool"', '"oracle"') + "}", -32011, "oracle"),
            (good + "}", -32012, "main.py"),
            (good.replace("1.0.0", "one") + "}", -32012, "semantic"),
        ):
            with self.subTest(text=text):
                (folder / "manifest.json").write_text(text)
                error = self.hello_error(folder)
                self.assertEqual(error["code"], code, error)
                self.assertIn(word, error["message"])

    def test_relative_and_sibling_imports(self) -> None:
        code = "from .deep import VALUE\nfrom contracts.tool_contract import ToolContract\n"
        code += "class A(ToolContract):\n    async def call(self): return VALUE\n"
        folder = self.plugin("rel", code, entry_point="main")
        (folder / "deep.py").write_text("import beside_it\nVALUE = beside_it.VALUE\n")
        (folder / "beside_it.py").write_text("VALUE = 'found'\n")
        self.assertEqual(self.guest(folder).invoke("call"), "found")
        # As a package, and under a name that a module of the library has.
        folder = self.plugin("json", code)
        (folder / "deep.py").write_text("import json\nVALUE = json.dumps([1])\n")
        self.assertEqual(self.guest(folder).invoke("call"), "[1]")
        # By the names that it has among others, whose folders are none of its business.
        code = "import importlib.util\nfrom contracts.tool_contract import ToolContract\n"
        code += "class A(ToolContract):\n    async def call(self):\n        from plugins.among.deep import VALUE\n"
        code += "        return [VALUE, importlib.util.find_spec('rel') is None]\n"
        folder = self.plugin("among", code)
        (folder / "deep.py").write_text("VALUE = 1\n")
        self.assertEqual(self.guest(folder).invoke("call"), [1, True])

    @unittest.skipIf(sys.version_info < (3, 11), "reads TOML with the library of Python 3.11")
    def test_plugin_toml_names_the_module_and_the_contributions(self) -> None:
        folder = self.plugins / "dice"
        folder.mkdir()
        provides = '[[provides]]\nkind = "tool"\nname = "roll"\n'
        (folder / "plugin.toml").write_text(f'id = "dice"\nversion = "0.2.0"\n{provides}[process]\npython = "dice_plugin"\n')
        code = "from contracts.tool_contract import ToolContract\nclass D(ToolContract):\n    def call(self): return 4\n"
        (folder / "dice_plugin.py").write_text(code)
        guest = self.guest(folder)
        self.assertEqual((guest.hello["version"], guest.hello["specs"][0]["spec"]["name"]), ("0.2.0", "roll"))
        self.assertEqual(guest.call("tool.call", {"args": {}}, name="roll")["data"], 4)

    def test_old_and_new_protocols(self) -> None:
        folder = self.plugin("echo", ECHO)
        guest = self.guest(folder, start=False, hello=False)
        guest.send({"id": 0, "method": "hello", "params": {"protocol": 9, "oldest": 2, "host": "h"}})
        self.assertEqual(guest.take("answer", 0).head["error"]["code"], -32002)
        guest.send({"id": 0, "method": "hello", "params": {"protocol": 9, "oldest": 1, "host": "h"}})
        self.assertEqual(guest.take("answer", 0).head["result"]["protocol"], 1)

    LIFE = """
        from contracts.base import HealthStatus, PluginStatus, PluginError
        from contracts.tool_contract import ToolContract

        class Counter(ToolContract):
            STATE_VERSION = 2

            async def initialize(self, config):
                if config.get("refuse") == "no": return False
                if config.get("refuse") == "raise": raise KeyError("model_path")
                if config.get("refuse") == "code": raise PluginError(-32052, "no model")
                self.count, self.step, self.raw = 0, config.get("step", 1), b""
                return True

            def call(self):
                self.count += self.step
                return self.count

            def health_check(self):
                if self.step < 0: raise RuntimeError("cannot look")
                status = PluginStatus.ERROR if self.step == 0 else self._status
                return HealthStatus(status=status, message="m", details={"n": 1, "w": "x"}, latency_ms=2.5, memory_mb=256.0)

            async def capture_state(self):
                return {"count": self.count, "raw": b"\\xff"}

            def restore_state(self, state):
                self.count, self.raw = state["count"], state["raw"]

            def reconfigure(self, config):
                self.step = config["step"]
                return self.step < 100

            def raw_is(self):
                return self.raw == b"\\xff"
    """

    def test_a_start_that_fails_says_why(self) -> None:
        folder = self.plugin("counter", self.LIFE)
        for refuse, code, word in (("no", -32003, "False"), ("raise", -32003, "KeyError: 'model_path' ("), ("code", -32052, "no model")):
            guest = self.guest(folder, start=False)
            with self.assertRaises(PluginError) as caught:
                guest.start({"refuse": refuse})
            self.assertEqual(caught.exception.code, code)
            self.assertIn(word, caught.exception.message)
            with self.assertRaises(PluginError) as caught:
                guest.invoke("call")
            self.assertEqual(caught.exception.code, -32001)
            guest.start()
            with self.assertRaises(PluginError) as caught:
                guest.start()
            self.assertEqual(caught.exception.code, -32005)

    def test_health_tells_latency_and_memory(self) -> None:
        guest = self.guest(self.plugin("counter", self.LIFE))
        facts = {"status": "ready", "message": "m", "latency_ms": "2.5", "memory_mb": "256.0", "n": "1", "w": "x"}
        self.assertEqual(guest.call("plugin.vitals", {}), {"health": {"status": "ok"}, "facts": facts})
        self.assertEqual(guest.call("plugin.reconfigure", {"step": 0}), "applied")
        self.assertEqual(guest.call("plugin.vitals", {})["health"], {"status": "failed", "reason": "m"})
        self.assertEqual(guest.call("plugin.reconfigure", {"step": -1}), "applied")
        self.assertIn("cannot look", guest.call("plugin.vitals", {})["health"]["reason"])
        self.assertEqual(guest.call("plugin.reconfigure", {"step": 100}), "restart")

    def test_seed003_16_state_moves_from_one_life_to_the_next(self) -> None:
        folder = self.plugin("counter", self.LIFE)
        old, new = self.guest(folder), self.guest(folder)
        old.invoke("call")
        state, blob = old.end(old.begin("plugin.capture_state", {}))
        self.assertEqual(state, {"version": 2, "bytes": []})
        new.call("plugin.restore_state", state, blob)
        self.assertEqual((new.invoke("call"), new.invoke("raw_is")), (2, True))
        with self.assertRaises(PluginError) as caught:
            new.call("plugin.restore_state", {"version": 3, "bytes": []}, blob)
        self.assertEqual(caught.exception.code, -32010)
        for _ in range(2):
            self.assertIsNone(new.call("plugin.shutdown", {}))

    def test_a_plugin_without_state_has_none(self) -> None:
        guest = self.guest(self.plugin("echo", ECHO))
        self.assertIsNone(guest.call("plugin.capture_state", {}))
        self.assertEqual(guest.call("plugin.reconfigure", {}), "restart")

    def test_shutdown_runs_when_the_input_ends(self) -> None:
        code = """
            import pathlib
            from contracts.tool_contract import ToolContract
            class A(ToolContract):
                async def call(self): pass
                async def shutdown(self):
                    (self.data_dir / "ended").write_text("yes")
        """
        guest = self.guest(self.plugin("a", code), start=False)
        guest.start(data_dir=str(self.root))
        guest.close()
        self.assertEqual((self.root / "ended").read_text(), "yes")

    @unittest.skipUnless(hasattr(signal, "SIGKILL"), "needs signals")
    def test_the_guest_ends_when_its_parent_is_gone(self) -> None:
        folder = self.plugin("echo", ECHO)
        # The parent dies, but somebody else keeps the guest's input open.
        kept, given = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                os.dup2(kept, 0)
                os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
                args = [sys.executable, "-m", "bespoke_sdk.guest", "--plugin-dir", str(folder)]
                child = os.spawnve(os.P_NOWAIT, sys.executable, args, {**os.environ, "PYTHONPATH": str(SRC)})
                (self.root / "pid").write_text(str(child))
                # Long enough for the guest to have seen who its parent is.
                while "ready" not in os.listdir(self.root):
                    time.sleep(0.01)
            finally:
                os._exit(0)
        params = '"params":{"protocol":1,"oldest":1,"host":"t"}'
        os.write(given, f'{{"jsonrpc":"2.0","id":0,"method":"hello",{params}}}\n'.encode())
        until = time.monotonic() + LIMIT
        while not (self.root / "pid").exists() or not self.threads_of("pid"):
            self.assertLess(time.monotonic(), until)
            time.sleep(0.01)
        (self.root / "ready").touch()
        os.waitpid(pid, 0)
        while self.threads_of("pid"):
            self.assertLess(time.monotonic(), until, "the guest lives on")
            time.sleep(0.05)
        os.close(given)
        os.close(kept)

    def threads_of(self, name: str) -> int:
        """How many threads the guest has; 0 when it is gone."""
        text = (self.root / name).read_text() or "0"
        try:
            stat = Path(f"/proc/{text}/stat").read_text()
        except OSError:
            return 0
        state, count = stat.rpartition(")")[2].split()[0], int(stat.rpartition(")")[2].split()[17])
        return 0 if state == "Z" or (count < 3 and not (self.root / "ready").exists()) else count


if __name__ == "__main__":
    unittest.main()
