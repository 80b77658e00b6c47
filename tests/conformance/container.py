"""The one program in every container of the conformance suite: `python -c` of this text, with a word for what to be.

It needs a Python of 3.11 or newer and nothing else, so that any such image runs it in a cluster and any such
interpreter on a laptop. `serve` is an HTTP server that does what the path says and keeps what it was sent, `job` reads
its event and tells of it in its log, `fail` ends with status 3 at once.
"""

import base64
import hashlib
import http.server
import json
import os
import pathlib
import signal
import sys
import threading
import time
import urllib.parse

LOCK = threading.Lock()
BOXES = {}
BUSY = {"now": 0, "most": 0}


class Handler(http.server.BaseHTTPRequestHandler):
    """POST /box/NAME?answers=503,200 keeps and answers; GET /box/NAME shows; the others answer by what they are called.

    answers: one for each request to the box, the last one for all that follow: a status, `hang` (the connection is
    closed without an answer) or `sleep` (for `seconds`). reply: the type of a CloudEvent to answer 2xx with, whose id
    is the event's with `+` behind it. text: a plain body to answer with.
    An event of type probe.… is kept in a box of its own, and taken.
    """

    protocol_version = "HTTP/1.1"

    def handle_one_word(self):
        where = urllib.parse.urlsplit(self.path)
        query = dict(urllib.parse.parse_qsl(where.query))
        word, _, rest = where.path.strip("/").partition("/")
        body = self.read_body()
        if word == "box" and self.command == "GET":
            with LOCK:
                kept = list(BOXES.get(rest, []))
            self.answer(200, kept)
        elif word == "box":
            self.keep(rest, query, body)
        elif word == "sleep":
            with LOCK:
                BUSY["now"] += 1
                BUSY["most"] = max(BUSY.values())
            time.sleep(float(query["seconds"]))
            with LOCK:
                BUSY["now"] -= 1
            self.answer(200, {"most": BUSY["most"]})
        elif word == "stream":
            self.stream(int(query["lines"]), float(query["every"]))
        elif word == "digest":
            self.answer(200, {"bytes": len(body), "sha256": hashlib.sha256(body).hexdigest()})
        elif word == "bytes":
            self.plain(200, b"x" * int(rest))
        elif word == "status":
            self.plain(int(rest), b"as asked", Location="/elsewhere")
        elif word == "crash":
            os._exit(3)
        else:
            self.answer(200, self.seen(body))

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = handle_one_word

    def read_body(self):
        if self.headers.get("transfer-encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("content-length") or 0))
        parts = []
        while size := int(self.rfile.readline().partition(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def seen(self, body):
        return {
            "method": self.command,
            "path": self.path,
            "headers": [[name.lower(), value] for name, value in self.headers.items()],
            "body": base64.b64encode(body).decode(),
            "at": time.time(),
            "environment": dict(os.environ),
        }

    def keep(self, name, query, body):
        if self.headers.get("ce-type", "").startswith("probe.") or b'"type":"probe.' in body:
            name, query = f"probes-of-{name}", {}
        answers = query.get("answers", "200").split(",")
        note = self.seen(body)
        del note["environment"]
        with LOCK:
            box = BOXES.setdefault(name, [])
            answer = answers[min(len(box), len(answers) - 1)]
            box.append(note)
        if answer == "hang":
            self.close_connection = True
            return
        if answer == "sleep":
            time.sleep(float(query["seconds"]))
            answer = "200"
        if answer.startswith("2") and "reply" in query:
            event = {name: value for name, value in self.headers.items() if name.lower().startswith("ce-")}
            event |= {"ce-id": self.headers["ce-id"] + "+", "ce-type": query["reply"], "ce-source": "/replier"}
            event = {name.lower(): value for name, value in event.items()}
            self.plain(int(answer), b'{"replied":true}', **event, content_type="application/json")
        else:
            self.plain(int(answer), query.get("text", "").encode())

    def stream(self, lines, every):
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for number in range(lines):
            line = f"{number}\n".encode()
            self.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))
            time.sleep(every)
        self.wfile.write(b"0\r\n\r\n")

    def answer(self, status, value):
        self.plain(status, json.dumps(value).encode(), content_type="application/json")

    def plain(self, status, body, **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        if status not in (204, 304):
            self.send_header("content-length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD" and status not in (204, 304):
            self.wfile.write(body)

    def log_message(self, *words):
        print(json.dumps({"request": self.requestline}), flush=True)


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


def serve():
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    time.sleep(float(os.environ.get("START_S", "0")))
    print(json.dumps({"serving": os.environ.get("K_REVISION", "")}), flush=True)
    Server(("", int(os.environ.get("PORT", "8080"))), Handler).serve_forever()


def job():
    """Tell what was given, then do what the event's data asks for: `sleep` so many seconds, `exit` with that status."""
    folder = pathlib.Path(os.environ["K_EVENT_PATH"])
    files = sorted(file.name for file in folder.iterdir() if not file.name.startswith("."))
    # A cluster writes bytes as they came, also where they are no text.
    event = json.loads((folder / "event").read_bytes().decode("utf-8", "replace"))
    told = {
        "files": files,
        "event": event,
        "mode": os.environ.get("K_EXECUTION_MODE"),
        "greeting": os.environ.get("GREETING"),
    }
    print(json.dumps(told), flush=True)
    data = event.get("data")
    wish = data if isinstance(data, dict) else {}
    time.sleep(wish.get("sleep", 0))
    sys.exit(wish.get("exit", 0))


def fail():
    print("this revision cannot start", flush=True)
    sys.exit(3)


if __name__ == "__main__":
    {"serve": serve, "job": job, "fail": fail}[sys.argv[1]]()
