"""The AsyncAPI file is current and its references lead somewhere."""

from __future__ import annotations

from pathlib import Path

from ingest.asyncapi import document, to_yaml
from ingest.topics import every_topic
from store.records import JsonObject

FILE = Path(__file__).parents[2] / "docs" / "asyncapi.yaml"


def references(value: object) -> list[str]:
    if isinstance(value, list):
        return [found for item in value for found in references(item)]
    if not isinstance(value, dict):
        return []
    own = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
    return own + [found for item in value.values() for found in references(item)]


def test_the_file_is_current() -> None:
    assert FILE.read_text(encoding="utf-8") == to_yaml(document()), (
        "run: python -m ingest.asyncapi docs/asyncapi.yaml"
    )


def test_every_reference_leads_somewhere() -> None:
    found = references(document())
    assert found
    for reference in found:
        place: object = document()
        for step in reference.removeprefix("#/").split("/"):
            assert isinstance(place, dict)
            place = place[step]


def test_it_describes_exactly_the_topics_that_are_created() -> None:
    channels = document()["channels"]
    assert isinstance(channels, dict)
    assert {channel["address"] for channel in channels.values()} == set(every_topic("router."))


def test_yaml_by_hand() -> None:
    value: JsonObject = {"a": [1, {"b c": None}], "d": {}, "e": "x: y", "f": True}
    assert to_yaml(value) == 'a:\n  - 1\n  -\n    "b c": null\nd: {}\ne: "x: y"\nf: true\n'
