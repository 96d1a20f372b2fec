"""A collector of OpenTelemetry in tests, as far as traces by HTTP with protobuf go: what arrives is read with OpenTelemetry's own
messages, and what they do not know is told.

Binds 127.0.0.1 on a free port, prints `{"port": N}` on one line and serves until its standard input closes.

    POST /v1/traces     as a collector answers, or as it was told to
    POST /_answer       {"status", "headers", "rejected", "times"}: what the next calls are answered instead
    GET  /_received     every call that was a good one: headers and message, as OpenTelemetry's JSON

    .venv/bin/python tests/peers/otlp_receiver.py
"""

import json
import os
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from google.protobuf.json_format import MessageToDict
from google.protobuf.unknown_fields import UnknownFieldSet
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest, ExportTraceServiceResponse


def unknown(message):
    """Numbers of fields that OpenTelemetry does not have, of all messages within."""
    found = [field.field_number for field in UnknownFieldSet(message)]
    for field, value in message.ListFields():
        if field.message_type:
            for one in value if field.is_repeated else [value]:
                found.extend(unknown(one))
    return found


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    received, answers, lock = [], [], threading.Lock()

    def log_message(self, *_):
        """Says nothing."""

    def do_GET(self):  # noqa: N802, the name that http.server looks for
        """What arrived."""
        with self.lock:
            self.answer(200, json.dumps(self.received).encode())

    def do_POST(self):  # noqa: N802
        """Spans, or what to answer them."""
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        with self.lock:
            if self.path == "/_answer":
                rule = json.loads(body)
                self.answers.extend([rule] * rule.get("times", 1))
                return self.answer(200, b"{}")
            if self.path != "/v1/traces" or self.headers.get("Content-Type") != "application/x-protobuf":
                return self.answer(415, b"")
            rule = self.answers.pop(0) if self.answers else {}
            if rule.get("status", 200) != 200:
                return self.answer(rule["status"], b"not now", rule.get("headers", {}))
            request = ExportTraceServiceRequest.FromString(body)
            if unknown(request):
                return self.answer(400, f"unknown fields {unknown(request)}".encode())
            headers = {name.lower(): value for name, value in self.headers.items()}
            self.received.append({"headers": headers, "message": MessageToDict(request)})
            answer = ExportTraceServiceResponse()
            if "rejected" in rule:
                answer.partial_success.rejected_spans = rule["rejected"]
                answer.partial_success.error_message = "too old"
            return self.answer(200, answer.SerializeToString(), {"Content-Type": "application/x-protobuf"})

    def answer(self, status, body, headers=None):
        """Answers."""
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


def end_with_parent():
    """Ends the process when standard input does."""
    while sys.stdin.buffer.read(4096):
        pass
    os._exit(0)


def main():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=end_with_parent, daemon=True).start()
    print(json.dumps({"port": server.server_address[1]}), flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
