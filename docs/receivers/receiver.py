"""Receives webhooks of backfill-watch. Needs Python 3.9 and nothing else."""

import base64
import hashlib
import hmac
import json
import os
import sqlite3
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SECRET = base64.b64decode(os.environ["WEBHOOK_SECRET"].strip().removeprefix("whsec_"))
if len(SECRET) < 24:
    raise SystemExit("WEBHOOK_SECRET is not a webhook secret")
PORT = int(os.environ.get("PORT", "8000"))
TOLERANCE = 5 * 60  # seconds
MAX_BODY = 20_000  # bytes


def is_signed(headers, body):
    """Returns whether the daemon signed this request within the last five minutes."""
    event_id = headers.get("webhook-id", "")
    timestamp = headers.get("webhook-timestamp", "")
    if not timestamp.isdecimal() or len(timestamp) > 10:
        return False
    if abs(time.time() - int(timestamp)) > TOLERANCE:
        return False
    signed = f"{event_id}.{timestamp}.".encode() + body
    expected = b"v1," + base64.b64encode(hmac.digest(SECRET, signed, hashlib.sha256))
    # There is one signature for each secret while a secret is rotated.
    signatures = headers.get("webhook-signature", "").encode().split(b" ")
    return any(hmac.compare_digest(signature, expected) for signature in signatures)


def store(event_id, event):
    """Stores an event. Returns whether it is new. Do your own work in the same transaction."""
    database = sqlite3.connect("events.db")
    try:
        with database:
            database.execute("CREATE TABLE IF NOT EXISTS events (id TEXT PRIMARY KEY, event TEXT)")
            added = database.execute(
                "INSERT OR IGNORE INTO events VALUES (?, ?)", (event_id, json.dumps(event))
            )
        return added.rowcount == 1
    finally:
        database.close()


class Receiver(BaseHTTPRequestHandler):
    timeout = 10

    def do_POST(self):
        length = self.headers.get("content-length", "")
        if not length.isdecimal() or int(length) > MAX_BODY:
            return self.answer(413)
        body = self.rfile.read(int(length))
        if not is_signed(self.headers, body):
            return self.answer(401)
        event_id, event = self.headers["webhook-id"], json.loads(body)
        result = "accepted" if store(event_id, event) else "duplicate"
        print(result, event_id, event["type"], event["data"].get("operationId", ""), flush=True)
        self.answer(204)

    def answer(self, status):
        self.send_response(status)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", PORT), Receiver)
print(f"listening on http://127.0.0.1:{server.server_port}/", flush=True)
server.serve_forever()
