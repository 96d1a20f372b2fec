"""The protocols of AWS: how a request names its operation, and how values and errors look on the wire.

CBOR is read and written by botocore's own code for its clients, which others wrote and many use; it reads what clients
send as it would read what a service sends, which is the same encoding.
"""

import json

from botocore.parsers import RpcV2CBORParser
from botocore.serialize import RpcV2CBORSerializer

from .model import from_json, to_json

# What services that once spoke the query protocol call these errors, and still do for clients that ask for it.
QUERY_CODES = {
    "AccessDeniedException": "AccessDenied",
    "ExpiredTokenException": "ExpiredToken",
    "ThrottlingException": "Throttling",
    "UnrecognizedClientException": "InvalidClientTokenId",
    "ValidationException": "ValidationError",
}


class Json:
    """The JSON protocols that name their operation in a header."""

    HEADERS = {"Content-Type": "application/x-amz-json-1.1"}

    @staticmethod
    def operation(wire, _path, headers):
        """The name of a request's operation, or None when it is not one of this service."""
        prefix, _, operation = headers.get("X-Amz-Target", "").partition(".")
        return operation if wire.model.metadata.get("targetPrefix") == prefix else None

    @staticmethod
    def read(body, shape):
        """Parameters of a body."""
        return from_json(json.loads(body or b"{}"), shape)

    @staticmethod
    def write(answer, shape):
        """The body of an answer."""
        return json.dumps(to_json(answer, shape), default=str).encode()

    @classmethod
    def error(cls, refused):
        """Body and headers of an error."""
        body = json.dumps({"__type": refused.code, "message": refused.message}).encode()
        return body, {**cls.HEADERS, "x-amzn-ErrorType": refused.code}


class RestJson(Json):
    """JSON at paths; none of ours has parameters in its path."""

    HEADERS = {"Content-Type": "application/json"}

    @staticmethod
    def operation(wire, path, headers):
        """See `Json`."""
        if headers.get("X-Amz-Target"):
            return None
        names = wire.model.operation_names
        return next((name for name in names if wire.model.operation_model(name).http["requestUri"] == path), None)


class Cbor:
    """Smithy RPC v2 with CBOR."""

    HEADERS = {"Content-Type": "application/cbor", "smithy-protocol": "rpc-v2-cbor"}

    @staticmethod
    def operation(wire, path, headers):
        """See `Json`."""
        if headers.get("smithy-protocol") != "rpc-v2-cbor":
            return None
        service, _, operation = path.removeprefix("/service/").partition("/operation/")
        return operation if service == wire.model.metadata.get("targetPrefix") else None

    @staticmethod
    def read(body, _shape):
        """Parameters of a body."""
        parser = RpcV2CBORParser()
        return parser.parse_data_item(parser.get_peekable_stream_from_bytes(body)) if body else {}

    @staticmethod
    def write(answer, shape):
        """The body of an answer; none of an operation that answers nothing."""
        if shape is None:
            return b""
        body = bytearray()
        RpcV2CBORSerializer()._serialize_data_item(body, answer, shape)  # noqa: SLF001: there is no public name
        return bytes(body)

    @classmethod
    def error(cls, refused):
        """Body and headers of an error."""
        body, code = bytearray(), QUERY_CODES.get(refused.code, refused.code)
        members = {"__type": refused.code, "message": refused.message}
        body.append(0xA0 + len(members))
        for text in (text for pair in members.items() for text in pair):
            RpcV2CBORSerializer()._serialize_type_string(body, text, None, None)  # noqa: SLF001
        side = "Sender" if refused.status < 500 else "Receiver"
        return bytes(body), {**cls.HEADERS, "x-amzn-query-error": f"{code};{side}"}


PROTOCOLS = {"json": Json, "rest-json": RestJson, "smithy-rpc-v2-cbor": Cbor}
