"""AWS X-Ray, as far as reading summaries of traces needs it. Control:
    POST /_double/xray/put        {"traces": [{"start": seconds, "annotations": {...}, ...}]}; other members are those of
                                  a TraceSummary (HasFault, ResponseTime, IsPartial, ...)
                                  "calls" is what of GetTraceGraph shows: [[from, to], ...], each a service's name, or
                                  [name, type]
    POST /_double/xray/settings   {"page_traces": n}
"""

import datetime
import re

from .model import Refused, Service, seconds

LONGEST_SPAN_SECONDS, MOST_OF_A_GRAPH = 6 * 3600, 5
# Members of a trace that are no part of its summary.
OWN = ("start", "annotations", "calls")
UTC = datetime.timezone.utc


class Xray:
    """The service."""

    def __init__(self):
        self.wire = Service("xray")
        self.traces = []
        self.page_traces = 100
        self.operations = {"GetTraceSummaries": self.get_trace_summaries, "GetTraceGraph": self.get_trace_graph}
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
        all_traces = list(enumerate(self.traces))
        found = [(number, trace) for number, trace in all_traces if start <= trace["start"] <= end and matches(trace)]
        begin = int(params.get("NextToken", "0"))
        page = found[begin : begin + self.page_traces]
        answer = {"TraceSummaries": [summary(number, trace) for number, trace in page],
                  "TracesProcessedCount": len(self.traces)}
        if begin + len(page) < len(found):
            answer["NextToken"] = str(begin + len(page))
        return answer

    def get_trace_graph(self, params):
        """The services of some traces, and what they call."""
        ids = params["TraceIds"]
        if len(ids) > MOST_OF_A_GRAPH:
            raise Refused("InvalidRequestException", f"At most {MOST_OF_A_GRAPH} traces make a graph")
        known = {name_of(number, trace): trace for number, trace in enumerate(self.traces)}
        calls = [call for name in ids for call in known.get(name, {}).get("calls", [])]
        services = {}
        for call in calls:
            for end in map(service_of, call):
                services.setdefault(end, len(services))
        edges = {}
        for source, target in ((service_of(one), service_of(other)) for one, other in calls):
            edges[(source, target)] = edges.get((source, target), 0) + 1
        return {"Services": [
            {"ReferenceId": reference, "Name": name, **({"Type": kind} if kind else {}), "Edges": [
                {"ReferenceId": services[target], "SummaryStatistics": {"TotalCount": count}}
                for (source, target), count in edges.items() if source == (name, kind)
            ]}
            for (name, kind), reference in services.items()
        ]}


def service_of(end):
    """Name and type of one end of a call."""
    return (end, None) if isinstance(end, str) else tuple(end)


def name_of(number, trace):
    """The id of a trace: its beginning, and which one it is."""
    return f"1-{int(trace['start']):08x}-{number:024x}"


def summary(number, trace):
    """The summary of a trace."""
    members = {name: value for name, value in trace.items() if name not in OWN}
    start = datetime.datetime.fromtimestamp(trace["start"], UTC)
    flags = {"HasFault": False, "HasError": False, "HasThrottle": False, "IsPartial": False}
    return {"Id": name_of(number, trace), "StartTime": start, **flags, **members}


def matcher(expression):
    """Filters of the form `annotation.NAME = "VALUE"`, joined by AND; an empty one takes all."""
    wanted = []
    for part in filter(None, re.split(r"\s+AND\s+", expression.strip())):
        match = re.fullmatch(r'annotation[.](\w+) = "([^"]*)"', part)
        if not match:
            raise Refused("InvalidRequestException", f"Invalid filter expression: {expression}")
        wanted.append((match[1], match[2]))
    return lambda trace: all(trace.get("annotations", {}).get(name) == value for name, value in wanted)
