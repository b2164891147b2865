"""A minimal application: it appends operation IDs to the watch list, and receives a signed webhook event when each
operation ends. It needs only Python's standard library."""

import base64
import hashlib
import hmac
import http.server
import json
import os
import signal
import sys
import time

with open(os.environ["WEBHOOK_SECRET_FILE"]) as file:
    SECRET = base64.b64decode(file.readline().strip().removeprefix("whsec_"))
if len(SECRET) < 24:
    raise SystemExit("WEBHOOK_SECRET_FILE has no webhook secret")
TOLERANCE = 5 * 60  # maximum age of a request in seconds, against replay attacks
MAX_BODY = 20_000
handled = set()  # a real application stores these IDs in its database, in the transaction that handles the event


def watch(operation_id, **labels):
    """Adds an operation to the watch list. One write per line, so that lines of several writers never mix."""
    words = [operation_id] + [f"{key}={value}" for key, value in labels.items()]
    with open(os.environ["WATCH_LIST"], "ab", buffering=0) as watch_list:
        watch_list.write((" ".join(words) + "\n").encode())


def verified(headers, body):
    """Checks the daemon's signature, like the Standard Webhooks libraries."""
    event_id, timestamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not timestamp.isdecimal() or abs(time.time() - int(timestamp)) > TOLERANCE:
        return False
    signed = f"{event_id}.{timestamp}.".encode() + body
    expected = base64.b64encode(hmac.digest(SECRET, signed, hashlib.sha256)).decode()
    signatures = headers.get("webhook-signature", "").split(" ")
    return any(hmac.compare_digest(signature.encode(), f"v1,{expected}".encode()) for signature in signatures)


class Callbacks(http.server.BaseHTTPRequestHandler):
    """Answers POST /backfills."""

    timeout = 10

    def do_POST(self):
        length = self.headers.get("content-length", "")
        if not length.isdecimal() or int(length) > MAX_BODY:
            return self.answer(413)
        body = self.rfile.read(int(length))
        if not verified(self.headers, body):
            return self.answer(401)
        # The same event may arrive twice, for example after a timeout.
        if self.headers["webhook-id"] not in handled:
            handled.add(self.headers["webhook-id"])
            event = json.loads(body)
            data = event["data"]
            print(event["type"], data.get("operationId", data["project"]), data.get("labels", {}), flush=True)
        self.answer(204)

    def answer(self, status):
        self.send_response(status)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    # A real application would start a backfill here and receive its ID.
    for operation_id in os.environ.get("BACKFILLS", "").split():
        watch(operation_id, customer="acme")
    http.server.ThreadingHTTPServer(("", 8080), Callbacks).serve_forever()
