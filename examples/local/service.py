#!/usr/bin/env python3
"""A service to try releases with: answers `checkout VERSION`, and fails a share of its requests on purpose.

Python's standard library only. GET /health answers 200, so a bad release looks healthy to a health check; with --unwell it answers 503.
"""

import argparse
import random
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def arguments():
    parser = argparse.ArgumentParser(description="A service in one version, on 127.0.0.1.")
    parser.add_argument("--port", type=int, required=True, help="port to listen on")
    parser.add_argument("--version", required=True, help="what it calls itself in its answers")
    parser.add_argument("--fail-share", type=float, default=0.0, help="share of requests answered 500: 0.0 to 1.0")
    parser.add_argument("--unwell", action="store_true", help="answer GET /health with 503")
    return parser.parse_args()


class Handler(BaseHTTPRequestHandler):
    # Connections stay open between requests; small answers leave at once.
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self):
        if self.path == "/health":
            self.answer(503, "unwell\n") if self.server.unwell else self.answer(200, "ok\n")
        elif random.random() < self.server.fail_share:
            self.answer(500, f"checkout {self.server.version} failed\n")
        else:
            self.answer(200, f"checkout {self.server.version}\n")

    def answer(self, status, text):
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Says nothing: with load there would be a line for each request."""


class Service(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request, client_address):
        """A client that goes away in the middle is none of the service's business."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


def main():
    given = arguments()
    try:
        service = Service(("127.0.0.1", given.port), Handler)
    except OSError as error:
        sys.exit(f"cannot listen on 127.0.0.1:{given.port}: {error}")
    service.version, service.fail_share, service.unwell = given.version, given.fail_share, given.unwell
    print(f"checkout {given.version} listens on 127.0.0.1:{given.port}", flush=True)
    try:
        service.serve_forever()
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
