"""CloudEvents SQL: what an expression makes of an event, by the specification and as Knative's library does."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.local.events import cesql

EVENT: dict[str, Any] = {
    "specversion": "1.0",
    "id": "1",
    "source": "/shop/7",
    "type": "com.shop.order.created",
    "subject": "flights",
    "amount": 12,
    "sampled": True,
    "count": "7",
    "yes": "True",
    "name": "Zoë",
}


@pytest.mark.parametrize(
    "expression",
    [
        "TRUE",
        "true",
        "subject = 'flights'",
        'subject = "flights"',
        "SUBJECT = 'flights'",
        "subject != 'houses'",
        "subject <> 'houses'",
        "'it\\'s' = \"it's\"",
        "amount = 12",
        "amount = '12'",
        "count = 7",
        "7 = count",
        "sampled",
        "sampled = TRUE",
        "sampled = 1",
        "amount > 11 AND amount >= 12 AND amount < 13 AND amount <= 12",
        "NOT sampled = FALSE",
        "NOT (subject = 'houses')",
        "NOT NOT sampled",
        "-amount = -12",
        "- -3 = 3",
        "1 + 2 * 3 = 7",
        "(1 + 2) * 3 = 9",
        "10 - 4 - 3 = 3",
        "-7 / 2 = -3",
        "-7 % 2 = -1",
        "7 % -2 = 1",
        "2147483647 + 1 = -2147483648",
        "amount + count = 19",
        "sampled + 1 = 2",
        "EXISTS subject AND EXISTS amount AND EXISTS type",
        "NOT EXISTS colour",
        "subject IN ('houses', 'flights')",
        "subject NOT IN ('houses')",
        "amount IN (1, '12')",
        "type LIKE 'com.shop.%'",
        "type LIKE '%created'",
        "type LIKE 'com%order%'",
        "type LIKE '%.order.%d'",
        "type LIKE 'com_shop_order_created'",
        "type NOT LIKE 'com.shop'",
        "'a%b' LIKE 'a\\%b'",
        "'axb' NOT LIKE 'a\\%b'",
        "'a_b' LIKE 'a\\_b' AND 'axb' NOT LIKE 'a\\_b'",
        "'' LIKE '' AND '' LIKE '%' AND 'a' NOT LIKE ''",
        "'abab' LIKE '%ab' AND 'a.b' NOT LIKE 'a.c'",
        "'a\nb' LIKE 'a_b'",
        "amount LIKE '1%'",
        "TRUE XOR TRUE AND FALSE",
        "TRUE XOR FALSE OR TRUE XOR TRUE",
        "TRUE OR colour = 'red'",
        "NOT (FALSE AND colour = 'red')",
        "TRUE XOR FALSE",
        "NOT (TRUE XOR TRUE)",
        "ABS(-3) = 3",
        "LENGTH(subject) = 7",
        "length('Zoë') = 4",
        "CONCAT('a', 1, TRUE) = 'a1true'",
        "CONCAT() = ''",
        "CONCAT_WS('-', 'a', 'b', 'c') = 'a-b-c'",
        "CONCAT_WS('-') = ''",
        "LOWER('ABC') = 'abc' AND UPPER('abc') = 'ABC'",
        "TRIM('  a ') = 'a'",
        "LEFT('abc', 2) = 'ab' AND LEFT('abc', 9) = 'abc' AND LEFT('abc', 0) = ''",
        "RIGHT('abc', 2) = 'bc' AND RIGHT('abc', 9) = 'abc' AND RIGHT('abc', 0) = ''",
        "SUBSTRING('abcdef', 3) = 'cdef' AND SUBSTRING('abcdef', 3, 2) = 'cd'",
        "SUBSTRING('abcdef', -2) = 'ef' AND SUBSTRING('abcdef', -3, 2) = 'de' AND SUBSTRING('abc', 0) = ''",
        "INT('7') = 7 AND BOOL('false') = FALSE AND STRING(7) = '7'",
        "IS_INT('7') AND NOT IS_INT('seven') AND IS_BOOL('TRUE') AND NOT IS_BOOL('yes')",
        "  subject\n=\t'flights'  ",
    ],
)
def test_an_event_passes_what_is_true_of_it(expression: str) -> None:
    assert cesql.matcher(expression)(EVENT)


@pytest.mark.parametrize(
    "expression",
    [
        "FALSE",
        "subject = 'Flights'",
        "NOT sampled",
        "TRUE AND FALSE OR FALSE",
        "TRUE XOR TRUE",
        "FALSE AND TRUE OR TRUE",
        "yes",  # a text that could be a truth, and is none
        "colour = 'red'",
        "NOT (colour = 'red')",
        "FALSE OR colour = 'red'",
        "TRUE XOR colour = 'red'",
        "subject > 3",
        "subject",
        "amount",
        "'text'",
        "1 / 0 = 0",
        "1 % 0 = 0",
        "ABS(-2147483648) = 0",
        "SUBSTRING('abc', 4) = ''",
        "LEFT('abc', -1) = ''",
        "NOWHERE(1)",
        "LENGTH() = 0",
        "LENGTH('a', 'b') = 1",
        "INT('12345678901') = 0",
        f"INT('{'9' * 5000}') = 0",
        "amount IN ('twelve')",
    ],
)
def test_an_event_does_not_pass_what_is_false_or_cannot_be_told(expression: str) -> None:
    assert not cesql.matcher(expression)(EVENT)


@pytest.mark.parametrize(
    ("expression", "says"),
    [
        ("", "found the end at character 1; expected a value"),
        ("subject =", "found the end at character 10; expected a value"),
        ("subject 'flights'", "expected an operator or the end"),
        ("= 'flights'", "found = at character 1"),
        ("ABC(", "expected a value"),
        ("LENGTH('a'", "expected , or )"),
        ("(TRUE", "expected )"),
        ("TRUE)", "found ) at character 5"),
        ("subject IN ()", "expected a value"),
        ("subject IN 'a'", "expected ("),
        ("subject LIKE amount", "expected a string in quotes"),
        ("subject NOT = 'a'", "expected LIKE or IN"),
        ("EXISTS 'a'", "expected the name of an attribute"),
        ("EXISTS my_name", "expected the name of an attribute"),
        ("my_name = 1", "expected the name of an attribute"),
        ("subject = 'flights", "is neither a word nor an operator"),
        ("subject == 'flights'", "found = at character 10"),
        ("subject ; TRUE", "is neither a word nor an operator"),
        ("amount = 2147483648", "no whole number of 32 bits"),
        ("amount -4 = 8", "expected an operator or the end"),  # -4 is a number here; amount - 4 is not
        ("(" * 60 + "TRUE" + ")" * 60, "nested deeper than 50"),
        ("NOT " * 60 + "TRUE", "nested deeper than 50"),
    ],
)
def test_what_is_no_expression_is_refused_with_its_place(expression: str, says: str) -> None:
    with pytest.raises(cesql.InvalidExpression) as refused:
        cesql.matcher(expression)
    assert says in str(refused.value)


def test_a_long_expression_is_no_deep_one() -> None:
    assert cesql.matcher(" OR ".join(["subject = 'houses'"] * 3000 + ["TRUE"]))(EVENT)
    assert cesql.matcher(" + ".join(["1"] * 3000) + " = 3000")(EVENT)


def test_a_pattern_of_many_wildcards_ends() -> None:
    assert not cesql.matcher(f"subject LIKE '{'%a' * 30}%b'")({"subject": "a" * 20_000})


@settings(deadline=None)  # a busy machine is no fault
@given(st.text(alphabet="ab%_\\", max_size=8), st.text(alphabet="ab%_", max_size=8))
def test_like_means_what_it_says(pattern: str, text: str) -> None:
    quoted = pattern.rstrip("\\")  # a backslash in front of the quote would be the quote's
    assert cesql.matcher(f"subject LIKE '{quoted}'")({"subject": text}) is meaning(quoted, text)


def meaning(pattern: str, text: str) -> bool:
    """The pattern read aloud, character by character."""
    if not pattern:
        return not text
    if pattern[:2] in ("\\%", "\\_"):
        return text[:1] == pattern[1] and meaning(pattern[2:], text[1:])
    if pattern[0] == "%":
        return any(meaning(pattern[1:], text[at:]) for at in range(len(text) + 1))
    return text != "" and pattern[0] in ("_", text[0]) and meaning(pattern[1:], text[1:])


@settings(deadline=None)  # a busy machine is no fault
@given(st.text(alphabet="aT1'\"()=<+-* NOTANDLIKEIN,%", max_size=30))
def test_whatever_is_written_it_is_read_or_refused(expression: str) -> None:
    try:
        cesql.matcher(expression)(EVENT)
    except cesql.InvalidExpression as refused:
        assert str(refused)
