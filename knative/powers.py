"""Powers to the last bit that Knative's autoscaler computes: the weights of its averages are made of them.

C's `pow` and `exp` differ from Go's in the last bits, and with them an average, and with it now and then a decision.
Called by `knative.windows`.

Source: Go's math.Pow; math.Exp on amd64, which follows N. Shibata, "Efficient evaluation methods of elementary
functions suitable for SIMD computation" (ISC 2010), with fused multiply-add as every server since 2013 has it.
"""

from __future__ import annotations

import math
from fractions import Fraction

_LOG2_E = 1.4426950408889634
_LN_2 = (0.693147180559662956511601805686950683594, 0.282352905630315771225884481750134360255e-12)  # upper, lower half
_HALVINGS = 4
_COEFFICIENTS = (1 / 5040, 1 / 720, 1 / 120, 1 / 24, 1 / 6, 0.5, 1.0)  # Taylor's, of (exp(x) - 1) / x, below 1/40320


def power(base: float, exponent: float) -> float:
    """base ** exponent as Go computes it, for base > 0 and exponent > 0."""
    if exponent == 0.5:
        return math.sqrt(base)
    fraction, whole = math.modf(exponent)
    result, result_exponent = 1.0, 0
    if fraction:
        if fraction > 0.5:
            fraction, whole = fraction - 1, whole + 1
        result = exp(fraction * math.log(base))
    mantissa, shift = math.frexp(base)
    bits = int(whole)
    while bits:
        if bits & 1:
            result, result_exponent = result * mantissa, result_exponent + shift
        mantissa, shift = mantissa * mantissa, shift << 1
        if mantissa < 0.5:
            mantissa, shift = mantissa * 2, shift - 1
        bits >>= 1
    return math.ldexp(result, result_exponent)


def exp(x: float) -> float:
    """e ** x as Go computes it on amd64, for -700 < x < 700."""
    twos = round(x * _LOG2_E)
    # What is left after the powers of two, halved four times, is below 0.022: few terms of the series are enough.
    left = _fused(-twos, _LN_2[1], _fused(-twos, _LN_2[0], x)) / 2**_HALVINGS
    series = 1 / 40320
    for coefficient in _COEFFICIENTS:
        series = _fused(series, left, coefficient)
    less_one = left * series
    for _ in range(_HALVINGS - 1):
        less_one *= 2 + less_one  # exp(2x) - 1 = (exp(x) - 1) (exp(x) + 1), which loses no digits near 0
    return math.ldexp(_fused(less_one, 2 + less_one, 1.0), twos)


def _fused(a: float, b: float, c: float) -> float:
    """a * b + c, rounded once, as the processor's fused multiply-add does."""
    return float(Fraction(a) * Fraction(b) + Fraction(c))
