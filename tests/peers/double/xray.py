"""AWS X-Ray, as far as reading summaries of traces needs it. Control:
    POST /_double/xray/put        {"traces": [{"start": seconds, "annotations": {...}, ...}]}; other members are those of
                                  a TraceSummary (HasFault, ResponseTime, IsPartial, ...)
    POST /_double/xray/settings   {"page_traces": n}
"""

import datetime
import re

from .model import Refused, Service, seconds

LONGEST_SPAN_SECONDS = 6 * 3600
UTC = datetime.timezone.utc


class Xray:
    """The service."""

    def __init__(self):
        self.wire = Service("xray")
        self.traces = []
        self.page_traces = 100
        self.operations = {"GetTraceSummaries": self.get_trace_summaries}
        self.control = {"put": self.put, "settings": self.settings}

    def before(self, _operation):
        """Nothing happens by itself."""

    def put(self, body):
        """Adds traces."""
        self.traces.extend(body["traces"])

    def settings(self, body):
        """Changes how answers are made."""
        self.page_traces = body.get("page_traces", self.page_traces)

    def get_trace_summaries(self, params):
        """Traces that began in a span and match, page by page."""
        start, end = seconds(params["StartTime"]), seconds(params["EndTime"])
        if start > end:
            raise Refused("InvalidRequestException", "StartTime must be before EndTime")
        if end - start > LONGEST_SPAN_SECONDS:
            raise Refused("InvalidRequestException", "Time range can't be longer than 6 hours")
        if params.get("TimeRangeType", "TraceId") != "TraceId":
            raise Refused("InvalidRequestException", "the double knows traces by their beginning")
        matches = matcher(params.get("FilterExpression", ""))
        # Both ends are in the span: AWS does not say, and a client must bear either.
        found = [trace for trace in self.traces if start <= trace["start"] <= end and matches(trace)]
        begin = int(params.get("NextToken", "0"))
        page = found[begin : begin + self.page_traces]
        answer = {"TraceSummaries": [summary(number, trace) for number, trace in enumerate(page, begin)],
                  "TracesProcessedCount": len(self.traces)}
        if begin + len(page) < len(found):
            answer["NextToken"] = str(begin + len(page))
        return answer


def summary(number, trace):
    """The summary of a trace."""
    members = {name: value for name, value in trace.items() if name not in ("start", "annotations")}
    start = datetime.datetime.fromtimestamp(trace["start"], UTC)
    flags = {"HasFault": False, "HasError": False, "HasThrottle": False, "IsPartial": False}
    return {"Id": f"1-{int(trace['start']):08x}-{number:024x}", "StartTime": start, **flags, **members}


def matcher(expression):
    """Filters of the form `annotation.NAME = "VALUE"`, joined by AND; an empty one takes all."""
    wanted = []
    for part in filter(None, re.split(r"\s+AND\s+", expression.strip())):
        match = re.fullmatch(r'annotation[.](\w+) = "([^"]*)"', part)
        if not match:
            raise Refused("InvalidRequestException", f"Invalid filter expression: {expression}")
        wanted.append((match[1], match[2]))
    return lambda trace: all(trace.get("annotations", {}).get(name) == value for name, value in wanted)
