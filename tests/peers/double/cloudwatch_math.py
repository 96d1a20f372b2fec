"""Metric math as far as rates need it: numbers, ids, + - * / and brackets, FILL(id, number) and SUM([ids]).

A point exists where all of its metrics have one. What is divided by zero is left out, with CloudWatch's message.
"""

import ast

DROPPED = ("ArithmeticError", "One or more data-points have been dropped due to non-numeric values (NaN, -Infinite, +Infinite)")


class MathError(Exception):
    """The expression is none."""


def evaluate(expression, series):
    """Values by time, and messages; `series` has those of the ids."""
    try:
        tree = ast.parse(expression, mode="eval").body
    except SyntaxError as error:
        raise MathError(f"syntax error at position {error.offset}") from error
    times = sorted(set().union(*(series_of(name, series) for name in names(tree))))
    values, messages = {}, []
    for at in times:
        try:
            value = compute(tree, series, at)
        except ZeroDivisionError:
            messages = [DROPPED]
            continue
        if value is not None:
            values[at] = value
    return values, messages


def names(tree):
    """Ids in an expression; what is called is a function."""
    called = {node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)} - called


def series_of(name, series):
    """The series of an id."""
    if name not in series:
        raise MathError(f"The id {name} is not in this request")
    return series[name]


def compute(node, series, at):
    """The value at a time, or None where a metric has none."""
    if isinstance(node, ast.Constant) and isinstance(node.value, (int, float)):
        return float(node.value)
    if isinstance(node, ast.Name):
        return series_of(node.id, series).get(at)
    if isinstance(node, ast.BinOp):
        left, right = compute(node.left, series, at), compute(node.right, series, at)
        if left is None or right is None:
            return None
        operators = {
            ast.Add: lambda: left + right,
            ast.Sub: lambda: left - right,
            ast.Mult: lambda: left * right,
            ast.Div: lambda: left / right,
        }
        if type(node.op) in operators:
            return operators[type(node.op)]()
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        if node.func.id == "FILL" and len(node.args) == 2:
            value = compute(node.args[0], series, at)
            return compute(node.args[1], series, at) if value is None else value
        if node.func.id == "SUM" and len(node.args) == 1 and isinstance(node.args[0], ast.List):
            values = [compute(item, series, at) for item in node.args[0].elts]
            present = [value for value in values if value is not None]
            return sum(present) if present else None
    raise MathError(f"the double does not know {ast.dump(node)}")
