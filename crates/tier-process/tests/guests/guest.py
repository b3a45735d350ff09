"""A guest without the SDK: it speaks the lines itself, and does what a test asks, however wrong.

    guest.py MODE ID TOOL

MODE says what goes wrong before anything is asked of it; `ok` for nothing.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time

MODE, PLUGIN, TOOL = sys.argv[1:4]
OUT = sys.stdout.buffer
IN = sys.stdin.buffer
LOCK = threading.Lock()
QUIET = threading.Event()
RELEASED = threading.Event()


def raw(data):
    with LOCK:
        OUT.write(data)
        OUT.flush()


def say(message, blob=None):
    line = dict(message, jsonrpc="2.0")
    if blob is not None:
        line["blob"] = len(blob)
    data = json.dumps(line).encode() + b"\n"
    raw(data if blob is None else data + blob + b"\n")


def text(text):
    return {"content": [{"type": "text", "text": text}]}


def fail(number, code, message):
    say({"id": number, "error": {"code": code, "message": message}})


def spec(kind, **rest):
    return {"kind": kind, "spec": rest}


def hello():
    specs = [
        spec("tool", name=TOOL, description="Does what it is told.", input_schema={"type": "object"}),
        spec("vad", name=PLUGIN),
    ]
    protocol = 99 if MODE == "newer" else 1
    result = {"protocol": protocol, "oldest": protocol, "plugin": PLUGIN, "version": "1.0.0", "specs": specs, "features": ["blob"]}
    if MODE == "small":
        result["max_payload"] = 4096
    if MODE == "somebody":
        result["plugin"] = "somebody"
    say({"id": 0, "result": result})


def act(number, args):
    what = args.get("do", "echo")
    if what == "echo":
        say({"id": number, "result": text(json.dumps(args.get("value")))})
    elif what == "sleep":
        time.sleep(args["s"])
        say({"id": number, "result": text("slept")})
    elif what == "held":
        RELEASED.wait()
        say({"id": number, "result": text("held %d" % args["n"])})
    elif what == "release":
        RELEASED.set()
        say({"id": number, "result": text("released")})
    elif what == "raise":
        fail(number, -32061, "ValueError: no")
    elif what == "exit":
        print("about to go", file=sys.stderr, flush=True)
        os._exit(3)
    elif what == "abort":
        os.abort()
    elif what == "segv":
        os.kill(os.getpid(), signal.SIGSEGV)
    elif what == "bomb":
        hold = []
        while True:
            hold.append(bytearray(os.urandom(1 << 20)))
    elif what == "garbage":
        raw(b"hello from print\n\x00\xff\xfe\n{}\n[1]\n42\n" + b'{"jsonrpc":"2.0"}\n{"jsonrpc":"2.0","method":"no/such"}\n')
        raw(b'{"jsonrpc":"2.0","id":"x","result":1}\n{"jsonrpc":"2.0","id":-1,"result":1}\n')
        say({"id": number, "result": text("after garbage")})
    elif what == "half and on":
        raw(b'{"jsonrpc":"2.0","id":%d,"res' % number)
        raw(b"\n")
        say({"id": number, "result": text("after half")})
    elif what == "half":
        raw(b'{"jsonrpc":"2.0","id":%d,"res' % number)
        os._exit(0)
    elif what == "long":
        raw(b'{"jsonrpc":"2.0","id":%d,"result":{"content":[{"type":"text","text":"' % number)
        for _ in range(100):
            raw(b"x" * (1 << 20))
        raw(b'"}]}}\n')
    elif what == "flood":
        while True:
            raw(b"this is no message, and it does not end\n" * 1000)
    elif what == "logs":
        while True:
            say({"method": "$/log", "params": {"level": "error", "line": "again and again"}})
    elif what == "stderr":
        for _ in range(2):
            threading.Thread(target=lambda: [os.write(2, b"noise on stderr\n" * 4096) for _ in range(1 << 30)], daemon=True).start()
        time.sleep(0.2)
        say({"id": number, "result": text("still here")})
    elif what == "never":
        pass
    elif what == "twice":
        say({"id": number, "result": text("first")})
        say({"id": number, "result": text("second")})
        fail(number, -32000, "third")
    elif what == "wrong id":
        say({"id": number + 1000, "result": text("for nobody")})
        say({"id": 0, "result": text("for nobody")})
        say({"method": "stream/end", "params": {"id": number + 7}})
    elif what == "wrong type":
        say({"id": number, "result": {"content": 7}})
    elif what == "blind":
        # Reads no more, and says nothing more.
        QUIET.set()
        while True:
            time.sleep(60)
    elif what == "close stdout":
        os.close(1)
        while True:
            time.sleep(60)
    elif what == "grandchild":
        child = subprocess.Popen(["sleep", "1000"], stdin=subprocess.DEVNULL)
        say({"id": number, "result": text(str(child.pid))})
    elif what == "stderr lines":
        for line in args["lines"]:
            print(line, file=sys.stderr, flush=True)
        say({"id": number, "result": text("said")})
    elif what == "env":
        say({"id": number, "result": text(json.dumps({"env": dict(os.environ), "cwd": os.getcwd(), "fds": sorted(os.listdir("/proc/self/fd"))}))})
    elif what == "python":
        scope = {}
        try:
            exec(args["code"], scope)
            said = str(scope.get("out"))
        except Exception as e:
            said = "%s: %s" % (type(e).__name__, e)
        say({"id": number, "result": text(said)})
    elif what == "big":
        say({"id": number, "result": text("x" * args["bytes"])})
    elif what == "length":
        say({"id": number, "result": text(str(len(args["value"])))})
    else:
        fail(number, -32602, "what?")


def stream(number, count):
    """Answers each piece of sound with an event; dies at the third."""
    say({"method": "stream/event", "params": {"id": number, "event": {"type": "speech_start", "at": count, "from": 0}}})
    if count == 3 and MODE == "dies mid-stream":
        os._exit(9)


def main():
    if MODE == "exits":
        print("ImportError: no module named x", file=sys.stderr)
        sys.exit(7)
    if MODE == "silent":
        time.sleep(3600)
    if MODE == "deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    streams = {}
    while True:
        line = IN.readline()
        if not line:
            if MODE == "deaf":
                while True:
                    time.sleep(60)
            return
        message = json.loads(line)
        blob = None
        if message.get("blob"):
            blob = IN.read(message["blob"])
            IN.read(1)
        number, method, params = message.get("id"), message.get("method"), message.get("params") or {}
        if method == "hello":
            hello()
        elif method == "plugin.start":
            if MODE == "slow":
                time.sleep(3600)
            if MODE == "refuses":
                fail(number, -32003, "it does not want to")
                continue
            say({"id": number, "result": {"health": {"status": "ok"}, "facts": {"engine": "test"}}})
        elif method == "plugin.shutdown":
            if MODE == "deaf":
                continue
            say({"id": number, "result": None})
        elif method == "plugin.vitals":
            if MODE == "mute":
                continue
            say({"id": number, "result": {"health": {"status": "ok"}, "facts": {"engine": "test"}}})
        elif method == "$/ping":
            say({"method": "$/pong", "params": {"id": params["id"]}})
        elif method == "tool.call":
            args = params["args"]["args"]
            if args.get("do") in ("loop", "blind"):
                # Where all lines are read, so that nothing more is.
                if args["do"] == "loop":
                    while True:
                        pass
                act(number, args)
            threading.Thread(target=act, args=(number, args), daemon=True).start()
        elif method == "stream/open":
            streams[params["id"]] = 0
        elif method == "stream/data":
            streams[params["id"]] += 1
            stream(params["id"], streams[params["id"]])
        elif method == "stream/finish":
            say({"method": "stream/end", "params": {"id": params["id"]}})


main()
