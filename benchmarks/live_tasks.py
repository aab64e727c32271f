"""540 prompts with checkable answers: 20 tasks in three wordings each, easy ones and hard ones.

Made from a seed by templates written here. The wording of a task is its group: prompts of one
wording differ in their fillings only, so a split never parts them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from judge.checks import Check, Exact, Numeric, read_check
from judge.verifiers import grade

EACH = 9
"""Prompts of a wording."""
SEED = 5
WORDINGS = 3

Fill = dict[str, object]
_NAMES = ("Anna", "Boris", "Clara", "David", "Elena", "Frank", "Grace", "Henry", "Irene", "Karl")
_CITIES = ("Paris", "London", "Rome", "Madrid", "Berlin", "Vienna", "Oslo", "Dublin", "Athens")
_WORDS = ("apple", "river", "stone", "cloud", "tiger", "lemon", "chair", "bread", "horse", "piano")
_SHORT = ("cat", "dog", "sun", "map", "pen", "cup", "bus", "red", "hat", "box", "top", "ten")
_COLOURS = ("red", "green", "blue", "yellow", "black", "white", "brown", "orange")
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_MONTHS = (
    *("January", "February", "March", "April", "May", "June", "July", "August"),
    *("September", "October", "November", "December"),
)
_CLASSES = [frozenset(map(str.casefold, one)) for one in (_CITIES, _WORDS, _DAYS, _MONTHS)]
_LENGTHS = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


@dataclass(frozen=True, slots=True)
class Task:
    """One prompt, what a right answer satisfies, and where it comes from."""

    kind: str
    group: str
    """Task and wording."""
    wording: int
    prompt: str
    check: Check


def tasks() -> list[Task]:
    """Return all prompts, none twice."""
    found: dict[str, Task] = {}
    for kind, (wordings, fill) in _TASKS.items():
        for wording, template in enumerate(wordings):
            rng = np.random.default_rng([SEED, wording, *kind.encode()])
            made = 0
            while made < EACH:
                blanks, check = fill(rng)
                prompt = template.format(**blanks)
                if prompt not in found:
                    group = f"{kind}/{wording}"
                    found[prompt] = Task(kind, group, wording, prompt, read_check(check))
                    made += 1
    return list(found.values())


def is_right(task: Task, said: str) -> bool:
    """Return whether an answer is right, by ``judge/verifiers.py``.

    What the verifier leaves to a judge, since small models answer in half a sentence, is right if
    its last number is, or if it names the right one of such words and no other.
    """
    mark = grade(task.check, said, run_tests=lambda *_: None)
    if mark is not None:
        return mark == 1.0
    match task.check:
        case Numeric():
            last = re.findall(r"\d+", said)[-1:]
            return last == [f"{task.check.quantity.value:.0f}"]
        case Exact():
            (answer,) = task.check.answers
            alike = next((c for c in _CLASSES if answer in c), frozenset({answer}))
            return {w for w in re.findall(r"\w+", said.casefold()) if w in alike} == {answer}
        case _:
            return False


def _number(answer: int) -> dict[str, object]:
    return {"kind": "numeric", "answer": answer}


def _text(answer: str) -> dict[str, object]:
    return {"kind": "exact", "answer": answer}


def _some(rng: np.random.Generator, options: Sequence[str], count: int) -> list[str]:
    return [options[i] for i in rng.permutation(len(options))[:count]]


def _two(
    low: int, high: int, of: Callable[[int, int], int]
) -> Callable[[np.random.Generator], tuple[Fill, Fill]]:
    def fill(rng: np.random.Generator) -> tuple[Fill, Fill]:
        a, b = sorted(rng.integers(low, high, size=2).tolist(), reverse=True)
        return {"a": a, "b": b}, _number(of(a, b))

    return fill


def _of_word(
    options: Sequence[str], of: Callable[[str], str]
) -> Callable[[np.random.Generator], tuple[Fill, Fill]]:
    def fill(rng: np.random.Generator) -> tuple[Fill, Fill]:
        first, second = _some(rng, options, 2)
        word = f"{first} {second}"
        return {"w": word}, _text(of(word))

    return fill


def _capitals(rng: np.random.Generator) -> tuple[Fill, Fill]:
    word = " ".join(_some(rng, _WORDS, 2))
    return {"w": word}, {"kind": "regex", "pattern": rf"\W*{word.upper()}\W*"}


def _letters(rng: np.random.Generator) -> tuple[Fill, Fill]:
    (word,) = _some(rng, (*_WORDS, *_SHORT, *_COLOURS), 1)
    return {"w": word}, _number(len(word))


def _story(rng: np.random.Generator) -> tuple[Fill, Fill]:
    name, thing = _some(rng, _NAMES, 1)[0], _some(rng, ("coins", "eggs", "books", "keys"), 1)[0]
    a, b = rng.integers(3, 30, size=2).tolist()
    return {"n": name, "t": thing, "a": a + b, "b": b}, _number(a)


def _of_list(of: Callable[[list[int]], int]) -> Callable[[np.random.Generator], tuple[Fill, Fill]]:
    def fill(rng: np.random.Generator) -> tuple[Fill, Fill]:
        numbers = rng.permutation(np.arange(1, 60))[: int(rng.integers(3, 6))].tolist()
        return {"l": ", ".join(map(str, numbers))}, _number(of(numbers))

    return fill


def _item(at: int) -> Callable[[np.random.Generator], tuple[Fill, Fill]]:
    def fill(rng: np.random.Generator) -> tuple[Fill, Fill]:
        words = _some(rng, _WORDS, int(rng.integers(3, 6)))
        return {"l": ", ".join(words)}, _text(words[at])

    return fill


def _in_ring(ring: Sequence[str], step: int) -> Callable[[np.random.Generator], tuple[Fill, Fill]]:
    def fill(rng: np.random.Generator) -> tuple[Fill, Fill]:
        at, year = int(rng.integers(len(ring))), int(rng.integers(1950, 2020))
        said = {"d": ring[at], "y": year}
        return said, _text(ring[(at + step) % len(ring)])

    return fill


def _month_length(rng: np.random.Generator) -> tuple[Fill, Fill]:
    at, year = int(rng.integers(12)), 1951 + 4 * int(rng.integers(18))
    return {"d": _MONTHS[at], "y": year}, _number(_LENGTHS[at])


def _note(answer: str) -> Callable[[np.random.Generator], tuple[Fill, Fill]]:
    def fill(rng: np.random.Generator) -> tuple[Fill, Fill]:
        drawn = {
            "n": _some(rng, _NAMES, 1)[0],
            "c": _some(rng, _CITIES, 1)[0],
            "k": _some(rng, _COLOURS, 1)[0],
            "p": str(int(rng.integers(11, 99))),
            "d": _some(rng, _DAYS, 1)[0],
        }
        right = drawn[answer]
        return dict(drawn), _number(int(right)) if right.isdigit() else _text(right)

    return fill


_NOTE = "{n} bought a {k} coat in {c} for {p} dollars on {d}."
_TASKS: dict[str, tuple[tuple[str, str, str], Callable[[np.random.Generator], tuple[Fill, Fill]]]]
_TASKS = {
    "add small": (
        ("{a} + {b} =", "What is {a} plus {b}?", "Add {b} to {a}."),
        _two(1, 10, int.__add__),
    ),
    "add": (("{a} + {b} =", "What is {a} plus {b}?", "Add {b} to {a}."), _two(11, 99, int.__add__)),
    "subtract": (
        ("{a} - {b} =", "What is {a} minus {b}?", "Take {b} away from {a}."),
        _two(5, 60, int.__sub__),
    ),
    "multiply": (
        ("{a} * {b} =", "What is {a} times {b}?", "Multiply {a} by {b}."),
        _two(2, 13, int.__mul__),
    ),
    "word problem": (
        (
            "{n} had {a} {t} and gave away {b}. How many {t} are left?",
            "There were {a} {t} in the box. {n} took {b} of them. How many remain?",
            "From {a} {t}, {n} lost {b}. How many {t} does {n} have now?",
        ),
        _story,
    ),
    "upper case": (
        (
            "Write in capital letters: {w}",
            "Change to upper case: {w}",
            'How does "{w}" look in capitals?',
        ),
        _capitals,
    ),
    "reverse": (
        (
            "Spell this backwards: {w}",
            "Reverse the letters: {w}",
            'What is "{w}" read from right to left?',
        ),
        _of_word(_SHORT, lambda word: word[::-1]),
    ),
    "count letters": (
        (
            'How many letters are in "{w}"?',
            "Count the letters of the word {w}.",
            "What is the length of the word {w} in letters?",
        ),
        _letters,
    ),
    "first word": (
        (
            "What is the first word of: {w}",
            'Which word comes first in "{w}"?',
            "Give only the first word: {w}",
        ),
        _of_word(_WORDS, lambda word: word.split()[0]),
    ),
    "join": (
        (
            "Write without the space: {w}",
            "Join into one word: {w}",
            'Remove the blank from "{w}".',
        ),
        _of_word(_SHORT, lambda word: word.replace(" ", "")),
    ),
    "largest": (
        (
            "Which number is the largest: {l}?",
            "Give the maximum of {l}.",
            "Of the numbers {l}, name the biggest.",
        ),
        _of_list(max),
    ),
    "smallest": (
        (
            "Which number is the smallest: {l}?",
            "Give the minimum of {l}.",
            "Of the numbers {l}, name the least.",
        ),
        _of_list(min),
    ),
    "how many": (
        (
            "How many numbers are in this list: {l}?",
            "Count the items: {l}",
            "What is the length of the list [{l}]?",
        ),
        _of_list(len),
    ),
    "last item": (
        (
            "What is the last item of the list: {l}?",
            "Name the final word: {l}",
            "Which item ends this list: {l}?",
        ),
        _item(-1),
    ),
    "next month": (
        (
            "Which month comes after {d} {y}?",
            "It is {d} {y}. Which month is next?",
            "Name the month that follows {d} {y}.",
        ),
        _in_ring(_MONTHS, 1),
    ),
    "day before": (
        (
            "Which day comes before {d}? Think of the year {y}.",
            "Today is {d}, in {y}. Which day was yesterday?",
            "Name the day before {d} (in {y}).",
        ),
        _in_ring(_DAYS, -1),
    ),
    "days of month": (
        (
            "How many days does {d} {y} have?",
            "Count the days of {d} {y}.",
            "How long is {d} {y}, in days?",
        ),
        _month_length,
    ),
    "find the city": (
        (
            f"{_NOTE} In which city?",
            f"Text: {_NOTE} Name the city.",
            f"Where was the coat bought? {_NOTE}",
        ),
        _note("c"),
    ),
    "find the price": (
        (
            f"{_NOTE} What was the price in dollars?",
            f"Text: {_NOTE} How many dollars?",
            f"How much did the coat cost? {_NOTE}",
        ),
        _note("p"),
    ),
    "find the day": (
        (
            f"{_NOTE} On which day?",
            f"Text: {_NOTE} Name the day of the week.",
            f"When was the coat bought? {_NOTE}",
        ),
        _note("d"),
    ),
}
