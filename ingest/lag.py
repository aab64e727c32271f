"""How far this process is behind on each partition it reads, as a metric."""

from __future__ import annotations

from collections.abc import Mapping

from ingest.ports import Gauges, Place


class LagGauge:
    """Shows the lag of the partitions that are read here, and of no others.

    A partition that moved to another process would else keep its last value for ever, and two
    processes would contradict each other about it.
    """

    def __init__(self, gauges: Gauges) -> None:
        self._gauges = gauges
        self._shown: set[Place] = set()

    def show(self, lag: Mapping[Place, int]) -> None:
        """Set the gauge of every place in ``lag`` and forget the other places."""
        for topic, partition in self._shown - lag.keys():
            self._gauges.forget("stream_lag", topic=topic, partition=str(partition))
        for (topic, partition), behind in lag.items():
            self._gauges.set("stream_lag", behind, topic=topic, partition=str(partition))
        self._shown = set(lag)
