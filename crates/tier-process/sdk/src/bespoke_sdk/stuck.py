"""Work that goes on although nobody waits for it: which calls it is of, and when there is too much of it. What becomes of the process is
the guest's."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

from bespoke_sdk.call import Call
from bespoke_sdk.run import working

__all__ = ["Limits", "Watch"]

#: Most calls that are named at a time.
_NAMED = 8


class Limits:
    """How long is too long, in seconds, and how much is too much."""

    #: A call that was given up may take so long to end before it counts.
    grace = 2.0
    #: One that holds the loop keeps all others waiting: for so many looks and no more. They are counted, as a process that was stopped
    #: and goes on has had no time to answer.
    hold = 20
    #: Calls that may be stuck on threads.
    most = 8
    #: With more, calls that somebody waits for have so long to end.
    drain = 30.0
    #: Between two looks, and between two reports.
    look = 0.5
    report = 5.0


class Watch:
    """Looks, on a thread that is made when the first call is given up, until all that was given up has ended."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        folder: Path,
        running: Callable[[], List[Tuple[Call, Any]]],
        tell: Callable[[Dict[str, Any]], None],
        leave: Callable[[str], None],
    ) -> None:
        self._loop = loop
        self._folder = folder
        #: Calls that have not ended, and the task of each.
        self._running = running
        self._tell = tell
        self._leave = leave
        self._something = threading.Event()
        self._thread: Optional[threading.Thread] = None
        #: What the plugin said of itself last, and what is said beside it.
        self._said: Dict[str, Any] = {"health": {"status": "unknown"}, "facts": {}}
        self._stuck: List[str] = []
        self._reported = 0.0
        #: When the loop was asked for a sign of life that it has not given.
        self._asked: Optional[float] = None
        self._held_for = 0
        self._crowded: Optional[float] = None

    def given_up(self) -> None:
        """A call was given up. From the reader's thread."""
        self._something.set()
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="stuck", daemon=True)
            self._thread.start()

    def vitals(self, said: Dict[str, Any]) -> Dict[str, Any]:
        """What the plugin says of itself, with what it cannot know."""
        self._said = said
        return self._with_stuck()

    def _with_stuck(self) -> Dict[str, Any]:
        stuck = self._stuck
        if not stuck:
            return self._said
        many = "a call goes" if len(stuck) == 1 else f"{len(stuck)} calls go"
        named = ", ".join(stuck[:_NAMED]) + (" and others" if len(stuck) > _NAMED else "")
        health = self._said["health"]
        if health.get("status") != "failed":
            health = {"status": "degraded", "reason": f"{many} on although nobody waits any more: {named}"}
        return {"health": health, "facts": {**self._said["facts"], "stuck": named}}

    def _run(self) -> None:
        while True:
            self._something.wait()
            self._something.clear()
            while True:
                now = time.monotonic()
                why = self.look(now)
                if why is not None:
                    self._leave(why)
                if not self._waits(now):
                    break
                time.sleep(Limits.look)

    def _waits(self, now: float) -> bool:
        """Whether anything that was given up has not ended."""
        calls = [call for call, _ in self._running()] + [work.call for work in list(working) if work.call is not None]
        return bool(self._stuck) or any(call.given_up is not None for call in calls)

    def look(self, now: float) -> Optional[str]:
        """Takes stock, and reports it. Why the process must end, where it must."""
        held_since = self._asked if self._asked is not None and now - self._asked > 2 * Limits.look else None
        if self._asked is None:
            self._asked = now
            self._loop.call_soon_threadsafe(self._beat)
        running = self._running()
        holder = self._holder(running) if held_since is not None else None
        stuck: Dict[Call, Optional[int]] = {}
        for work in list(working):
            if work.call is not None and _since(work.call, now) > Limits.grace:
                stuck[work.call] = work.thread
        # While the loop is held, the others on it are not to blame for going on.
        blamed = [holder] if held_since is not None else [call for call, _ in running]
        for call in blamed:
            if call is not None and call not in stuck and _since(call, now) > Limits.grace:
                stuck[call] = threading.main_thread().ident if call is holder else None
        self._report([self._named(call, thread, now) for call, thread in stuck.items()], now)
        return self._held(running, holder, held_since is not None, now) or self._too_many(running, len(stuck), now)

    def _held(self, running: List[Tuple[Call, Any]], holder: Optional[Call], held: bool, now: float) -> Optional[str]:
        # A call that somebody waits for may hold the loop until its time is over.
        blamed = [call for call, _ in running] if holder is None else [holder]
        self._held_for = self._held_for + 1 if held and any(call.given_up is not None for call in blamed) else 0
        if self._held_for < Limits.hold:
            return None
        who = self._named(holder, None, now) if holder else "something of the plugin"
        where = self._where(threading.main_thread().ident)
        return f"{who} holds the event loop{where}, and all other calls with it: the process ends"

    def _too_many(self, running: List[Tuple[Call, Any]], stuck: int, now: float) -> Optional[str]:
        if stuck <= Limits.most:
            self._crowded = None
            return None
        self._crowded = now if self._crowded is None else self._crowded
        wanted = any(call.given_up is None for call, _ in running)
        if wanted and now - self._crowded < Limits.drain:
            return None
        return f"{stuck} calls go on although nobody waits any more ({', '.join(self._stuck[:_NAMED])}): the process ends"

    def _report(self, stuck: List[str], now: float) -> None:
        changed = len(stuck) != len(self._stuck)
        self._stuck = stuck
        if changed or (stuck and now - self._reported >= Limits.report):
            self._reported = now
            self._tell(self._with_stuck())

    def _beat(self) -> None:
        self._asked = None

    def _holder(self, running: List[Tuple[Call, Any]]) -> Optional[Call]:
        """The call whose task the loop is in."""
        try:
            current = asyncio.current_task(self._loop)
        except RuntimeError:
            return None
        return next((call for call, task in running if task is not None and task is current), None)

    def _named(self, call: Call, thread: Optional[int], now: float) -> str:
        return f"{call.what} for {_since(call, now):.0f} s{self._where(thread)}"

    def _where(self, thread: Optional[int]) -> str:
        """In which line of the plugin a thread is."""
        frame = sys._current_frames().get(thread) if thread is not None else None
        while frame is not None:
            path = Path(frame.f_code.co_filename)
            if self._folder in path.parents:
                return f" (at {path.relative_to(self._folder)}:{frame.f_lineno})"
            frame = frame.f_back
        return ""


def _since(call: Call, now: float) -> float:
    """For how long nobody has waited for a call."""
    return 0.0 if call.given_up is None else now - call.given_up
