"""``steersman dlq`` against a broker: what an operator sees and does with dead letters."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner, Result

from ingest.broker import KafkaSink
from ingest.broker_upkeep import KafkaReader
from ingest.cli import app
from ingest.dead_letters import dead_letter
from ingest.letters import letters_of
from ingest.ports import Event
from ingest.topics import KafkaSettings
from store.errors import EventRejected, NotFound
from tests.contract.kafka_fixtures import embedded_broker, kafka_settings

__all__ = ["embedded_broker", "kafka_settings"]
pytestmark = pytest.mark.kafka
WHISPER = b'{"prompt": "whispered"'


class Operator:
    """Types ``steersman dlq`` commands."""

    def __init__(self, settings: KafkaSettings) -> None:
        self.source = f"{settings.topic_prefix}prompts"
        self.settings = settings
        self.reader = KafkaReader(settings)
        self._environment = {
            "STEERSMAN_KAFKA_BOOTSTRAP_SERVERS": settings.bootstrap_servers,
            "STEERSMAN_KAFKA_TOPIC_PREFIX": settings.topic_prefix,
        }

    def bury(self, *letters: tuple[str, bytes, str]) -> None:
        sink = KafkaSink(self.settings)
        for key, value, code in letters:
            event = Event(topic=self.source, value=value, key=key.encode())
            sink.publish([dead_letter(event, EventRejected(code, f"it is {code}"))])
        sink.close()

    def types(self, *words: str, answer: str = "") -> Result:
        return CliRunner().invoke(app, ["dlq", *words], input=answer, env=self._environment)

    def places(self) -> dict[str, str]:
        """Return the place of each letter by its key."""
        letters = letters_of(self.reader, f"{self.source}.dlq")
        return {letter.key: str(letter.place) for letter in letters}

    def returned(self) -> list[bytes]:
        return [event.value for event in self.reader.read(self.source)]


@pytest.fixture
def operator(kafka_settings: KafkaSettings) -> Operator:
    return Operator(kafka_settings)


def test_the_list_counts_reasons_and_shows_the_newest_without_their_bytes(
    operator: Operator,
) -> None:
    operator.bury(("r1", WHISPER, "wrong_type"), ("r2", WHISPER, "wrong_type"))
    operator.bury(("r\x1b[2J", WHISPER, "empty_field"))
    shown = operator.types("list", "--limit", "2")
    assert shown.exit_code == 0
    heads = shown.stdout.splitlines()[:3]
    assert heads[0] == (
        f"{operator.source}: 3 dead letters: 2 wrong_type, 1 empty_field; 0 replayed"
    )
    assert [line.endswith(": 0 dead letters") for line in heads] == [False, True, True]
    newest, older = shown.stdout.splitlines()[3:]
    assert newest.endswith(r"  r\x1b[2J  empty_field: it is empty_field")
    assert older.endswith(
        f"Z  {operator.source}.dlq  {operator.places()['r2']}  r2  wrong_type: it is wrong_type"
    )
    assert "whispered" not in shown.output


def test_the_bytes_are_shown_only_when_asked_for_and_then_exactly(operator: Operator) -> None:
    original = WHISPER + bytes(range(256))
    operator.bury(("r1", original, "unreadable_json"))
    place = operator.places()["r1"]
    headers = operator.types("show", "prompts", place)
    assert f"source_topic: {operator.source}" in headers.stdout
    assert "reason: unreadable_json" in headers.stdout
    assert f"bytes: {len(original)}" in headers.stdout
    assert "whispered" not in headers.output
    everything = operator.types("show", "prompts", place, "--bytes")
    assert everything.stdout_bytes == original
    assert "reason: unreadable_json" in everything.stderr


def test_a_replay_asks_first_and_leaves_the_letters(operator: Operator) -> None:
    operator.bury(("r1", b"one", "wrong_type"), ("r2", b"two", "empty_field"))
    asked = operator.types("replay", "prompts", answer="n\n")
    assert f"2 dead letters to send to {operator.source}" in asked.stdout
    assert (asked.exit_code, operator.returned()) == (1, [])
    done = operator.types("replay", "prompts", "--reason", "wrong_type", answer="y\n")
    assert (done.exit_code, operator.returned()) == (0, [b"one"])
    assert set(operator.places()) == {"r1", "r2"}
    assert "; 1 replayed" in operator.types("list").stdout


def test_a_second_replay_leaves_out_what_was_replayed_unless_told(operator: Operator) -> None:
    operator.bury(("r1", b"one", "wrong_type"), ("r2", b"two", "wrong_type"))
    place = operator.places()["r1"]
    assert operator.types("replay", "prompts", "--at", place, "--yes").exit_code == 0
    rest = operator.types("replay", "prompts", "--yes")
    assert f"1 replayed before, left alone (--again sends them too): {place}" in rest.stdout
    assert sorted(operator.returned()) == [b"one", b"two"]
    named = operator.types("replay", "prompts", "--at", place, "--yes")
    assert (named.exit_code, "sent to" in named.stdout) == (1, False)
    assert operator.types("replay", "prompts", "--yes").exit_code == 0
    operator.types("replay", "prompts", "--at", place, "--again", "--yes")
    assert sorted(operator.returned()) == [b"one", b"one", b"two"]


def test_a_letter_that_was_cut_cannot_be_replayed(operator: Operator) -> None:
    operator.bury(("r1", b"x" * 950_000, "prompt_too_long"))
    place = operator.places()["r1"]
    refused = operator.types("replay", "prompts", "--at", place, "--yes")
    assert refused.exit_code == 1
    assert f"only their sender has the whole: {place}" in refused.stdout
    assert operator.returned() == []


def test_a_wrong_place_or_topic_is_said(operator: Operator) -> None:
    operator.bury(("r1", b"one", "wrong_type"))
    missing = operator.types("replay", "prompts", "--at", "0:99", "--yes")
    assert isinstance(missing.exception, NotFound)
    assert "no dead letter at 0:99" in str(missing.exception)
    unknown = operator.types("show", "decisions", "0:0")
    assert unknown.exit_code == 2
    assert "not one of prompts, responses, feedback" in unknown.output
