"""The prompts that describe an expert: 192 short tasks of six kinds, the same for everyone.

CSCR (arXiv 2508.12491, section 4.1) draws 192 probes from a benchmark's validation set; these are
written here, so that they leak no benchmark and need no download. They are made from templates by
draws that hash their own place, so they are the same on every machine and version of Python; a
test holds ``SHA256``. To change a probe is to change every descriptor: raise ``VERSION``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

VERSION = 1
COUNT = 192
SHA256 = "5961c99582704ebbd11dea6d328eeaaee0ce3430377e2b767b1dfa290401bf76"

_EACH = 8
"""Probes of a template; four templates a category."""

_NAMES = ("Amara", "Bruno", "Chen", "Dalia", "Erik", "Farah", "Goran", "Hana", "Ines", "Jonas")
_THINGS = ("apples", "bolts", "candles", "maps", "pencils", "plates", "ribbons", "stamps")
_ANIMALS = ("badger", "crane", "dolphin", "goat", "heron", "lynx", "otter", "tortoise")
_JOBS = ("baker", "carpenter", "farmer", "nurse", "pilot", "plumber", "tailor", "teacher")
_PLACES = (
    "a harbour",
    "a mountain hut",
    "a night train",
    "an empty theatre",
    "a market square",
    "a lighthouse",
    "an old orchard",
    "a railway station",
)
_MOODS = ("cheerful", "gloomy", "hopeful", "mysterious", "tender")
_LANGUAGES = ("Python", "JavaScript", "SQL", "C", "Rust", "Bash")
_TASKS = (
    "reverses a string",
    "counts the vowels of a word",
    "returns the larger of two numbers",
    "removes duplicates from a list",
    "checks whether a year is a leap year",
    "sums the digits of a number",
    "finds the longest word of a sentence",
    "merges two sorted lists",
)
_BUGS = (
    "for i in range(10) print(i)",
    "def half(x): return x // 0",
    "total = '3' + 4",
    "while n > 0: n + 1",
    "if x = 5: print('five')",
    "print(items[len(items)])",
    "import maths; maths.sqrt(2)",
    "def add(a, b): a + b",
)
_CONCEPTS = (
    "a hash table",
    "recursion",
    "a race condition",
    "version control",
    "a unit test",
    "an index in a database",
    "a compiler",
    "an exception",
)
_COUNTRIES = ("Brazil", "Egypt", "Finland", "India", "Japan", "Kenya", "Mexico", "Portugal")
_EVENTS = (
    "the first landing on the Moon",
    "the fall of the Berlin Wall",
    "the invention of printing with movable type",
    "the end of the First World War",
    "the discovery of penicillin",
    "the first ascent of Mount Everest",
    "the opening of the Suez Canal",
    "the launch of Sputnik",
)
_SCIENCE = (
    "Why is the sky blue?",
    "What makes bread rise?",
    "Why do leaves turn red in autumn?",
    "How does a vaccine work?",
    "Why does ice float on water?",
    "What causes the tides?",
    "How do bees find flowers?",
    "Why do we see lightning before we hear thunder?",
)
_FACTS = (
    "Which gas do plants take in?",
    "How many legs does a spider have?",
    "What is the hardest natural material?",
    "Who wrote Don Quixote?",
    "Which planet is known for its rings?",
    "What is the chemical symbol of gold?",
    "In which organ is insulin made?",
    "What is the largest ocean?",
)
_NEWS = (
    "The town council met on Tuesday. It voted to close the old bridge for repairs until spring."
    " Buses will take the road along the river, and shops near the bridge get lower taxes.",
    "A small company has built a lamp that runs on salt water. One filling lasts for two days."
    " Fishing villages have ordered four thousand of them.",
    "The library is open longer from May. Students had asked for it for years. Two new librarians"
    " were hired, and the reading room has forty more seats.",
    "Rain fell for nine days in the valley. Farmers lost a third of the barley. The grapes were"
    " not harmed, and the wine makers expect a good year.",
    "Our server was down for two hours this morning. A disk had filled with old log files. We"
    " deleted them and added an alarm that warns us at eighty percent.",
    "The museum bought a painting that had hung in a kitchen for fifty years. The owner thought"
    " it was a copy. It is now the most valued piece of the collection.",
    "The hospital tested a shorter shift for nurses. Fewer mistakes were counted, and fewer nurses"
    " left. The test goes on for another year.",
    "A storm tore the roof from the school in March. Parents and builders repaired it in five"
    " weekends. Lessons were held in the town hall meanwhile.",
)


@dataclass(frozen=True, slots=True)
class Probe:
    """One prompt and the kind of task that it is."""

    category: str
    text: str


@cache
def probes() -> tuple[Probe, ...]:
    """Return the 192 probes, 32 of each category, in their fixed order."""
    found = [
        Probe(category, _filled(template, f"{category}/{t}/{i}", i))
        for category, templates in _TEMPLATES.items()
        for t, template in enumerate(templates)
        for i in range(_EACH)
    ]
    return tuple(found)


def texts() -> tuple[str, ...]:
    """Return the probes' prompts."""
    return tuple(probe.text for probe in probes())


def sha256() -> str:
    """Return the hash of version, categories and prompts."""
    lines = [f"probes-{VERSION}", *(f"{probe.category}\x1f{probe.text}" for probe in probes())]
    return hashlib.sha256("\x1e".join(lines).encode()).hexdigest()


def _filled(template: str, place: str, turn: int) -> str:
    """Return a template with its blanks drawn or walked in turn."""
    walked = {name: options[turn % len(options)] for name, options in _IN_TURN.items()}
    drawn = {name: _draw(options, f"{place}/{name}") for name, options in _DRAWN.items()}
    numbers = {
        name: str(low + _number(f"{place}/{name}", high - low + 1))
        for name, (low, high) in _NUMBERS.items()
    }
    return template.format(**walked, **drawn, **numbers)


def _draw(options: Sequence[str], place: str) -> str:
    return options[_number(place, len(options))]


def _number(place: str, below: int) -> int:
    """Return an integer in [0, below) that depends on the place alone."""
    return int.from_bytes(hashlib.sha256(place.encode()).digest()[:8], "big") % below


_IN_TURN = {
    "thing": _THINGS,
    "animal": _ANIMALS,
    "job": _JOBS,
    "task": _TASKS,
    "bug": _BUGS,
    "concept": _CONCEPTS,
    "country": _COUNTRIES,
    "event": _EVENTS,
    "science": _SCIENCE,
    "fact": _FACTS,
    "news": _NEWS,
    "name": _NAMES[:8],
    "place": _PLACES,
}
_DRAWN = {"mood": _MOODS, "language": _LANGUAGES, "other": _NAMES[8:]}
_NUMBERS = {"a": (12, 99), "b": (3, 49), "c": (2, 9), "d": (2, 9), "days": (3, 40)}

_TEMPLATES = {
    "mathematics": (
        "What is {a} + {b} * {c}? Give the number.",
        "{name} buys {c} boxes of {a} {thing} each and gives away {b}. How many are left?",
        "Solve for x: {c}x + {b} = {a}.",
        "A rectangle is {c} cm wide and {a} cm long. What are its area and its perimeter?",
    ),
    "coding": (
        "Write a {language} function that {task}.",
        "Find the mistake in this code and correct it:\n\n{bug}",
        "Explain {concept} to a beginner in two sentences.",
        "Write a test for a function that {task}.",
    ),
    "reasoning": (
        "{name} is older than {other}. {other} is {days} years old. Can {name} be {b}? Say why.",
        "If today is Monday, which day of the week is it in {days} days?",
        "Every {animal} in the park is fed by the {job}. The {job} is ill today. What follows for"
        " the {animal}s? Answer in one sentence.",
        "Which does not belong with the others: {thing}, a {animal}, a {job}, {country}? There may"
        " be more than one good answer; give one and defend it.",
    ),
    "summarisation": (
        "Summarise in one sentence:\n\n{news}",
        "Give this text a headline of at most six words:\n\n{news}",
        "List the key facts of this text as bullet points:\n\n{news}",
        "What would a reader in a hurry need to know from this text?\n\n{news}",
    ),
    "creative writing": (
        "Write the first sentence of a {mood} story set in {place}.",
        "Write a short poem about a {animal} and a {job}.",
        "Invent a name and a slogan for a shop that sells {thing}.",
        "Describe {place} at dawn in a {mood} tone, in two sentences.",
    ),
    "knowledge": (
        "What is the capital of {country}, and what is it known for?",
        "In which year was {event}?",
        "{science}",
        "{fact} Answer in a few words.",
    ),
}
