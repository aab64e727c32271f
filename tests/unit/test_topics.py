"""Names of topics and what the broker's settings refuse."""

from __future__ import annotations

import pytest

from ingest.topics import KafkaSettings, dead_letters_of, every_topic
from store.errors import SettingsInvalid

WEEK_MS = 7 * 24 * 3_600_000


def test_by_default_a_topic_keeps_a_week_and_its_dead_letters_four() -> None:
    settings = KafkaSettings()
    assert settings.configuration_of("router.prompts") == {"retention.ms": str(WEEK_MS)}
    dead = dead_letters_of("router.prompts")
    assert settings.configuration_of(dead) == {"retention.ms": str(4 * WEEK_MS)}


def test_the_brokers_own_retention_stands_when_none_is_wanted() -> None:
    settings = KafkaSettings(retention_hours=-1)
    assert [settings.configuration_of(topic) for topic in every_topic("router.")] == [{}] * 9


@pytest.mark.parametrize("name", ["retention_hours", "replication_factor"])
@pytest.mark.parametrize("value", [0, -2])
def test_a_number_that_is_neither_positive_nor_the_brokers_default_is_refused(
    name: str, value: int
) -> None:
    with pytest.raises(SettingsInvalid, match=f"{name} must be -1 or at least 1, got {value}"):
        KafkaSettings(**{name: value})  # type: ignore[arg-type]  # both are whole numbers
