"""``python -m plugins._host``: the command line, the streams and the end. What requests mean stands in ``server``."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import logging.handlers
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any, List, Optional

from bespoke_sdk import __version__
from bespoke_sdk.errors import PluginError
from bespoke_sdk.host.plugins import Plugins
from bespoke_sdk.host.server import Server
from bespoke_sdk.wire import lines

__all__ = ["main"]

DONE, FAILED, INTERRUPTED, TERMINATED, END_OF_INPUT = range(5)
_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
#: How long requests may go on when the end was asked for.
_DRAIN_SECONDS = 10.0
_LOG_BYTES, _LOG_FILES = 5 << 20, 3
_log = logging.getLogger("launcher")


class _Parser(argparse.ArgumentParser):
    """2 is the exit code of an interruption here."""

    def error(self, message: str) -> Any:
        self.print_usage(sys.stderr)
        self.exit(FAILED, f"{self.prog}: {message}\n")


def main(argv: Optional[List[str]] = None) -> int:
    """Serves until shutdown (0), an error (1), SIGINT (2), SIGTERM (3) or the end of the input (4)."""
    parser = _Parser(prog="python -m plugins._host", description="Hosts plugins: JSON-RPC 2.0 on stdin and stdout, a line each.")
    parser.add_argument("--plugins-dir", type=Path, default=Path("./plugins"), help="the folder of plugins (./plugins)")
    parser.add_argument("--config-dir", type=Path, default=Path("./config"), help="where <plugin>.json may hold its config (./config)")
    parser.add_argument("--log-level", type=str.upper, choices=_LEVELS, default="INFO", help="of what goes to stderr and logs/")
    parser.add_argument("--auto-load", action="store_true", help="load all plugins at the start")
    parser.add_argument("--auto-install-deps", action="store_true", help="install what a plugin needs into .venv in its folder")
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--sync-mode", action="store_true", help="answer each line before the next one is read")
    mode.add_argument("--force-async", action="store_true", help="answer lines as they are done (the default)")
    parser.add_argument("--version", action="version", version=f"plugins._host {__version__}")
    args = parser.parse_args(argv)
    _start_logging(args.log_level)
    if not args.plugins_dir.is_dir():
        _log.error("%s is no folder: name that of the plugins with --plugins-dir", args.plugins_dir)
        return FAILED
    # Answers go where nothing else does: a stray print is seen on stderr.
    sink = os.dup(1)
    os.dup2(2, 1)
    code = asyncio.run(_serve(args, sink))
    sys.stderr.flush()
    # The thread that reads may still wait for a line.
    os._exit(code)


async def _serve(args: argparse.Namespace, sink: int) -> int:
    loop = asyncio.get_running_loop()
    queue: asyncio.Queue[Any] = asyncio.Queue()
    ended: asyncio.Future[int] = loop.create_future()

    def end(code: int) -> None:
        if not ended.done():
            ended.set_result(code)

    for number, code in ((signal.SIGINT, INTERRUPTED), (signal.SIGTERM, TERMINATED)):
        try:
            loop.add_signal_handler(number, end, code)
        except NotImplementedError:  # Windows
            signal.signal(number, lambda *_, code=code: loop.call_soon_threadsafe(end, code))

    def write(line: bytes) -> None:
        view = memoryview(line)
        while view:
            try:
                view = view[os.write(sink, view) :]
            except OSError:
                end(FAILED)
                return

    plugins = Plugins(args.plugins_dir.resolve(), args.config_dir, args.auto_install_deps, args.log_level)
    server = Server(plugins, write, lambda: end(DONE))
    if args.auto_load:
        await _load_all(plugins)
    # Held back, so that a flood of lines waits in its pipe and not in memory.
    room = threading.Semaphore(1024)
    threading.Thread(target=_read, args=(loop, queue, room), daemon=True).start()
    work = asyncio.ensure_future(_answer(server, queue, room, args.sync_mode, ended, end))
    code = await ended
    with contextlib.suppress(asyncio.TimeoutError):
        await asyncio.wait_for(work, _DRAIN_SECONDS)
    await plugins.end()
    return code


async def _answer(server: Server, queue: Any, room: Any, one_by_one: bool, ended: Any, end: Any) -> None:
    """Takes lines until the end; every request that was taken is answered."""
    running: set = set()
    while not ended.done():
        following = asyncio.ensure_future(queue.get())
        await asyncio.wait({following, ended}, return_when=asyncio.FIRST_COMPLETED)
        if not following.done():
            following.cancel()
            break
        line = following.result()
        if line is None:
            break
        task = asyncio.ensure_future(server.line(line))
        running.add(task)
        task.add_done_callback(lambda t: (running.discard(t), room.release()))
        if one_by_one:
            await task
        else:
            await asyncio.sleep(0)  # so that requests begin in the order in which they came
    if running:
        await asyncio.wait(running)
    end(END_OF_INPUT)


def _read(loop: asyncio.AbstractEventLoop, queue: Any, room: Any) -> None:
    """The reader's thread."""
    with contextlib.suppress(RuntimeError):  # the loop has ended
        for line in lines(sys.stdin.buffer):
            room.acquire()
            loop.call_soon_threadsafe(queue.put_nowait, line)
        loop.call_soon_threadsafe(queue.put_nowait, None)


async def _load_all(plugins: Plugins) -> None:
    """One that does not load is reported, and the others come up."""
    for row in plugins.list():
        try:
            if not row["valid"]:
                raise PluginError(0, "; ".join(row["errors"]))
            await plugins.load(row["name"], None)
        except PluginError as e:
            _log.error("%s does not load: %s", row["name"], e.message)


def _start_logging(level: str) -> None:
    """To stderr, and to logs/launcher.log and logs/plugins.log where these can be written."""
    plain = logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s")
    console = logging.StreamHandler(sys.stderr)
    console.setFormatter(plain)
    logging.basicConfig(level=level, handlers=[console])
    try:
        Path("logs").mkdir(exist_ok=True)
        for name in ("launcher", "plugins"):
            path = Path("logs") / f"{name}.log"
            file = logging.handlers.RotatingFileHandler(path, maxBytes=_LOG_BYTES, backupCount=_LOG_FILES, encoding="utf-8")
            file.setFormatter(plain)
            logging.getLogger(name).addHandler(file)
    except OSError as e:
        _log.warning("no files in logs/: %s", e)
