r"""Finding in free text what it states as its final answer.

Taken as statements: ``\boxed{...}``, ``the answer is ...`` and its like, ``Answer: ...``,
``#### ...``. A model's thoughts between ``<think>`` and ``</think>`` are left out. When several
statements are found, whoever asks must see that they agree: which one the writer meant nobody
knows. Every search is linear in the text, which somebody unknown wrote.
"""

from __future__ import annotations

import re
import unicodedata
from itertools import zip_longest

LONGEST = 100_000
"""Characters of an answer that is looked at; a longer one is left to the judge."""

_NAMED = (
    r"(?:the[ \t]{1,3})?(?:final|correct|right|best)?[ \t]{0,3}"
    r"\b(?:answer|result|solution|option|choice)"
)
_SAYS = (
    r"(?:[ \t]{1,3}(?:is|are|equals|would be|must be|should be))[ \t]{0,3}:?"
    r"|[*_]{0,3}[ \t]{0,3}[:=]"
)
_STATED = re.compile(rf"(?:\b{_NAMED}(?:{_SAYS})|####)", re.IGNORECASE)
_SENTENCE_END = re.compile(r"[.!?](?=\s|$)|\n")
_TAKES_BACK = re.compile(
    r"\b(?:wait|actually|correction|sorry|mistaken?|scratch that|i meant|on second thought|hmm)\b",
    re.IGNORECASE,
)
_THOUGHTS = re.compile(r"\A\s*<think>.*?</think>", re.DOTALL)
_FENCE = re.compile(r"```[ \t]*(?P<tag>[\w+.-]*)[^`]*")
_MARKUP = str.maketrans(dict.fromkeys("*_`\"'“”‘’"))
_WRAPPED = re.compile(r"\\(?:text|textbf|mathrm|mathbf|mbox|operatorname)\{([^{}]*)\}")
_EDGES = " \t\n.,;:!?()[]{}$\\"


def answered(text: str) -> str:
    """Return the answer without the thoughts before it."""
    return _THOUGHTS.sub("", text, count=1).strip()


def normalised(text: str) -> str:
    """Return a text for comparison: case, width, markup, edges and runs of space do not count."""
    plain = _WRAPPED.sub(r" \1 ", text)
    plain = unicodedata.normalize("NFKC", plain).translate(_MARKUP).casefold()
    return " ".join(plain.split()).strip(_EDGES)


def statements(text: str) -> list[str]:
    """Return what the text states as its answer, each up to the end of its line.

    A marker at the end of a line speaks of the next line that holds something.
    """
    found = _boxed(text)
    markers = list(_STATED.finditer(text))
    for marker, following in zip_longest(markers, markers[1:]):
        end = len(text) if following is None else following.start()
        line = text[marker.end() : end].partition("\n")[0]
        is_last = marker.end() + len(line) < end or following is None
        said = line.strip(" \t*_:")
        found.append(said if said or not is_last else _next_line(text, marker.end()))
    return [said for said in found if said]


def is_taken_back(text: str) -> bool:
    """Return whether a text goes on after its last statement in a way that may correct it."""
    ends = [marker.end() for marker in _STATED.finditer(text)]
    last = max([text.rfind("\\boxed{"), *ends])
    return last >= 0 and _TAKES_BACK.search(text, last) is not None


def sentences(text: str) -> list[str]:
    """Return the sentences and lines that hold something, in order."""
    return [part.strip() for part in _SENTENCE_END.split(text) if part.strip()]


def first_sentence(text: str) -> str:
    """Return a text up to the end of its first sentence."""
    return _SENTENCE_END.split(text, maxsplit=1)[0].strip()


def fences(text: str) -> list[tuple[str, str]]:
    """Return the fenced blocks as language (lower case, may be empty) and content."""
    found: list[tuple[str, str]] = []
    tag, body = None, list[str]()
    for line in text.splitlines():
        fence = line.strip()
        if tag is None and (opened := _FENCE.fullmatch(fence)):
            tag, body = opened["tag"].lower(), []
        elif tag is not None and fence == "```":
            found.append((tag, "\n".join(body)))
            tag = None
        else:
            body.append(line)
    return found


def _next_line(text: str, place: int) -> str:
    rest = text[place : place + 1_000].strip()
    return rest.partition("\n")[0].strip(" \t*_")


def _boxed(text: str) -> list[str]:
    r"""Return the content of each ``\boxed{...}``, braces inside it matched."""
    found = []
    place = text.find("\\boxed{")
    while place >= 0:
        begin = end = place + len("\\boxed{")
        depth = 1
        while end < len(text) and depth:
            depth += {"{": 1, "}": -1}.get(text[end], 0)
            end += 1
        if depth == 0:
            found.append(text[begin : end - 1].strip())
        place = text.find("\\boxed{", end)
    return found
