"""Who made a model: no judge grades answers of its own family, which it tends to favour."""

from __future__ import annotations

import re

from store.records import Expert

_NAMES = {
    "openai": ("gpt", "chatgpt", "o1", "o3", "o4", "davinci", "codex"),
    "anthropic": ("claude",),
    "google": ("gemini", "gemma", "palm"),
    "meta": ("llama", "codellama", "vicuna"),
    "mistral": ("mistral", "mixtral", "ministral", "magistral", "codestral", "pixtral", "devstral"),
    "alibaba": ("qwen", "qwq"),
    "deepseek": ("deepseek",),
    "microsoft": ("phi", "wizardlm"),
    "huggingface": ("smollm", "zephyr"),
    "cohere": ("command", "aya"),
    "xai": ("grok",),
    "amazon": ("nova", "titan"),
    "zhipu": ("glm", "chatglm"),
    "moonshot": ("kimi", "moonshot"),
    "01ai": ("yi",),
    "ibm": ("granite",),
    "ai2": ("olmo", "tulu"),
    "nvidia": ("nemotron",),
    "tii": ("falcon",),
    "ai21": ("jamba", "jurassic"),
}
"""Products by maker. A model that was tuned or distilled from another is told by the first name."""

_FAMILIES = {name: family for family, names in _NAMES.items() for name in names}
_WORD = re.compile(r"[a-z]+\d*")


def family_of(model: str) -> str:
    """Return the family of a model's name; a name that is not known is a family of its own.

    >>> family_of("google/gemma-3-270m-it"), family_of("gemini-2.5-flash"), family_of("Our-7B")
    ('google', 'google', 'our-7b')
    """
    name = model.lower().rpartition("/")[2]
    for word in _WORD.findall(name):
        family = _FAMILIES.get(word) or _FAMILIES.get(word.rstrip("0123456789"))
        if family is not None:
            return family
    return name


def family_of_expert(expert: Expert) -> str:
    """Return the family that the client's settings name, else that of its model or name."""
    stated = expert.client.get("family")
    return stated.lower() if stated else family_of(expert.client.get("model") or expert.name)
