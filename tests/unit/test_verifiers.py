"""Grading real-looking answers: right is 1, wrong is 0, and what nobody can tell is None."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from judge.checks import read_check
from judge.finals import LONGEST
from judge.rules import check_for, read_rules
from judge.units import unit_of
from judge.verifiers import READINGS, grade
from store.errors import SettingsInvalid

PARIS = {"kind": "exact", "answer": "Paris"}
CITY = {"kind": "exact", "answer": ["New York", "New York City", "NYC"]}
N42 = {"kind": "numeric", "answer": 42}
KM = {"kind": "numeric", "answer": "3.5 km", "tolerance": 0.01}
SPEED = {"kind": "numeric", "answer": "10 m/s"}
MONEY = {"kind": "numeric", "answer": "$3.5 million"}
SHARE = {"kind": "numeric", "answer": "45%"}
NEAR_PI = {"kind": "numeric", "answer": 3.14159, "tolerance": 0.001}
ZERO = {"kind": "numeric", "answer": 0, "absolute": 0.01}
C = {"kind": "choice", "answer": "C"}
VITAMIN = {"kind": "choice", "answer": "B", "options": ["Vitamin A", "Vitamin C", "Iron"]}
DATE = {"kind": "regex", "pattern": r"\d{4}-\d\d-\d\d"}
OBJECT = {
    "kind": "json_schema",
    "schema": {
        "$defs": {"n": {"type": "integer"}},
        "type": "object",
        "required": ["a"],
        "properties": {"a": {"$ref": "#/$defs/n"}, "b": {"type": "array", "uniqueItems": True}},
        "additionalProperties": False,
    },
}


def graded(check: dict[str, Any], text: str, *, passes: bool | None = None) -> float | None:
    return grade(read_check(check), text, run_tests=lambda code, tests: passes)


RIGHT = [
    *(
        (PARIS, text)
        for text in (
            "Paris",
            "paris.",
            "**Paris**",
            "  PARIS\n",
            '"Paris"',
            "\uff30\uff41\uff52\uff49\uff53",
            "The answer is Paris.",
            "Answer: Paris",
            "**Answer:** Paris",
            "Final answer:\n\nParis",
            r"\boxed{\text{Paris}}",
            "France's capital lies on the Seine.\n\n#### Paris",
            "<think>Lyon? No.</think>\nParis",
            "It is a large city. The correct answer is: Paris",
            "Answer: the answer is Paris",
        )
    ),
    *((CITY, text) for text in ("NYC", "new york city", "The answer is New York.")),
    *(
        (N42, text)
        for text in (
            "42",
            "42.",
            "42.0",
            "**42**",
            "$42$",
            "$$42$$",
            r"\boxed{42}",
            r"\(42\)",
            "#### 42",
            "x = 42",
            "It takes 42 minutes.",
            "The answer is 42.",
            "6 × 7 = 42",
            "The final answer is $42$.",
            "We have 6 boxes of 7. So there are 42 apples in total.",
            "Answer: 42 (because 6*7)",
            "1. First add 40.\n2. Then add 2.\nSo the total is 42",
            "The answer is 42, which is 6 times 7.",
            "The answer is:\n\n42",
            r"$\frac{84}{2}$",
            "84/2",
            "4.2e1",
            "4.2 × 10^1",
            r"4.2 \times 10^{1}",
            "4200%",
            "He pays $42.00",
            "about 42",
            "Total: 40 + 2 = 42",
            "The answer is 42 km",
            "3 + 39 is 42, so the result is \\boxed{42}.",
            "<think>41 or 42?</think>42",
        )
    ),
    *(
        (KM, text)
        for text in (
            "3.5 km",
            "3500 m",
            "3,500 meters",
            "3.5",
            "The answer is 3.52 kilometers.",
            "2.17 miles",
            "The distance is 3.5km, so she walks it",
            r"$3.5 \text{ km}$",
            r"3.5\,\mathrm{km}",
            "3.5 KILOMETERS",
        )
    ),
    *(
        (SPEED, text)
        for text in (
            "10 m/s",
            "36 km/h",
            "10 meters per second",
            "36 kilometers per hour.",
            "10 m·s⁻¹",
            r"10\ \text{m/s}",
        )
    ),
    *((MONEY, text) for text in ("$3.5 million", "$3,500,000", "The answer is $3500000.")),
    *((SHARE, text) for text in ("45%", "45 percent", r"The answer is 45\%.", "45")),
    *((NEAR_PI, text) for text in ("3.1416", "The answer is 3.14.", r"\boxed{3.142}", "22/7")),
    *((ZERO, text) for text in ("0", "0.009", "-0.005")),
    *(
        (C, text)
        for text in (
            "C",
            "c",
            "(C)",
            "C.",
            "C)",
            "C) Paris",
            "C: Paris",
            "**C**",
            "The answer is (C).",
            "Option C",
            "The correct answer is C: Paris",
            "Answer: C",
            "**Answer: C) Paris**",
            r"\boxed{C}",
            r"\boxed{\text{C}}",
            "C is correct.",
            "A is out because x. C is correct",
            "The answer is c",
            "The best answer is C.\n\nA is incorrect because of B.",
            "Let me think.\n\nCorrect answer: C",
        )
    ),
    *(
        (VITAMIN, text)
        for text in (
            "B",
            "Vitamin C",
            "vitamin c.",
            "B. Vitamin C",
            "The answer is Vitamin C.",
            "(B) Vitamin C",
        )
    ),
    *((DATE, text) for text in ("2024-05-01", "2024-05-01\n", "```\n2024-05-01\n```")),
    *(
        (OBJECT, text)
        for text in (
            '{"a": 1}',
            ' {"a": 1.0, "b": [1, "1", true]}\n',
            '```json\n{"a": 1}\n```',
            'Here it is:\n\n```json\n{"a": 1}\n```\n\nDone.',
        )
    ),
]


@pytest.mark.parametrize(("check", "text"), RIGHT)
def test_a_right_answer_gets_one(check: dict[str, Any], text: str) -> None:
    assert graded(check, text) == 1.0


WRONG = [
    *(
        (PARIS, text)
        for text in ("Lyon", "The answer is Lyon.", "I do not know.", "", "Comparison")
    ),
    *((CITY, text) for text in ("Boston", "York")),
    *(
        (N42, text)
        for text in (
            "43",
            "The answer is 43",
            r"\boxed{41}",
            "So there are 43 apples.",
            "46%",
        )
    ),
    *((KM, text) for text in ("3.6 km", "The distance is 3600 m.", "35 km", "350 cm")),
    *((SPEED, text) for text in ("40 km/h", "The answer is 12 m/s")),
    *((SHARE, text) for text in ("46%", "The answer is 54 percent.")),
    *(
        (C, text)
        for text in (
            "A",
            "(B)",
            "The answer is D.",
            r"\boxed{A}",
            "B is correct.",
            "Answer: B",
        )
    ),
    *((VITAMIN, text) for text in ("A", "vitamin a", "A. Vitamin A", "The answer is Iron")),
    *((DATE, text) for text in ("It was 2024-05-01.", "01.05.2024", "")),
    *(
        (OBJECT, text)
        for text in (
            '{"a": "x"}',
            "{}",
            '{"a": 1, "c": 2}',
            '{"a": NaN}',
            "nope",
            '{"a": 1, "b": [1, 1.0]}',
            "[1]",
        )
    ),
]


@pytest.mark.parametrize(("check", "text"), WRONG)
def test_a_wrong_answer_gets_nothing(check: dict[str, Any], text: str) -> None:
    assert graded(check, text) == 0.0


WRONG_IN_ANY_SHAPE = (
    "[" * 50_000,
    '{"a":' + "9" * 5_000 + "}",
    '```json\n{"a": "x"}\n```\nor\n```json\n{"b": 1}\n```',
    "```json\n[]\n```\n" * 1_000,
)


@pytest.mark.parametrize("text", WRONG_IN_ANY_SHAPE)
def test_no_json_leaves_its_check_by_its_shape(text: str) -> None:
    assert graded(OBJECT, text) == 0.0


UNCLEAR = [
    *(
        (PARIS, text)
        for text in (
            "Paris or Lyon",
            "The capital is Paris.",
            "The answer is not Paris",
            "It may be Paris.",
            "The answer is Paris. The answer is Lyon.",
            "The answer is Lyon, not Paris.",
            "The answer is Paris. Sorry, I meant another city.",
        )
    ),
    *(
        (N42, text)
        for text in (
            "It could be 40, 41 or 42.",
            "The answer is 42 or 43",
            "The answer is not 42",
            "more than 42",
            "The answer is 41. Wait, 42.",
            "The answer is 41.\nThe answer is 42.",
            "42, 43",
            "42 42",
            "42nd",
            "The answer is 1, 2 and 42",
            "I have 3 apples and 42 pears",
            "forty-two",
            "4,2",
            "42%",
            "COVID-42",
            "The result: 2024-05-42",
            "\\boxed{41}, no, \\boxed{42}",
            "4½",
            "40-42",
            "42M",
            "It takes 41 minutes.",
            "There are 42 of them in the first box and the rest is in the second box. " * 3,
            "",
            "It's at 10:42",
            "Between 41 and 43.",
            "At least 42.",
            "Answer: 42\nNo wait, it is 43.",
            r"\boxed{42} Actually, I made a mistake.",
            "Anything but 42",
            "almost 42",
            "42?" * 60,
        )
    ),
    *((KM, text) for text in ("3500", "3.5 kg", "3.5 leagues", "3.5 km or 4 km", "3.5 apples")),
    *((MONEY, text) for text in ("€3.5 million", "$3.5M", "3.5 million")),
    *((SHARE, text) for text in ("0.45",)),
    *(
        (C, text)
        for text in (
            "The answer is B or C",
            "The answer is C, not B",
            "I think C",
            "A, B and C",
            "Paris",
            "The answer is A good one",
            "Answer: A good reason is hope",
            "C. Vitamin A",
            "",
            "The answer is A.\nThe answer is C.",
            "It is not true that C is what D says",
        )
    ),
    *((VITAMIN, text) for text in ("Vitamin C is B", "Vitamins", "A or B")),
    *((OBJECT, text) for text in ('```json\n{"a": 1}\n```\nor\n```json\n{"a": "x"}\n```',)),
]


@pytest.mark.parametrize(("check", "text"), UNCLEAR)
def test_an_unclear_answer_is_left_to_the_judge(check: dict[str, Any], text: str) -> None:
    assert graded(check, text) is None


@given(st.integers(-(10**6), 10**6), st.integers(-(10**6), 10**6))
@example(42, -42)
def test_another_number_is_never_right(wanted: int, other: int) -> None:
    check = {"kind": "numeric", "answer": wanted}
    texts = (f"{other}", f"The answer is {other}.", f"I tried {wanted}. So the answer is {other}.")
    for text in texts:
        assert (graded(check, text) == 1.0) == (other == wanted)
    assert graded(check, f"It is {wanted} or {other}") is None


@given(st.integers(1, 10**9), st.sampled_from(["{:,}", "{}.0", "**{}**", r"\boxed{{{}}}", "= {}"]))
def test_a_number_may_be_written_in_many_ways(wanted: int, style: str) -> None:
    assert graded({"kind": "numeric", "answer": wanted}, style.format(wanted)) == 1.0


@given(st.text(max_size=300), st.sampled_from([PARIS, N42, KM, C, VITAMIN, DATE, OBJECT]))
def test_any_text_whatever_is_graded_without_an_error(text: str, check: dict[str, Any]) -> None:
    assert graded(check, text) in {0.0, 1.0, None}


@given(
    st.lists(
        st.sampled_from(
            [*" .,:()=-$%/\n", "42", "3.5", "km", "the answer is", "A", "C", "or", "not"]
        ),
        max_size=30,
    )
)
def test_two_different_statements_are_never_right(parts: list[str]) -> None:
    text = "".join(parts)
    for check, right, wrong in ((N42, "42", "43"), (C, "C", "D"), (PARIS, "Paris", "Rome")):
        said = f"{text}\nThe answer is {right}.\nThe answer is {wrong}."
        assert graded(check, said) != 1.0


LONG = (
    "the answer is ",
    "```x\n",
    r"\boxed{",
    "{",
    "$",
    "1",
    "1,",
    "1,234",
    "a",
    "1 km/",
    "1/",
    "answer" + " " * 50,
    "\n",
    "so 1 = ",
    "A) ",
    "[",
    "<think>",
    r"\frac{1",
    "1. ",
    r"\text{",
    "is correct ",
    "½",
    "ﷺ",
    "=1",
)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("unit", LONG)
def test_no_text_takes_long(unit: str) -> None:
    """Each of these would take minutes by an expression that looks at it again and again."""
    text = (unit * LONGEST)[:LONGEST]
    for check in (PARIS, N42, KM, C, VITAMIN, OBJECT):
        graded(check, text)


@pytest.mark.timeout(60)
def test_no_pattern_hangs() -> None:
    slow = {"kind": "regex", "pattern": "(?:a|aa)+b"}
    assert graded(slow, "a" * 5_000) is None
    inside = {"kind": "json_schema", "schema": {"items": {"pattern": "(?:a|aa)+b"}}}
    assert graded(inside, json.dumps(["a" * 5_000] * 9)) is None


@pytest.mark.timeout(60)
def test_no_schema_hangs_or_fetches() -> None:
    doubling: dict[str, object] = {
        f"d{n}": {"allOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(40)
    }
    for schema in (
        {"$defs": {**doubling, "d40": {}}, "$ref": "#/$defs/d0"},
        {"$ref": "#"},
        {"$ref": "http://127.0.0.1:1/schema"},
        {"$ref": "#/$defs/missing"},
    ):
        assert graded({"kind": "json_schema", "schema": schema}, '{"a": 1}') is None
    many = json.dumps([[n] if n % 2 else str(n) for n in range(8_000)])
    unique = {"kind": "json_schema", "schema": {"uniqueItems": True}}
    assert graded(unique, many) == 1.0


def test_no_answer_leaves_its_check_by_its_length() -> None:
    assert graded(PARIS, "Paris or Lyon" + "." * LONGEST) == 0.0
    assert graded(PARIS, "Paris" + " " * LONGEST) == 1.0
    assert graded(PARIS, f"<think>{'Lyon? ' * LONGEST}</think>Paris") == 1.0


@pytest.mark.parametrize(
    ("text", "codes"),
    [
        ("```python\ndef f(): pass\n```", ["def f(): pass"]),
        ("Sure:\n\n```py\ndef f(): pass\n```\nRun `f()`.", ["def f(): pass"]),
        ("```\ndef f(): pass\n```", ["def f(): pass"]),
        ("def f(): pass", ["def f(): pass"]),
        ("```bash\npip install x\n```\n```python\ndef f(): pass\n```", ["def f(): pass"]),
        ("```javascript\nf()\n```", ["f()"]),
        (
            "```python\nf()\n```\n```python\ndef f(): pass\n```",
            ["f()\n\ndef f(): pass", "def f(): pass", "f()"],
        ),
        ("```js\nf()\n```\n```text\nx\n```", ["f()\n\nx", "f()", "x"]),
    ],
)
def test_the_python_of_an_answer_is_tested(text: str, codes: list[str]) -> None:
    ran: list[tuple[str, str]] = []

    def run(code: str, tests: str) -> bool:
        ran.append((code, tests))
        return False

    check = read_check({"kind": "python_tests", "tests": "f()"})
    assert grade(check, text, run_tests=run) == 0.0
    assert ran == [(code, "f()") for code in codes]


@pytest.mark.parametrize("right", ["x", "y", "x\n\ny"])
def test_code_that_is_right_only_as_somebody_reads_it_is_left_to_the_judge(right: str) -> None:
    check = read_check({"kind": "python_tests", "tests": "f()"})
    text = "```python\nx\n```\n```python\ny\n```"
    assert grade(check, text, run_tests=lambda code, _: code == right) is None
    many = "\n".join(f"```python\n{'x' * n}\n```" for n in range(100))
    ran: list[str] = []

    def run(code: str, tests: str) -> bool:
        ran.append(code)
        return False

    assert grade(check, many, run_tests=run) == 0.0
    assert len(ran) == READINGS + 1


@pytest.mark.parametrize(("passes", "expected"), [(True, 1.0), (False, 0.0), (None, None)])
def test_tests_decide(passes: bool | None, expected: float | None) -> None:
    check = {"kind": "python_tests", "tests": "assert f()"}
    assert graded(check, "def f(): pass", passes=passes) == expected


def test_units_are_known_or_not() -> None:
    for same in (("km", "1000 m"), ("kWh", "MJ"), ("kg m/s^2", "N"), ("l", "dm^3"), ("MB", "kB")):
        first, second = (unit_of(name.removeprefix("1000 ")) for name in same)
        assert first is not None
        assert second is not None
        assert first.powers == second.powers
    for unknown in ("apples", "k", "c", "in total", "km/apple", "B", "e", ""):
        assert unit_of(unknown) is None or unknown == ""
    milli, mega = unit_of("mW"), unit_of("MW")
    assert milli is not None
    assert mega is not None
    assert mega.factor == pytest.approx(1e9 * milli.factor)


RULES = {
    "rules": [
        {"tenant": "acme", "prompt_pattern": r"(?i)\bcapital of france\b", "check": PARIS},
        {"tenant": "acme", "check": DATE},
        {"prompt_pattern": "(?:a|aa)+$", "check": N42},
        {"prompt_pattern": "6 times 7", "check": N42},
    ]
}


def test_the_first_rule_that_fits_names_the_check() -> None:
    rules = read_rules(json.dumps(RULES).encode())
    found = [
        check_for(rules, tenant=tenant, prompt=prompt)
        for tenant, prompt in (
            ("acme", "What is the capital of France?"),
            ("acme", "6 times 7?"),
            ("other", "What is the capital of France?"),
            ("other", "6 times 7?"),
        )
    ]
    expected = [PARIS, DATE, None, N42]
    assert found == [None if one is None else read_check(one) for one in expected]


def test_no_prompt_hangs_a_rule() -> None:
    rules = read_rules(json.dumps(RULES).encode())
    assert check_for(rules, tenant="other", prompt="a" * 5_000 + "b 6 times 7") is not None


def test_every_wrong_rule_is_named_at_once() -> None:
    wrong = [
        {"check": PARIS},
        {"tenent": "acme", "check": PARIS},
        {"prompt_pattern": "(", "check": PARIS},
        {"check": {"kind": "regex", "pattern": "("}},
        {"tenant": 3, "check": PARIS},
        "rule",
        {"tenant": "acme"},
    ]
    with pytest.raises(SettingsInvalid) as caught:
        read_rules(json.dumps({"rules": wrong}).encode())
    parts = str(caught.value).split("; ")
    assert [part.partition(":")[0] for part in parts] == [f"rule {n}" for n in range(2, 8)]
    assert "check.pattern" in parts[2]


@pytest.mark.parametrize("raw", [b"", b"\xff", b"[]", b'{"rule": []}', b"[" * 99_999])
def test_a_file_that_holds_no_rules_is_refused(raw: bytes) -> None:
    with pytest.raises(SettingsInvalid):
        read_rules(raw)
