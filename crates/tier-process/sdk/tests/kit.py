"""What the tests share: folders with plugins, a guest at the other end of a pipe, the host of the guide. No test stands here."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import shutil
import subprocess
import sys
import tempfile
import textwrap
import threading
import unittest
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

from bespoke_sdk.errors import PluginError
from bespoke_sdk.wire import Message, encode, read

SDK = Path(__file__).resolve().parent.parent
SRC = SDK / "src"
GUIDE = SDK / "tests" / "guide"
#: Against hangs only.
LIMIT = 60.0


def block(number: int) -> str:
    """A code block of the guide."""
    return next(GUIDE.glob(f"block_{number:02}.*")).read_text("utf-8")


def environment(**more: str) -> Dict[str, str]:
    """The environment of a child that is to find the SDK. Where bytecode goes is the choice of who runs the tests."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON") or k == "PYTHONPYCACHEPREFIX"}
    return {**kept, "PYTHONPATH": str(SRC), **more}


class Folder(unittest.TestCase):
    """A test with a folder of its own, in which plugins lie under ``plugins/``."""

    def setUp(self) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="sdk-")).resolve()
        self.addCleanup(shutil.rmtree, self.root, ignore_errors=True)
        self.plugins = self.root / "plugins"
        self.plugins.mkdir()

    def plugin(self, name: str, code: str, contract: str = "tool", **manifest: Any) -> Path:
        """Writes a plugin."""
        folder = self.plugins / name
        folder.mkdir()
        whole = {"name": name, "version": "1.0.0", "contract": contract, "entry_point": "__init__", **manifest}
        (folder / "manifest.json").write_text(json.dumps(whole), "utf-8")
        entry = whole["entry_point"].replace(".", "/")
        (folder / f"{entry}.py").parent.mkdir(exist_ok=True)
        (folder / f"{entry}.py").write_text(textwrap.dedent(code), "utf-8")
        return folder

    def guest(self, folder: Path, start: Any = None, **options: Any) -> Guest:
        """A guest for a plugin, started with a configuration unless that is ``False``."""
        guest = Guest(folder, **options)
        self.addCleanup(guest.close)
        if start is not False:
            guest.start(start)
        return guest


class Guest:
    """The host's end of a guest: sends lines, sorts what comes back."""

    def __init__(self, folder: Path, features: Tuple[str, ...] = ("blob",), max_payload: int = 64 << 20, hello: bool = True) -> None:
        command = [sys.executable, "-m", "bespoke_sdk.guest", "--plugin-dir", str(folder)]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, env=environment())
        self.raw = "blob" in features
        self.hello: Dict[str, Any] = {}
        self._next = 0
        self._queues: Dict[Any, queue.Queue[Message]] = {}
        self._lock = threading.Lock()
        self.errors: List[str] = []
        self._threads = [threading.Thread(target=f, daemon=True) for f in (self._read, self._read_errors)]
        for thread in self._threads:
            thread.start()
        if hello:
            params = {"protocol": 1, "oldest": 1, "host": "test", "features": list(features), "max_payload": max_payload}
            self.send({"id": 0, "method": "hello", "params": params})
            answer = self.take("answer", 0).head
            self.hello = answer.get("result") or {}
            self.hello_error = answer.get("error")

    def _read(self) -> None:
        assert self.process.stdout
        for item in read(self.process.stdout):
            if isinstance(item, Message):
                head = item.head
                key = ("request", head["id"]) if "method" in head and "id" in head else None
                key = key or (("answer", head["id"]) if "method" not in head else (head["method"], head["params"].get("id")))
                self.of(*key).put(item)
            else:
                self.of("bad line", None).put(Message({"why": repr(item)}))

    def _read_errors(self) -> None:
        assert self.process.stderr
        for line in self.process.stderr:
            self.errors.append(line.decode("utf-8", "replace"))

    def of(self, what: str, id: Any) -> queue.Queue[Message]:
        """What came of one kind, for one number."""
        with self._lock:
            return self._queues.setdefault((what, id), queue.Queue())

    def take(self, what: str, id: Any) -> Message:
        """The next of it."""
        try:
            return self.of(what, id).get(timeout=LIMIT)
        except queue.Empty:
            raise AssertionError(f"no {what} {id}; the log: {''.join(self.errors)}") from None

    def send(self, head: Dict[str, Any], blob: bytes = b"") -> None:
        """Sends a message."""
        self.write(encode({"jsonrpc": "2.0", **head}, blob, self.raw, 1 << 40))

    def write(self, line: bytes) -> None:
        """Sends bytes."""
        assert self.process.stdin
        self.process.stdin.write(line)
        self.process.stdin.flush()

    def begin(self, method: str, args: Any, blob: bytes = b"", **more: Any) -> int:
        """Begins a call; its number."""
        self._next += 1
        self.send({"id": self._next, "method": method, "params": {**more, "args": args}}, blob)
        return self._next

    def end(self, id: int) -> Tuple[Any, bytes]:
        """The answer to a call. Raises its error."""
        message = self.take("answer", id)
        if "error" in message.head:
            raise PluginError.from_wire(message.head["error"])
        return message.head["result"], message.blob

    def call(self, method: str, args: Any, blob: bytes = b"", **more: Any) -> Any:
        """A call's result, without its blob."""
        return self.end(self.begin(method, args, blob, **more))[0]

    def start(self, config: Any = None, **setup: Any) -> Any:
        """Starts the plugin."""
        return self.call("plugin.start", {"config": config or {}, "cpu_budget": 1, **setup})

    def invoke(self, method: str, /, **args: Any) -> Any:
        """A method of the plugin by name."""
        return self.call("plugin.invoke", {"method": method, "args": args})

    def open(self, method: str, args: Any, **more: Any) -> int:
        """Opens a stream; its number."""
        self._next += 1
        self.tell("stream/open", method=method, args=args, **more)
        return self._next

    def tell(self, notification: str, blob: bytes = b"", id: Optional[int] = None, **params: Any) -> None:
        """Sends a notification, about the last call or stream unless another is named."""
        self.send({"method": notification, "params": {"id": self._next if id is None else id, **params}}, blob)

    def events(self, id: int) -> List[Tuple[Any, bytes]]:
        """What a stream says until its end. Raises its error."""
        end = self.take("stream/end", id).head["params"]
        out = []
        while not self.of("stream/event", id).empty():
            message = self.take("stream/event", id)
            out.append((message.head["params"]["event"], message.blob))
        if "error" in end:
            raise PluginError.from_wire(end["error"])
        return out

    def log(self) -> str:
        """What the guest wrote on standard error until it ended."""
        self.close()
        return "".join(self.errors)

    def close(self) -> None:
        """Ends the guest by ending its input."""
        if self.process.stdin and not self.process.stdin.closed:
            with contextlib.suppress(OSError):
                self.process.stdin.close()
        try:
            self.process.wait(LIMIT)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        for thread in self._threads:
            thread.join(LIMIT)
        for stream in (self.process.stdout, self.process.stderr):
            if stream:
                stream.close()
