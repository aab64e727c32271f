"""How long ago each judge of this process was asked its canaries, as a metric."""

from __future__ import annotations

from collections.abc import Mapping

from ingest.ports import Gauges


class CanaryAgeGauge:
    """Shows the age of the last run of the judges that are asked here, and of no others: one that
    was replaced, or is in quarantine, would else seem to be overdue for ever.
    """

    def __init__(self, gauges: Gauges) -> None:
        self._gauges = gauges
        self._shown: set[str] = set()

    def show(self, ages: Mapping[str, float]) -> None:
        """Set the gauge of every version in ``ages``, in seconds, and forget the others."""
        for version in self._shown - ages.keys():
            self._gauges.forget("judge_canaries_age_seconds", judge_version=version)
        for version, age in ages.items():
            self._gauges.set("judge_canaries_age_seconds", age, judge_version=version)
        self._shown = set(ages)
