"""The process of a plugin: ``python -m bespoke_sdk.guest --plugin-dir DIR`` serves the plugin in DIR on its standard input and output.

Lines of JSON-RPC go in and out on descriptors that the plugin does not see: before any of its code runs, standard output is made
standard error, and standard input is empty. Reading is a thread of its own, so that pings and cancellations are answered while the
plugin holds the loop. The process ends with its input, and when its parent is gone.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import List, Optional, Tuple

from bespoke_sdk import names
from bespoke_sdk.session import Session
from bespoke_sdk.wire import BadLine, Message, TooLong, Writer, read

__all__ = ["main"]

#: How long the plugin's shutdown may take when the input has ended.
_LAST_SECONDS = 3.0
#: The exit code of a process whose plugin is stuck: EX_TEMPFAIL of sysexits.h, as another one may do better.
_STUCK = 75


def main(argv: Optional[List[str]] = None) -> None:
    """Serves until the input ends. Does not return."""
    parser = argparse.ArgumentParser(prog="bespoke_sdk.guest", description="Serves the plugin in a folder on stdin and stdout.")
    parser.add_argument("--plugin-dir", required=True, type=Path, metavar="DIR", help="the folder with manifest.json or plugin.toml")
    parser.add_argument("--log-level", default="INFO", help="of the plugin's logging: DEBUG, INFO, WARNING, ERROR")
    args = parser.parse_args(argv)
    source, sink = _take_stdio()
    writer = Writer(sink)
    logging.basicConfig(level=args.log_level.upper(), format="%(message)s", handlers=[_LinkHandler(writer)])
    names.install()
    # Of Ctrl-C the host is told too, and ends what it started. A handler, so that programs of the plugin have the default.
    signal.signal(signal.SIGINT, lambda *_: None)
    threading.Thread(target=_watch_parent, args=(os.getppid(),), name="parent", daemon=True).start()

    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    session = Session(loop, writer, args.plugin_dir, _give_in)
    loop.call_soon(session.load)  # before anything that the reader puts there
    threading.Thread(target=_read, args=(source, session), name="reader", daemon=True).start()
    while not session.over:
        try:
            loop.run_forever()
        except SystemExit as e:
            logging.getLogger("bespoke_sdk").error("a task of the plugin called sys.exit(%r); the plugin goes on running", e.code)
    _leave()


def _take_stdio() -> Tuple[int, int]:
    """The link for ourselves, and for the plugin: standard output to the log, and nothing to read."""
    source, sink = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    # Made anew: the old one remembers of what kind the descriptor was.
    sys.stdout = open(1, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
    return source, sink


def _read(source: int, session: Session) -> None:
    """The reader's thread."""
    with os.fdopen(source, "rb", buffering=1 << 16) as lines:
        for item in read(lines):
            if isinstance(item, Message):
                session.received(item)
            elif isinstance(item, TooLong):
                session.too_long(item)
            elif isinstance(item, BadLine):
                logging.getLogger("bespoke_sdk").warning("a line from the host is no message: %s", item.why)
    session.end()
    time.sleep(_LAST_SECONDS)
    _leave()


def _watch_parent(parent: int) -> None:
    """A plugin whose host was killed must not go on, even when somebody else holds the other end of its input."""
    while os.getppid() == parent:
        time.sleep(1)
    _leave()


def _give_in(why: str) -> None:
    """Ends a process that serves nobody any more. The host starts another."""
    print(f"ERROR: {why}", file=sys.stderr)
    _leave(_STUCK)


def _leave(code: int = 0) -> None:
    """Ends the process, whatever threads of the plugin still run."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


class _LinkHandler(logging.Handler):
    """The ``logging`` of the plugin, as lines for the host's log."""

    def __init__(self, writer: Writer) -> None:
        super().__init__()
        self._writer = writer

    def emit(self, record: logging.LogRecord) -> None:
        number = record.levelno
        level = "error" if number >= logging.ERROR else "warn" if number >= logging.WARNING else "info"
        level = "debug" if number < logging.INFO else level
        try:
            for line in self.format(record).splitlines():
                if self._writer.greeted:
                    self._writer.send({"method": "$/log", "params": {"level": level, "line": line}})
                else:
                    print(f"{level}: {line}", file=sys.stderr)
        except Exception:
            self.handleError(record)


if __name__ == "__main__":
    main()
