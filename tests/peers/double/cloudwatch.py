"""Amazon CloudWatch, as far as reading metrics and alarms needs it.

Samples are put in by control and by PutMetricData, and aggregated when they are asked for, in periods that begin at the
start of the span (rounded as the API reference says). Control:
    POST /_double/cloudwatch/put        {"namespace", "metric", "dimensions", "samples": [[seconds, value], ...]}
    POST /_double/cloudwatch/alarm      {"name", "state", "kind"}; kind is metric, composite or log
    POST /_double/cloudwatch/behave     {"metric", "status", "message"}: what is said of queries about a metric, "" for
                                        all; or {"metric", "leave_out": true} or {"metric", "labels": [...]}
    POST /_double/cloudwatch/settings   {"page_points": n}: values on a page; {"messages": [[code, text], ...]}: of the call
"""

import datetime
import re

from .cloudwatch_math import MathError, evaluate
from .model import Refused, Service, seconds

MOST_QUERIES, MOST_POINTS, MOST_ALARMS = 500, 100_800, 100
ACCOUNT_ARN = "arn:aws:cloudwatch:us-east-1:123456789012:alarm:"
ALARM_TYPES = {"metric": "MetricAlarm", "composite": "CompositeAlarm", "log": "LogAlarm"}
UTC = datetime.timezone.utc


def invalid(text):
    """A refusal of the parameters."""
    return Refused("ValidationException", text)


class CloudWatch:
    """The service."""

    def __init__(self):
        self.wire = Service("cloudwatch")
        # (namespace, metric, dimensions) to samples (seconds, value).
        self.samples = {}
        self.all_alarms = {}
        self.rules = []
        self.page_points = MOST_POINTS
        self.messages = []
        # Token to what is still to be answered.
        self.rest = {}
        self.operations = {
            "PutMetricData": self.put_metric_data,
            "GetMetricData": self.get_metric_data,
            "DescribeAlarms": self.describe_alarms,
        }
        self.control = {"put": self.put, "alarm": self.alarm, "behave": self.rules.append, "settings": self.settings}

    def before(self, _operation):
        """Nothing happens by itself."""

    # Control

    def put(self, body):
        """Adds samples."""
        key = (body["namespace"], body["metric"], frozenset(body.get("dimensions", {}).items()))
        self.samples.setdefault(key, []).extend((float(at), float(value)) for at, value in body["samples"])

    def alarm(self, body):
        """Sets an alarm."""
        self.all_alarms[body["name"]] = (body["state"], body.get("kind", "metric"))

    def settings(self, body):
        """Changes how answers are made."""
        self.page_points = body.get("page_points", self.page_points)
        self.messages = body.get("messages", self.messages)

    # Operations

    def put_metric_data(self, params):
        """Takes samples as a sender gives them."""
        for datum in params.get("MetricData", []):
            dimensions = {item["Name"]: item["Value"] for item in datum.get("Dimensions", [])}
            at = seconds(datum["Timestamp"])
            values = datum.get("Values", [datum.get("Value")])
            counts = datum.get("Counts", [1] * len(values))
            samples = [(at, value) for value, count in zip(values, counts) for _ in range(int(count))]
            self.put({"namespace": params["Namespace"], "metric": datum["MetricName"], "dimensions": dimensions,
                      "samples": samples})
        return {}

    def get_metric_data(self, params):
        """Statistics and expressions, page by page."""
        token = params.get("NextToken")
        if token is not None:
            if token not in self.rest:
                raise Refused("InvalidNextToken", "The next token specified is invalid.")
            return self.page(self.rest.pop(token))
        queries = params.get("MetricDataQueries", [])
        if "StartTime" not in params or "EndTime" not in params:
            raise invalid("The parameters StartTime and EndTime are required.")
        start, end = seconds(params["StartTime"]), seconds(params["EndTime"])
        check(queries, start, end)
        series = {}
        for query in queries:
            if "MetricStat" in query:
                series[query["Id"]] = self.statistic(query["MetricStat"], start, end)
        results = []
        for query in queries:
            messages = []
            if "Expression" in query:
                try:
                    series[query["Id"]], messages = evaluate(query["Expression"], series)
                except MathError as error:
                    raise invalid(f"Error in expression '{query['Id']}': {error}") from error
            if query.get("ReturnData", True):
                results.extend(self.results(query, series[query["Id"]], messages))
        if params.get("ScanBy", "TimestampDescending") == "TimestampDescending":
            results = [(*head, points[::-1], status, notes) for *head, points, status, notes in results]
        return self.page(results)

    def statistic(self, stat, start, end):
        """Values by the beginning of their period."""
        metric, period = stat["Metric"], stat["Period"]
        dimensions = frozenset((item["Name"], item["Value"]) for item in metric.get("Dimensions", []))
        samples = self.samples.get((metric.get("Namespace"), metric.get("MetricName"), dimensions), [])
        # The start of a span is rounded down to a minute, or to the period where that is shorter.
        first = start - start % min(period, 60)
        buckets = {}
        for at, value in samples:
            if first <= at < end:
                buckets.setdefault(first + (at - first) // period * period, []).append(value)
        return {at: aggregate(values, stat["Stat"]) for at, values in sorted(buckets.items())}

    def results(self, query, series, messages):
        """(id, label, points, status, messages) of a query; the rules of `behave` apply."""
        of = query.get("MetricStat", {}).get("Metric", {}).get("MetricName", query.get("Expression", ""))
        rule = next((rule for rule in self.rules if rule["metric"] in of), {})
        if rule.get("leave_out"):
            return []
        if "message" in rule:
            messages = [*messages, rule["message"]]
        status = rule.get("status", "Complete")
        points = [] if status in ("Forbidden", "InternalError") else list(series.items())
        labels = rule.get("labels", [query.get("Label", of)])
        return [(query["Id"], label, points, status, messages) for label in labels]

    def page(self, results):
        """As many values as a page holds; the others come with the token."""
        room, answered, rest = self.page_points, [], []
        for name, label, points, status, messages in results:
            taken, left = points[:room], points[room:]
            room -= len(taken)
            if left:
                rest.append((name, label, left, status, messages))
                if not taken:
                    continue
            answered.append({
                "Id": name,
                "Label": label,
                "Timestamps": [datetime.datetime.fromtimestamp(at, UTC) for at, _ in taken],
                "Values": [value for _, value in taken],
                "StatusCode": "PartialData" if left else status,
                **({"Messages": [{"Code": code, "Value": text} for code, text in messages]} if messages else {}),
            })
        answer = {"MetricDataResults": answered,
                  "Messages": [{"Code": code, "Value": text} for code, text in self.messages]}
        if rest:
            token = f"token-{len(self.rest)}-{id(rest)}"
            self.rest[token] = rest
            answer["NextToken"] = token
        return answer

    def describe_alarms(self, params):
        """Alarms by their names; without types only those on metrics, as AWS has it."""
        types = params.get("AlarmTypes", ["MetricAlarm"])
        chosen = [
            (name, state, kind)
            for name, (state, kind) in sorted(self.all_alarms.items())
            if name in params.get("AlarmNames", self.all_alarms) and ALARM_TYPES[kind] in types
            and params.get("StateValue", state) == state
        ]
        begin = int(params.get("NextToken", "0"))
        chosen, more = chosen[begin : begin + min(params.get("MaxRecords", 50), MOST_ALARMS)], len(chosen)
        answer = {"MetricAlarms": [], "CompositeAlarms": [], "LogAlarms": []}
        for name, state, kind in chosen:
            member = {"metric": "MetricAlarms", "composite": "CompositeAlarms", "log": "LogAlarms"}[kind]
            answer[member].append({"AlarmName": name, "AlarmArn": ACCOUNT_ARN + name, "StateValue": state})
        if begin + len(chosen) < more:
            answer["NextToken"] = str(begin + len(chosen))
        return answer


def check(queries, start, end):
    """What the API reference demands beyond the model."""
    if not queries:
        raise invalid("The collection MetricDataQueries must not be empty.")
    if len(queries) > MOST_QUERIES:
        raise invalid(f"The collection MetricDataQueries must not have a size greater than {MOST_QUERIES}.")
    if start >= end:
        raise invalid("The parameter StartTime must be less than the parameter EndTime.")
    names = [query.get("Id", "") for query in queries]
    if len(set(names)) < len(names):
        raise invalid("The values for parameter Id in the collection MetricDataQueries must be unique.")
    if not any(query.get("ReturnData", True) for query in queries):
        raise invalid("At least one query must return data.")
    for query in queries:
        if not re.fullmatch("[a-z][A-Za-z0-9_]*", query.get("Id", "")):
            raise invalid(f"The value {query.get('Id')!r} for parameter Id is not matching the expected pattern.")
        if ("MetricStat" in query) == ("Expression" in query):
            raise invalid("Exactly one of MetricStat and Expression must be given.")
        stat = query.get("MetricStat")
        if stat is None:
            continue
        if stat["Period"] not in (1, 5, 10, 20, 30) and stat["Period"] % 60:
            raise invalid(f"Period {stat['Period']} must be 1, 5, 10, 20, 30 or a multiple of 60.")
        if aggregate([1.0], stat["Stat"]) is None:
            raise invalid(f"The value {stat['Stat']} for parameter Stat is not a valid statistic.")


def aggregate(values, stat):
    """A statistic of some values, or None when there is none of that name."""
    plain = {
        "SampleCount": lambda: float(len(values)),
        "Sum": lambda: sum(values),
        "Average": lambda: sum(values) / len(values),
        "Minimum": lambda: min(values),
        "Maximum": lambda: max(values),
    }
    if stat in plain:
        return plain[stat]()
    match = re.fullmatch(r"p(\d{1,2}(\.\d{1,10})?|100)", stat)
    return percentile(values, float(match[1])) if match else trimmed(values, stat)


def percentile(values, part):
    """The value below which so many per cent of some values are, with linear interpolation."""
    ordered, place = sorted(values), part / 100 * (len(values) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def trimmed(values, stat):
    """A statistic over a part of some values, or None when there is none of that name."""
    if stat == "IQM":
        stat = "TM(25%:75%)"
    short = re.fullmatch(r"(tm|wm|tc|ts)(\d{1,2}(?:\.\d{1,10})?)", stat)
    if short:
        stat = f"{short[1].upper()}(:{short[2]}%)"
    match = re.fullmatch(r"(TM|WM|TC|TS|PR)\(([\d.]*)(%?):([\d.]*)(%?)\)", stat)
    if not match or not (match[2] or match[4]) or (match[1] == "PR" and "%" in stat):
        return None
    kind, low, low_part, high, high_part = match.groups()
    bound = lambda text, part, least: least if not text else percentile(values, float(text)) if part else float(text)
    least, most = bound(low, low_part, min(values)), bound(high, high_part, max(values))
    inside = [value for value in values if least <= value <= most]
    return {
        "TM": lambda: sum(inside) / len(inside) if inside else 0.0,
        "WM": lambda: sum(min(max(value, least), most) for value in values) / len(values),
        "TC": lambda: float(len(inside)),
        "TS": lambda: sum(inside),
        "PR": lambda: 100.0 * len(inside) / len(values),
    }[kind]()
