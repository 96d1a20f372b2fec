"""What botocore's service models say of a request or an answer, and values of their shapes as JSON.

botocore's own validator checks names, types, required members and lower bounds. Its models hold more: permitted values,
upper bounds and patterns, which are checked here as well, since AWS refuses what breaks them.
"""

import calendar
import datetime
import re

import botocore.session
from botocore.utils import parse_to_aware_datetime
from botocore.validate import ParamValidator

# Errors that any service may answer, beside those that its model lists for an operation.
COMMON_ERRORS = {
    "AccessDeniedException",
    "ExpiredTokenException",
    "IncompleteSignature",
    "InternalFailure",
    "InvalidSignatureException",
    "MissingAuthenticationTokenException",
    "ServiceUnavailable",
    "ThrottlingException",
    "UnrecognizedClientException",
    "ValidationException",
}


class Refused(Exception):
    """An error as the service would answer it."""

    def __init__(self, code, message, status=400):
        super().__init__(f"{code}: {message}")
        self.code, self.message, self.status = code, message, status


class Impossible(Exception):
    """The double was about to do what the service never does: a fault of the double or of its use."""


class Service:
    """The model of one service."""

    def __init__(self, name):
        self.model = botocore.session.get_session().get_service_model(name)
        self.name = name
        self.validator = ParamValidator()

    def operation(self, name):
        """The model of an operation, or None."""
        return self.model.operation_model(name) if name in self.model.operation_names else None

    def check_input(self, operation, params):
        """Refuses what breaks the model."""
        problems = self._problems(params, operation.input_shape)
        if problems:
            raise Refused(self.invalid_code(operation), problems)

    def check_output(self, operation, answer):
        """Complains about an answer that the service would never give."""
        problems = self._problems(answer, operation.output_shape)
        if problems:
            raise Impossible(f"answer of {operation.name}: {problems}")

    def check_error(self, operation, refused):
        """Complains about an error that the service would never answer."""
        known = {shape.name for shape in operation.error_shapes} | COMMON_ERRORS
        if refused.code not in known:
            raise Impossible(f"{operation.name} never answers {refused.code}; its model knows {sorted(known)}")

    def invalid_code(self, operation):
        """The code for wrong parameters of an operation."""
        codes = [shape.name for shape in operation.error_shapes]
        return "InvalidParameterException" if "InvalidParameterException" in codes else "ValidationException"

    def _problems(self, value, shape):
        if shape is None:
            return "" if not value else "no members are expected"
        report = self.validator.validate(value, shape)
        if report.has_errors():
            return report.generate_report()
        return "\n".join(_constraints(value, shape, ""))


def _constraints(value, shape, path):
    """What the model says beyond botocore's own checks."""
    kind, metadata = shape.type_name, shape.metadata
    if kind == "structure":
        for name, member in shape.members.items():
            if name in value:
                yield from _constraints(value[name], member, f"{path}.{name}")
    elif kind == "list":
        yield from _upper_bound(len(value), metadata, path)
        for index, item in enumerate(value):
            yield from _constraints(item, shape.member, f"{path}[{index}]")
    elif kind == "map":
        for key, item in value.items():
            yield from _constraints(item, shape.value, f"{path}.{key}")
    elif kind == "string":
        yield from _upper_bound(len(value), metadata, path)
        if shape.enum and value not in shape.enum:
            yield f"{path}: {value!r} is none of {shape.enum}"
        pattern = metadata.get("pattern")
        if pattern and not _matches(pattern, value):
            yield f"{path}: {value!r} does not match {pattern}"
    elif kind in ("integer", "long", "double", "float"):
        if isinstance(value, bool):
            yield f"{path}: {value!r} is no number"
        yield from _upper_bound(value, metadata, path)


def _upper_bound(value, metadata, path):
    if "max" in metadata and value > metadata["max"]:
        yield f"{path}: {value} is above {metadata['max']}"


def _matches(pattern, value):
    try:
        return re.search(pattern, value) is not None
    except re.error:
        # Some patterns use the Java dialect; what Python cannot read is not checked.
        return True


def from_json(value, shape):
    """A value as it came over the wire: members that are null count as absent."""
    kind = shape.type_name if shape is not None else None
    if kind == "structure" and isinstance(value, dict):
        members = shape.members
        pairs = ((name, item) for name, item in value.items() if item is not None)
        return {name: from_json(item, members[name]) if name in members else item for name, item in pairs}
    if kind == "list" and isinstance(value, list):
        return [from_json(item, shape.member) for item in value]
    return value


def seconds(value):
    """A time of a request, in seconds since 1970, whichever protocol brought it."""
    return float(value) if isinstance(value, (int, float)) else parse_to_aware_datetime(value).timestamp()


def to_json(value, shape):
    """A value as the JSON protocols send it: times are seconds since 1970."""
    kind = shape.type_name if shape is not None else None
    if kind == "structure":
        return {name: to_json(item, shape.members[name]) for name, item in value.items()}
    if kind == "list":
        return [to_json(item, shape.member) for item in value]
    if kind == "map":
        return {key: to_json(item, shape.value) for key, item in value.items()}
    if isinstance(value, datetime.datetime):
        return calendar.timegm(value.utctimetuple()) + value.microsecond / 1e6
    return value
