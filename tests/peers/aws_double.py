"""Stand-in for AWS services in tests: what it accepts and answers is checked against the service models of botocore.

Binds 127.0.0.1 on a free port, prints `{"port": N}` on one line and serves until its standard input closes, which
happens when whoever started it ends. README.md beside this file names each difference from AWS.

    .venv/bin/python tests/peers/aws_double.py
"""

import json
import os
import sys
import threading

from double.cloudwatch import CloudWatch
from double.ecs import Ecs
from double.server import Server
from double.xray import Xray


def end_with_parent():
    """Ends the process when standard input does: nobody is left who could ask anything."""
    while sys.stdin.buffer.read(4096):
        pass
    # Threads may hang on purpose, see `hang` among the faults; nothing here is worth saving.
    os._exit(0)


def main():
    server = Server([Ecs(), CloudWatch(), Xray()])
    threading.Thread(target=end_with_parent, daemon=True).start()
    print(json.dumps({"port": server.port}), flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
