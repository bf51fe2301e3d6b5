import json

import pytest

from pytest_specdec.common.strict_json import JsonError, parse_json

REFUSED = {
    "a key twice": ('{"a": 1,\n "b": 2,\n "a": 3}', 3, '"a" occurs twice'),
    "a key twice further down": ('{"x": [{"a": 1,\n "a": 3}]}', 2, "occurs twice"),
    "not a number": ('{"a":\n NaN}', 2, "NaN is not a JSON number"),
    "an infinity": ('{"a": -Infinity}', 1, "-Infinity"),
    "an integer of many digits": ("[1,\n" + "9" * 5000 + "]", 2, "5000 digits"),
    "a fraction of many digits": ("[0." + "3" * 5000 + "]", 1, "5002 digits"),
    "a number beyond doubles": ("[\n1e999]", 2, "1e999 is too large"),
    "nesting beyond recursion": ("[" * 100_000, 1, "64 levels"),
    "nesting beyond what is read": ("[" * 80 + "]" * 80, 1, "64 levels"),
    "half a surrogate pair": ('{"a": 1,\n"b": "\\ud83d"}', 2, "surrogate"),
    "half a surrogate pair as a key": ('{"\\udc00": 1}', 1, "surrogate"),
    "an open object": ('{"a": 1,\n', 2, "double quotes"),
    "nothing": ("", 1, "Expecting value"),
}


@pytest.mark.parametrize(("text", "line", "words"), REFUSED.values(), ids=REFUSED)
def test_refused_with_its_line(text, line, words):
    with pytest.raises(JsonError, match=words) as caught:
        parse_json(text)
    assert caught.value.line == line


@pytest.mark.parametrize(
    "value", [None, 1, -1.5, "ä", "😀", [1, [2, {"a": []}]], {"a": {"b": [1e300]}}]
)
def test_json_is_read(value):
    assert parse_json(json.dumps(value)) == value
    assert parse_json(json.dumps(value, ensure_ascii=False)) == value
