"""Dead letters are told apart, sent again as they came, and sent again once."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from ingest.dead_letters import dead_letter
from ingest.letters import (
    BATCH,
    Letter,
    LetterPlace,
    choose,
    counted,
    find,
    letters_of,
    original_of,
    place_of,
    replay,
)
from ingest.memory_stream import MemoryBroker, MemoryReader
from ingest.ports import Event, Outbound
from ingest.topics import ReceivedEvent
from store.clock import ManualClock
from store.errors import BrokerUnavailable, EventRejected, NotFound
from tests.factories import NOON
from tests.unit.stream_fakes import RecordingSink

SOURCE, DEAD = "router.prompts", "router.prompts.dlq"


@dataclass
class Post:
    """A broker with dead letters, and what sends them again."""

    broker: MemoryBroker
    clock: ManualClock
    reader: MemoryReader
    sink: RecordingSink

    def bury(self, value: bytes, code: str, *, key: str = "r1") -> None:
        event = Event(topic=SOURCE, value=value, key=key.encode(), partition=4, offset=7)
        self.broker.append([dead_letter(event, EventRejected(code, f"it is {code}"))])
        self.clock.advance(1)

    def letters(self) -> list[Letter]:
        return letters_of(self.reader, DEAD)

    def replay(self, *, again: bool = False) -> int:
        chosen = choose(self.letters(), again=again).chosen
        return replay(self.reader, self.sink, chosen, to=SOURCE)

    def returned(self) -> list[ReceivedEvent]:
        return self.broker.events(SOURCE)


@pytest.fixture
def post() -> Post:
    clock = ManualClock(NOON)
    broker = MemoryBroker(partitions=3, clock=clock)
    return Post(broker, clock, MemoryReader(broker), RecordingSink(broker, []))


def test_a_letter_says_what_is_wrong_and_holds_no_bytes(post: Post) -> None:
    post.bury(b"SECRET", "wrong_type")
    (letter,) = post.letters()
    assert (letter.topic, letter.key, letter.size) == (DEAD, "r1", 6)
    assert (letter.reason, letter.message) == ("wrong_type", "it is wrong_type")
    assert (letter.sent_at, letter.was_replayed, letter.is_cut) == (NOON, False, False)
    assert "SECRET" not in repr(letter)
    assert original_of(post.reader, letter) == b"SECRET"


def test_letters_are_in_the_order_of_time_over_partitions(post: Post) -> None:
    for number in range(30):
        post.bury(b"x", "wrong_type", key=f"r{number}")
    assert [letter.key for letter in post.letters()] == [f"r{number}" for number in range(30)]


def test_reasons_are_counted(post: Post) -> None:
    for code in ("empty_field", "wrong_type", "wrong_type"):
        post.bury(b"x", code)
    assert counted(post.letters()) == "2 wrong_type, 1 empty_field"


def test_a_replay_is_the_original_under_its_key_and_says_so(post: Post) -> None:
    original = bytes(range(256))
    post.bury(original, "unknown_version", key="schlüssel")
    (letter,) = post.letters()
    assert post.replay() == 1
    (event,) = post.returned()
    assert (event.value, event.key) == (original, "schlüssel".encode())
    assert event.headers == {"replayed_from": f"{DEAD}/{letter.place}"}


def test_a_replayed_letter_stays_and_is_not_replayed_twice(post: Post) -> None:
    post.bury(b"one", "wrong_type")
    assert post.replay() == 1
    post.bury(b"two", "wrong_type")
    assert [letter.was_replayed for letter in post.letters()] == [True, False]
    assert post.replay() == 1
    assert post.replay() == 0
    assert [event.value for event in post.returned()] == [b"one", b"two"]
    assert [original_of(post.reader, letter) for letter in post.letters()] == [b"one", b"two"]


def test_again_replays_what_was_replayed(post: Post) -> None:
    post.bury(b"one", "wrong_type")
    assert post.replay() == post.replay(again=True) == 1
    assert [event.value for event in post.returned()] == [b"one", b"one"]
    assert len(post.letters()) == 1


def test_what_failed_a_second_time_is_not_sent_round_and_round(post: Post) -> None:
    post.bury(b"one", "wrong_type")
    post.replay()
    (event,) = post.returned()
    post.broker.append([dead_letter(event, EventRejected("wrong_type", "still"))])
    assert [letter.was_replayed for letter in post.letters()] == [True, True]
    assert post.replay() == 0


def test_more_letters_than_one_batch_are_all_replayed(post: Post) -> None:
    for number in range(2 * BATCH + 3):
        post.bury(b"%d" % number, "wrong_type", key=f"r{number}")
    assert post.replay() == 2 * BATCH + 3
    assert {int(event.value) for event in post.returned()} == set(range(2 * BATCH + 3))
    assert post.replay() == 0


def test_a_letter_that_could_not_be_sent_is_not_noted(post: Post) -> None:
    post.bury(b"one", "wrong_type")
    post.sink.fail_next = [BrokerUnavailable("away")]
    with pytest.raises(BrokerUnavailable):
        post.replay()
    assert post.replay() == 1
    assert [event.value for event in post.returned()] == [b"one"]


def test_a_letter_that_was_cut_is_refused(post: Post) -> None:
    post.bury(b"x" * 1_000_000, "prompt_too_long")
    (letter,) = post.letters()
    choice = choose([letter], places=[letter.place], again=True)
    assert (choice.chosen, choice.replayed_before, choice.cut) == ([], [], [letter])
    assert post.replay() == 0
    assert post.returned() == []


def test_letters_are_chosen_by_place_and_by_reason(post: Post) -> None:
    for number, code in enumerate(["a", "b", "a", "c"]):
        post.bury(b"x", code, key=f"r{number}")
    letters = post.letters()
    third = letters[2].place

    def keys(**wanted: list[str] | list[LetterPlace]) -> list[str]:
        return [letter.key for letter in choose(letters, **wanted).chosen]  # type: ignore[arg-type]

    assert keys() == ["r0", "r1", "r2", "r3"]
    assert keys(reasons=["a", "c"]) == ["r0", "r2", "r3"]
    assert keys(places=[third]) == ["r2"]
    assert keys(places=[third], reasons=["b"]) == []


def test_a_foreign_message_among_the_letters_harms_nothing(post: Post) -> None:
    post.broker.append([Outbound(topic=DEAD, key="", value=b"?", headers={"replayed": "yes"})])
    post.broker.append([Outbound(topic=DEAD, key="", value=b"??")])
    (letter,) = post.letters()
    assert (letter.reason, letter.message, letter.size) == ("", "", 2)


def test_a_place_that_holds_no_letter_is_said(post: Post) -> None:
    with pytest.raises(NotFound, match=r"no dead letter at 0:9 in router\.prompts\.dlq"):
        find(post.letters(), DEAD, place_of("0:9"))


@pytest.mark.parametrize("text", ["", "3", "3:", ":3", "a:b", "3:-1", "3:1:2", "-1:0"])
def test_what_is_no_place_is_refused(text: str) -> None:
    with pytest.raises(EventRejected, match="PARTITION:OFFSET"):
        place_of(text)
