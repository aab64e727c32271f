"""Running roles as processes: open, start, wait, stop what was started."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from ingest import logs
from ingest.backbone import announced, open_backbone, prepare_topics
from ingest.consumer import consume
from ingest.crew import Crew
from ingest.heartbeat import Heartbeat
from ingest.http_serve import listen, url_from_here
from ingest.metrics import Metrics
from ingest.roles import Roles, Station
from ingest.settings import ProcessSettings
from online.recorded import load_recorded
from store.errors import SettingsInvalid

log = logging.getLogger(__name__)


def run_up(settings: ProcessSettings) -> int:
    """Run all roles until SIGTERM or SIGINT; return the exit status."""
    logs.configure(settings.log_level)
    with _station(settings, embedded=True) as station:
        listener = listen(settings.http)
        host, port = listener.getsockname()[:2]
        roles = Roles(station)
        roles.ingest()
        roles.judge()
        roles.learn()
        roles.serve(listener)
        with announced(station.backbone, http_url=f"http://{host}:{port}"):
            log.info("up.ready", extra={"url": f"http://{host}:{port}"})
            return station.crew.wait()


def run_role(name: str, settings: ProcessSettings) -> int:
    """Run one role until SIGTERM or SIGINT; return the exit status."""
    logs.configure(settings.log_level)
    with _station(settings, embedded=False) as station:
        roles = Roles(station)
        http_url = ""
        if name == "serve":
            listener = listen(settings.http)
            http_url = url_from_here(listener)
            roles.serve(listener)
        else:
            if settings.metrics_port:
                station.stack.enter_context(station.metrics.answering(settings.metrics_port))
            {"ingest": roles.ingest, "judge": roles.judge, "learn": roles.learn}[name]()
        heartbeat = Heartbeat(settings.run_dir, name, replica=settings.replica, http_url=http_url)
        with heartbeat.ending():
            return station.crew.wait(heartbeat.beat)


def run_consumer(settings: ProcessSettings) -> int:
    """Answer decisions from recorded traffic until SIGTERM or SIGINT."""
    logs.configure(settings.log_level)
    if settings.recorded is None:
        raise SettingsInvalid("set STEERSMAN_RECORDED to the recorded traffic to answer from")
    crew = Crew()
    crew.stop_on_signals()
    traffic = load_recorded(settings.recorded)
    with open_backbone(settings, embedded=False) as backbone:
        kafka = backbone.settings.kafka
        crew.add("consumer", lambda stop: consume(kafka, traffic, backbone.clock, stop))
        return crew.wait()


@contextmanager
def _station(settings: ProcessSettings, *, embedded: bool) -> Iterator[Station]:
    crew = Crew()
    crew.stop_on_signals()
    with open_backbone(settings, embedded=embedded) as backbone, ExitStack() as stack:
        prepare_topics(backbone.settings.kafka)
        if backbone.tend is not None:
            crew.add("embedded-broker", backbone.tend)
        yield Station(backbone=backbone, crew=crew, stack=stack, metrics=Metrics())
