"""A guest that counts its calls, answers them in the order in which they come, and passes its count on.

    counter.py ID

An answer is: when this process was started, how many calls it answered before, what the count is, and what it was told.
"""

import json
import sys
import time

PLUGIN = sys.argv[1]
BORN = time.monotonic_ns()
OUT = sys.stdout.buffer
IN = sys.stdin.buffer


def say(message, blob=None):
    line = dict(message, jsonrpc="2.0")
    if blob is None:
        OUT.write(json.dumps(line).encode() + b"\n")
    else:
        OUT.write(json.dumps(dict(line, blob=len(blob))).encode() + b"\n" + blob + b"\n")
    OUT.flush()


def main():
    answered = count = 0
    while line := IN.readline():
        message = json.loads(line)
        blob = b""
        if message.get("blob"):
            blob = IN.read(message["blob"])
            IN.read(1)
        number, method, params = message.get("id"), message.get("method"), message.get("params") or {}
        if method == "tool.call":
            text = json.dumps([BORN, answered, count, params["args"]["args"]])
            answered += 1
            count += 1
            say({"id": number, "result": {"content": [{"type": "text", "text": text}]}})
        elif method == "hello":
            tool = {"name": PLUGIN, "description": "Counts.", "input_schema": {"type": "object"}}
            specs = [{"kind": "tool", "spec": tool}]
            hello = {"protocol": 1, "oldest": 1, "plugin": PLUGIN, "version": "1.0.0", "specs": specs, "features": ["blob"]}
            say({"id": 0, "result": hello})
        elif method in ("plugin.start", "plugin.vitals"):
            say({"id": number, "result": {"health": {"status": "ok"}, "facts": {}}})
        elif method == "plugin.capture_state":
            say({"id": number, "result": {"version": 1, "bytes": []}}, str(count).encode())
        elif method == "plugin.restore_state":
            count = int(blob)
            say({"id": number, "result": None})
        elif method == "plugin.shutdown":
            say({"id": number, "result": None})
        elif method == "$/ping":
            say({"method": "$/pong", "params": {"id": params["id"]}})


main()
