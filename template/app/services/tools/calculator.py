"""Calculates in decimals. The context bounds each step: its precision, and its largest exponent."""

import ast
from collections.abc import Callable, Mapping
from decimal import ROUND_HALF_UP, Context, Decimal, DivisionByZero, InvalidOperation, Overflow, localcontext
from typing import Annotated

from pydantic import Field

from app.services.tools import ToolError, tool

PRECISION = 60
"""Sets the digits of each step, and of a result that is an integer."""
DIGITS = 28
"""Sets the digits of any other result. Steps have more, so that 1 / 3 * 3 is 1."""
CONTEXT = Context(
    prec=PRECISION,
    rounding=ROUND_HALF_UP,
    Emin=-9_999,
    Emax=9_999,
    traps=[DivisionByZero, InvalidOperation, Overflow],
)
ALLOWED = "Only numbers, + - * / // % **, parentheses, pi, e, abs, exp, ln, log10, max, min, round and sqrt are known."

Expression = Annotated[str, Field(examples=["2 + 3"], max_length=500, description="Such as round(1.19 * (20 + 5), 2).")]


@tool
async def calculate(expression: Expression) -> str:
    """Calculate exactly, in decimals, with + - * / // % **, parentheses, the constants pi and e, and the functions
    abs, exp, ln, log10, max, min, round and sqrt."""
    try:
        tree = ast.parse(expression.strip(), mode="eval")
        with localcontext(CONTEXT):
            return _written(_value(tree.body, expression.strip()))
    except (SyntaxError, ValueError, TypeError):  # TypeError: a function got too few or too many numbers
        raise ToolError(ALLOWED) from None
    except (RecursionError, MemoryError):
        raise ToolError("The expression is nested too deeply.") from None
    except ArithmeticError:
        raise ToolError("There is no result: a division by zero, no real number, or one that is too large.") from None


def _modulo(left: Decimal, right: Decimal) -> Decimal:
    """Returns the remainder with the sign of the divisor, as in Python; Decimal's has the sign of the dividend."""
    rest = left % right
    return rest + right if rest and (rest < 0) != (right < 0) else rest


def _round(number: Decimal, places: Decimal = Decimal(0)) -> Decimal:
    return number.quantize(Decimal(1).scaleb(-places))


_Operation = Callable[[Decimal, Decimal], Decimal]
_OPERATIONS: Mapping[type[ast.operator], _Operation] = {
    ast.Add: Decimal.__add__,
    ast.Sub: Decimal.__sub__,
    ast.Mult: Decimal.__mul__,
    ast.Div: Decimal.__truediv__,
    ast.FloorDiv: lambda left, right: (left - _modulo(left, right)) / right,
    ast.Mod: _modulo,
    ast.Pow: Decimal.__pow__,
}
_SIGNS: Mapping[type[ast.unaryop], Callable[[Decimal], Decimal]] = {
    ast.UAdd: Decimal.__pos__,
    ast.USub: Decimal.__neg__,
}
_FUNCTIONS: Mapping[str, Callable[..., Decimal]] = {
    "abs": Decimal.__abs__,
    "exp": Decimal.exp,
    "ln": Decimal.ln,
    "log10": Decimal.log10,
    "max": max,
    "min": min,
    "round": _round,
    "sqrt": Decimal.sqrt,
}
_CONSTANTS = {
    "pi": Decimal("3.14159265358979323846264338327950288419716939937510582097494"),
    "e": Decimal("2.71828182845904523536028747135266249775724709369995957496697"),
}


def _value(node: ast.expr, source: str) -> Decimal:
    match node:
        case ast.Constant(value=whole) if type(whole) is int:
            return +Decimal(whole)
        case ast.Constant(value=float()):  # as it was written, since a float has fewer digits
            return +Decimal(str(ast.get_source_segment(source, node)))
        case ast.Name(id=name) if name in _CONSTANTS:
            return _CONSTANTS[name]
        case ast.UnaryOp(op=sign, operand=operand) if type(sign) in _SIGNS:
            return _SIGNS[type(sign)](_value(operand, source))
        case ast.BinOp(left=left, op=operation, right=right) if type(operation) in _OPERATIONS:
            return _OPERATIONS[type(operation)](_value(left, source), _value(right, source))
        case ast.Call(func=ast.Name(id=name), args=numbers, keywords=[]) if name in _FUNCTIONS:
            return _finite(_FUNCTIONS[name](*(_value(number, source) for number in numbers)))
        case _:
            raise ToolError(ALLOWED)


def _finite(number: Decimal) -> Decimal:
    """Raises Overflow for an infinite number, such as the logarithm of 0, which no trap of the context catches."""
    if not number.is_finite():
        raise Overflow
    return number


def _written(number: Decimal) -> str:
    """Formats an integer exactly, another number with fewer digits; without an exponent unless that is long."""
    is_whole = number == number.to_integral_value()
    number = number.normalize(None if is_whole else Context(prec=DIGITS, rounding=ROUND_HALF_UP)) + 0  # never -0
    return f"{number:f}" if -DIGITS < number.adjusted() < PRECISION else str(number)
