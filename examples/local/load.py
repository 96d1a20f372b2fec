#!/usr/bin/env python3
"""Sends requests to Tidegate's proxy at a steady rate and prints each second who answered them.

Python's standard library only.
"""

import argparse
import collections
import http.client
import threading
import time

# Each thread waits for its answer before it sends the next request: enough of them to keep the rate.
THREADS = 8


def arguments():
    parser = argparse.ArgumentParser(description="Steady load on one virtual service.")
    parser.add_argument("--rate", type=float, default=100.0, help="requests per second (default 100)")
    parser.add_argument("--seconds", type=float, default=600.0, help="how long (default 600)")
    parser.add_argument("--proxy", default="127.0.0.1:15001", help="egress address (default 127.0.0.1:15001)")
    parser.add_argument("--service", default="checkout.local", help="virtual service (default checkout.local)")
    return parser.parse_args()


class Tally:
    """Answers since it was last printed, by what they said."""

    def __init__(self):
        self.lock = threading.Lock()
        self.answers = collections.Counter()

    def count(self, answer):
        with self.lock:
            self.answers[answer] += 1

    def taken(self):
        with self.lock:
            answers, self.answers = self.answers, collections.Counter()
            return answers


def request(connection, service):
    """What answered: the body's line, or what went wrong."""
    try:
        connection.request("GET", "/", headers={"Host": service})
        answer = connection.getresponse()
        body = answer.read().decode(errors="replace").strip()
        return body if answer.status < 500 or body else f"status {answer.status}"
    except (OSError, http.client.HTTPException) as error:
        connection.close()
        return f"no answer ({type(error).__name__})"


def send(number, given, began, tally):
    connection = http.client.HTTPConnection(given.proxy, timeout=10)
    tick = number
    while True:
        due = began + tick / given.rate
        if due >= began + given.seconds:
            return
        time.sleep(max(0.0, due - time.monotonic()))
        tally.count(request(connection, given.service))
        tick += THREADS


def main():
    given = arguments()
    began, tally = time.monotonic(), Tally()
    threads = [threading.Thread(target=send, args=(n, given, began, tally), daemon=True) for n in range(THREADS)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        time.sleep(1)
        answers = tally.taken()
        parts = [f"{what} {count}" for what, count in sorted(answers.items())] or ["nothing answered"]
        print(f"{time.monotonic() - began:4.0f} s   {'   '.join(parts)}", flush=True)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        pass
