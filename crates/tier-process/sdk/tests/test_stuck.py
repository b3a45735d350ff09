"""Calls that go on although nobody waits for them: they are named, and a process that serves nobody any more ends."""

from __future__ import annotations

import asyncio
import threading
import unittest
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple
from unittest import mock

from bespoke_sdk import stuck
from bespoke_sdk.call import Call
from bespoke_sdk.run import Work
from tests.kit import LIMIT, Folder, Guest

STUCK = """
    import threading
    from bespoke_sdk import current_call
    from contracts.llm_contract import LLMContract
    from contracts.command_contract import CommandContract

    class Stuck(CommandContract):
        name = "stuck"
        go = threading.Event()

        async def run(self, args, out):
            current_call().progress(1)
            self.go.wait(3600)

        def block(self):
            current_call().progress(1)
            self.go.wait(3600)

        def release(self):
            self.go.set()

        async def echo(self, text: str) -> str:
            return text
"""


def until_degraded(guest: Guest) -> Dict[str, Any]:
    """The next report of something that is stuck."""
    while True:
        vitals = guest.take("$/vitals", None).head["params"]
        if vitals["health"]["status"] == "degraded":
            return vitals


class Processes(Folder):
    """A guest whose plugin blocks."""

    def setUp(self) -> None:
        super().setUp()
        self.stuck = self.guest(self.plugin("stuck", STUCK, "command"))

    def block(self) -> int:
        id = self.stuck.begin("plugin.invoke", {"method": "block"})
        self.stuck.take("$/progress", id)
        self.stuck.tell("$/cancel", id=id, abandoned=True)
        return id

    def test_a_sync_call_that_blocks_holds_nobody_and_is_named_until_it_ends(self) -> None:
        self.block()
        vitals = until_degraded(self.stuck)
        self.assertRegex(vitals["facts"]["stuck"], r"^method block for \d+ s \(at __init__.py:17\)$")
        self.assertIn("a call goes on although nobody waits any more: method block", vitals["health"]["reason"])
        self.assertEqual(self.stuck.invoke("echo", text="a"), "a")
        # Also when it is asked how it does.
        self.assertIn("method block", self.stuck.call("plugin.vitals", {})["facts"]["stuck"])
        self.stuck.invoke("release")
        while True:
            vitals = self.stuck.take("$/vitals", None).head["params"]
            if vitals["health"]["status"] == "ok":
                break
        self.assertNotIn("stuck", vitals["facts"])

    def test_one_too_many_end_the_process(self) -> None:
        for _ in range(stuck.Limits.most):
            self.block()
        self.assertIn("method block", until_degraded(self.stuck)["facts"]["stuck"])
        self.assertEqual(self.stuck.invoke("echo", text="a"), "a")
        self.block()
        self.assertEqual(self.stuck.process.wait(LIMIT), 75)
        self.assertRegex(self.stuck.log(), r"ERROR: 9 calls go on although nobody waits any more \(method block for \d+ s")

    def test_a_command_that_blocks_the_loop_and_was_given_up_ends_the_process(self) -> None:
        id = self.stuck.begin("command.run", {"args": []}, name="stuck")
        self.stuck.take("$/progress", id)
        # The link lives all the while.
        self.stuck.tell("$/ping", id=1)
        self.stuck.take("$/pong", 1)
        self.stuck.tell("$/cancel", id=id, abandoned=True)
        self.assertRegex(until_degraded(self.stuck)["facts"]["stuck"], r"^command stuck for \d+ s \(at __init__.py:13\)$")
        self.assertEqual(self.stuck.process.wait(LIMIT), 75)
        self.assertRegex(self.stuck.log(), r"ERROR: command stuck for \d+ s holds the event loop \(at __init__.py:13\), and all other")

    def test_so_does_a_stream(self) -> None:
        code = STUCK.replace("class Stuck(CommandContract)", "class Stuck(LLMContract)")
        code += "\n        async def stream_chat(self, messages):\n            yield 'a'\n            self.go.wait(3600)\n"
        code += "\n        async def initialize(self, config): return True\n        async def shutdown(self): return True\n"
        code += "        def health_check(self): return {'status': 'ready'}\n"
        guest = self.guest(self.plugin("talks", code, "llm"))
        id = guest.begin("provider.chat", {"messages": [{"role": "user", "text": "a"}]}, name="stuck")
        guest.take("stream/event", id)
        guest.tell("stream/reset", id=id)
        self.assertEqual(guest.process.wait(LIMIT), 75)
        self.assertIn("provider stuck for", guest.log())


class Looks(unittest.TestCase):
    """What is concluded from what is seen, without a clock."""

    def setUp(self) -> None:
        self.loop = mock.Mock()
        self.running: List[Tuple[Call, Any]] = []
        self.current: Any = None
        self.told: List[Dict[str, Any]] = []
        self.watch = stuck.Watch(self.loop, Path("/"), lambda: list(self.running), self.told.append, self.fail)
        patched = mock.patch.object(asyncio, "current_task", lambda _: self.current)
        patched.start()
        self.addCleanup(patched.stop)
        self.now = 1000.0

    def call(self, given_up: bool, task: Any = None) -> Call:
        call = Call(len(self.running) + 1, "tool.call", {}, lambda _: None, f"t{len(self.running) + 1}")
        call.given_up = self.now if given_up else None
        self.running.append((call, task))
        return call

    def looks(self, times: int, alive: bool = False) -> Optional[str]:
        """So many looks; why the process would end at the first that says so."""
        for _ in range(times):
            self.now += stuck.Limits.look
            why = self.watch.look(self.now)
            if alive:
                self.loop.call_soon_threadsafe.call_args.args[0]()
            if why:
                return why
        return None

    def test_a_call_in_its_time_may_hold_the_loop(self) -> None:
        self.current = object()
        self.call(given_up=False, task=self.current)
        self.call(given_up=True, task=object())
        self.assertIsNone(self.looks(1000))
        self.assertEqual(self.told, [], "the one that waits for the loop is not to blame")
        # Its time is over, too.
        self.running[0][0].given_up = self.now
        why = self.looks(1000)
        self.assertRegex(why or "", r"^tool t1 for \d+ s holds the event loop")

    def test_whoever_else_holds_the_loop_may_not_once_a_call_was_given_up(self) -> None:
        self.current = object()
        self.call(given_up=False)
        self.assertIsNone(self.looks(1000))
        self.call(given_up=True)
        self.assertRegex(self.looks(1000) or "", "^something of the plugin holds the event loop")

    def test_a_process_that_stood_still_is_not_ended_for_it(self) -> None:
        self.current = object()
        self.call(given_up=True, task=self.current)
        self.assertIsNone(self.looks(2))
        self.now += 3600
        self.assertIsNone(self.looks(2))

    def test_a_task_that_does_not_heed_its_cancellation_is_named_and_does_no_harm(self) -> None:
        self.call(given_up=True, task=object())
        self.assertIsNone(self.looks(1000, alive=True))
        self.assertRegex(self.told[-1]["facts"]["stuck"], r"^tool t1 for 4\d\d s$")
        self.assertLess(len(self.told), 120, "once in five seconds")
        self.running.clear()
        self.assertIsNone(self.looks(1, alive=True))
        self.assertEqual(self.told[-1], {"health": {"status": "unknown"}, "facts": {}})

    def test_too_many_wait_a_while_for_those_that_are_wanted(self) -> None:
        works = [Work(self.call(given_up=True)) for _ in range(stuck.Limits.most + 1)]
        self.running.clear()
        with mock.patch.object(stuck, "working", set(works)):
            self.assertIsNone(self.looks(3, alive=True))
            self.call(given_up=False)
            begun = self.now
            self.assertRegex(self.looks(1000, alive=True) or "", "^9 calls go on")
            self.assertGreaterEqual(self.now - begun, stuck.Limits.drain)
            # Nobody is wanted: at once.
            self.running.clear()
            self.assertRegex(self.looks(1, alive=True) or "", "^9 calls go on")

    def test_the_thread_rests_while_nothing_was_given_up(self) -> None:
        before = threading.active_count()
        self.call(given_up=False)
        self.assertEqual(threading.active_count(), before)


if __name__ == "__main__":
    unittest.main()
