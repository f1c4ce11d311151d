"""A multi grader's formula: numbers, grader names, `+ - * / ^` and a few functions. Evaluates nothing else."""

from __future__ import annotations

import ast
import math
import operator
import re
from collections.abc import Callable, Mapping
from typing import Final

from luthier.core.errors import InvalidRequest

MAX_LENGTH: Final = 1000
MAX_DEPTH: Final = 100
# No quotes, brackets or backslashes: what is let through makes Python's parser neither warn nor nest deeply.
WRITTEN: Final = re.compile(r"[\w\s.,+\-*/^()]*")
OPERATORS: Final[dict[type[ast.AST], Callable[[float, float], float]]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: math.pow,
}
SIGNS: Final[dict[type[ast.AST], Callable[[float], float]]] = {ast.USub: operator.neg, ast.UAdd: operator.pos}
# Name: what it does, and how many values it takes; 0: any number.
FUNCTIONS: Final[dict[str, tuple[Callable[..., float], int]]] = {
    "min": (min, 0),
    "max": (max, 0),
    "abs": (abs, 1),
    "floor": (math.floor, 1),
    "ceil": (math.ceil, 1),
    "exp": (math.exp, 1),
    "sqrt": (math.sqrt, 1),
    "log": (math.log, 1),
}


class FormulaError(InvalidRequest):
    """The formula does not say what to compute, or it cannot be computed."""


def parse(formula: str) -> ast.expr:
    """The formula's tree. Errors: `FormulaError` for anything that is no formula."""
    if len(formula) > MAX_LENGTH or not WRITTEN.fullmatch(formula) or "**" in formula:
        raise _wrong(formula, f"write up to {MAX_LENGTH} letters of numbers, names, + - * / ^ and functions")
    try:
        tree = ast.parse(formula.strip().replace("^", "**"), mode="eval").body
    except (SyntaxError, RecursionError, MemoryError) as error:
        raise _wrong(formula, "it is not well formed; look at its parentheses") from error
    _check(formula, tree, MAX_DEPTH)
    return tree


def names(tree: ast.expr) -> set[str]:
    """The graders that a formula names."""
    called = {node.func for node in ast.walk(tree) if isinstance(node, ast.Call)}
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and node not in called}


def evaluate(tree: ast.expr, values: Mapping[str, float]) -> float:
    """The formula's value. Errors: `FormulaError` where it has none."""
    try:
        value = float(_value(tree, values))
    except (ArithmeticError, ValueError) as error:
        raise FormulaError(f"The formula has no value here: {error}.") from error
    if not math.isfinite(value):
        raise FormulaError("The formula has no value here: it is not finite.")
    return value


def _check(formula: str, node: ast.expr, depth: int) -> None:
    if depth == 0:
        raise _wrong(formula, "it is nested too deeply")
    match node:
        case ast.Name():
            return
        case ast.Constant(value=bool()):
            raise _wrong(formula, "it has a truth value in it")
        case ast.Constant(value=int() | float()):
            return
        case ast.BinOp(left=left, op=op, right=right) if type(op) in OPERATORS:
            below = [left, right]
        case ast.UnaryOp(op=op, operand=operand) if type(op) in SIGNS:
            below = [operand]
        case ast.Call(func=ast.Name(id=name), args=below, keywords=[]) if name in FUNCTIONS:
            if len(below) != (FUNCTIONS[name][1] or max(len(below), 1)):
                raise _wrong(formula, f"'{name}' has {len(below)} values")
        case _:
            raise _wrong(formula, f"'{ast.unparse(node)}' cannot be in a formula; functions are {', '.join(FUNCTIONS)}")
    for inner in below:
        _check(formula, inner, depth - 1)


def _value(node: ast.expr, values: Mapping[str, float]) -> float:
    match node:
        case ast.Name(id=name):
            return values[name]
        case ast.Constant(value=int() | float() as number):
            return float(number)
        case ast.BinOp(left=left, op=op, right=right):
            return OPERATORS[type(op)](_value(left, values), _value(right, values))
        case ast.UnaryOp(op=op, operand=operand):
            return SIGNS[type(op)](_value(operand, values))
        case ast.Call(func=ast.Name(id=name), args=given):
            return FUNCTIONS[name][0](*(_value(one, values) for one in given))
    raise AssertionError(node)


def _wrong(formula: str, words: str) -> FormulaError:
    return FormulaError(f"Invalid formula '{formula[:80]}': {words}.", code="invalid_value", param="calculate_output")
