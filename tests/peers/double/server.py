"""Carries requests to services, keeps the journal of calls, and does on request what a bad day does.

A service is an object with `wire` (a `model.Service`), `operations` (name to function of the parameters), `control`
(what tests ask of it beyond its API, name to function of a JSON body) and `before(operation)`, called first. Requests
find it by the protocol that its model names, see `protocols`.

Control, all JSON:
    GET  /_double/calls                 every call so far, oldest first
    POST /_double/faults                {"service", "operation", "kind", "times", "skip"}, see `Faults`
    POST /_double/SERVICE/NAME          a control function of a service
"""

import gzip
import json
import threading
import traceback
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from .model import Impossible, Refused
from .protocols import PROTOCOLS

# What a fault answers: code, message, status.
ANSWERS = {
    "throttle": ("ThrottlingException", "Rate exceeded", 400),
    "server_error": ("InternalFailure", "Service Unavailable. Please try again later.", 500),
    "expired": ("ExpiredTokenException", "The security token included in the request is expired", 400),
    "unknown_key": ("UnrecognizedClientException", "The security token included in the request is invalid.", 400),
}
# Codes of their own that some services have for these.
OWN_CODES = {"throttle": ("ThrottledException",), "server_error": ("ServerException",)}
# A client gives up long before; the thread must end some time.
LONGEST_HANG_SECONDS = 60


class Faults:
    """What goes wrong: for `times` calls of an operation, after `skip` good ones.

    Kinds: those of `ANSWERS`; `deny`; `refuse` with `code`, `message` and `status`; `hang` (no answer and no effect);
    `lost` (the effect happens, the answer does not arrive: the connection is closed); `slow_answer` (the effect
    happens, the answer never comes); `garbage` (`body` with `status`, as a proxy in between would answer).
    """

    def __init__(self):
        self.rules = []

    def add(self, rule):
        """Adds a rule."""
        self.rules.append({"times": 1, "skip": 0, **rule})

    def take(self, service, operation):
        """The fault of this call, if it has one."""
        for rule in self.rules:
            if (rule["service"], rule["operation"]) != (service, operation) or rule["times"] == 0:
                continue
            if rule["skip"] > 0:
                rule["skip"] -= 1
                continue
            rule["times"] -= 1
            return rule
        return None


def refusal(rule, model):
    """The error that a fault answers, or None when it is no answer at all. `model` is that of the operation."""
    kind, operation = rule["kind"], model.name
    if kind in ANSWERS:
        code, message, status = ANSWERS[kind]
        known = {shape.name for shape in model.error_shapes}
        return Refused(next((own for own in OWN_CODES.get(kind, ()) if own in known), code), message, status)
    if kind == "deny":
        who = "arn:aws:sts::123456789012:assumed-role/tidegate/i-1"
        text = f"User: {who} is not authorized to perform: {rule['service']}:{operation} because no identity-based"
        return Refused("AccessDeniedException", f"{text} policy allows the {rule['service']}:{operation} action")
    if kind == "refuse":
        return Refused(rule["code"], rule["message"], rule.get("status", 400))
    return None


class Server(ThreadingHTTPServer):
    """The listener. One lock makes every call atomic: the state has no other protection."""

    daemon_threads = True
    # Tests open many connections at once.
    request_queue_size = 128

    def __init__(self, services):
        super().__init__(("127.0.0.1", 0), Handler)
        self.services = {service.wire.name: service for service in services}
        self.lock = threading.Lock()
        self.faults = Faults()
        self.calls = []
        self.bugs = []
        self.stopping = threading.Event()

    @property
    def port(self):
        """The port that it listens on."""
        return self.server_address[1]

    def recognise(self, handler):
        """The service, its protocol and the operation that a request names; no service where nobody knows it."""
        for service in self.services.values():
            for name in service.wire.model.metadata["protocols"]:
                protocol = PROTOCOLS.get(name)
                operation = protocol and protocol.operation(service.wire, handler.path, handler.headers)
                if operation:
                    return service, protocol, operation
        return None, None, None

    def call(self, service, protocol, operation, body, note):
        """Carries out one call and answers its body; `note` is its entry in the journal."""
        model = service.wire.operation(operation)
        if model is None or operation not in service.operations:
            raise Impossible(f"{service.wire.name} {operation} is not in the double")
        params = protocol.read(body, model.input_shape)
        note["params"] = params
        try:
            service.wire.check_input(model, params)
            service.before(operation)
            answer = service.operations[operation](params)
        except Refused as refused:
            service.wire.check_error(model, refused)
            raise
        service.wire.check_output(model, answer)
        return protocol.write(answer, model.output_shape)


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        """Says nothing: the journal has it all."""

    def do_GET(self):  # noqa: N802, the name that http.server looks for
        """Control: reading."""
        if self.path == "/_double/calls":
            with self.server.lock:
                self.answer(200, self.server.calls)
        else:
            self.answer(404, {"error": f"no {self.path}"})

    def do_POST(self):  # noqa: N802
        """A call of a service, or control."""
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.headers.get("Content-Encoding") == "gzip":
            # Long calls of PutMetricData are.
            body = gzip.decompress(body)
        try:
            if self.path.startswith("/_double/"):
                self.answer(200, self.control(self.path.removeprefix("/_double/"), json.loads(body or b"{}")))
            else:
                self.serve(body)
        except BrokenPipeError:
            # The caller gave up; that is its right.
            self.close_connection = True
        except Exception as error:  # noqa: BLE001: whatever it is, the test has to read it
            traceback.print_exc()
            self.answer(500, {"__type": "DoubleIsWrong", "message": f"{type(error).__name__}: {error}"})

    def control(self, name, value):
        """What a test asks."""
        with self.server.lock:
            if name == "faults":
                self.server.faults.add(value)
                return {}
            service, _, function = name.partition("/")
            return self.server.services[service].control[function](value) or {}

    def serve(self, body):
        """A call of a service."""
        server = self.server
        service, protocol, operation = server.recognise(self)
        if service is None:
            raise Impossible(f"no service for {self.path} and target {self.headers.get('X-Amz-Target')!r}")
        name = service.wire.name
        note = {"service": name, "operation": operation, "outcome": "ok"}
        with server.lock:
            server.calls.append(note)
            fault = server.faults.take(name, operation)
            try:
                answer = self.outcome(service, protocol, operation, body, note, fault)
            except Refused as refused:
                note["outcome"] = refused.code
                answer = refused
        if isinstance(answer, Refused):
            return self.send(answer.status, *protocol.error(answer))
        kind = fault["kind"] if fault else None
        if kind == "garbage":
            return self.send(fault.get("status", 200), fault["body"].encode(), {"Content-Type": "text/html"})
        if kind in ("hang", "slow_answer"):
            server.stopping.wait(LONGEST_HANG_SECONDS)
        if kind in ("hang", "slow_answer", "lost"):
            self.close_connection = True
            return None
        return self.send(200, answer, protocol.HEADERS)

    def outcome(self, service, protocol, operation, body, note, fault):
        """Answer or refusal of a call under a fault."""
        self.require_signature(service)
        if fault is None:
            return self.server.call(service, protocol, operation, body, note)
        note["fault"] = fault["kind"]
        model = service.wire.operation(operation)
        refused = refusal(fault, model)
        if refused is not None:
            service.wire.check_error(model, refused)
            raise refused
        if fault["kind"] in ("hang", "garbage"):
            return b""
        return self.server.call(service, protocol, operation, body, note)

    def require_signature(self, service):
        """A request has to name its key for the right service; the signature itself is not verified."""
        scope = f"/{service.wire.model.signing_name}/aws4_request"
        if scope not in self.headers.get("Authorization", ""):
            raise Refused("MissingAuthenticationTokenException", "Missing Authentication Token", 403)

    def answer(self, status, value):
        """Sends JSON."""
        self.send(status, json.dumps(value, default=str).encode(), {"Content-Type": "application/x-amz-json-1.1"})

    def send(self, status, body, headers):
        """Sends a body."""
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        for name, text in headers.items():
            self.send_header(name, text)
        self.end_headers()
        self.wfile.write(body)
