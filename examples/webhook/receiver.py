#!/usr/bin/env python3
"""Takes the answers of an agent over the webhook channel: believes what is signed and new, and takes each one once.

    WEBHOOK_SIGNING_KEY=$(cat key.txt) python3 receiver.py 9000

It needs nothing but Python, and keeps what it has seen in memory: a service of yours keeps it where it survives a restart.
"""

import hashlib
import hmac
import json
import os
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

KEY = os.environ["WEBHOOK_SIGNING_KEY"].strip().encode()
WINDOW = 300  # seconds that both clocks, and the way of a message, may be apart
MOST = 16 << 20  # bytes of an answer
seen = set()


def is_signed(timestamp, signature, body):
    """Whether this body was signed with the key, and not long ago."""
    if not timestamp or not signature or not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) < 16):
        return False
    if abs(time.time() - int(timestamp)) > WINDOW:
        return False
    digest = hmac.new(KEY, timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()
    return hmac.compare_digest(f"v1={digest}".encode(), signature.encode())


class Receiver(BaseHTTPRequestHandler):
    def do_POST(self):
        length = self.headers.get("Content-Length", "")
        if not length.isdigit() or int(length) > MOST:
            return self.answer(413)
        body = self.rfile.read(int(length))
        if not is_signed(self.headers.get("X-Bespoke-Timestamp"), self.headers.get("X-Bespoke-Signature"), body):
            return self.answer(401)
        answer = json.loads(body)
        # The same key is the same answer, sent again because ours did not arrive.
        key = answer.get("idempotency_key")
        if key is None or key not in seen:
            seen.add(key)
            print(f"{answer['chat']}: {answer['text']}", flush=True)
        self.answer(200)

    def answer(self, status):
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Receiver)
    print(f"answers are taken at http://127.0.0.1:{server.server_port}/answers", flush=True)
    server.serve_forever()
