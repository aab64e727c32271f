"""What was stored once must load for ever: the files of format 1 are never written again."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load

from online.route import route
from online.snapshot import FORMAT, load_state
from online.state import RoutingState
from store.policy import PolicySettings
from store.records import FOLDS, ExpertStatus, Reason
from tests.factories import prompt

FORMATS = Path(__file__).with_name("formats")
STATE = FORMATS / "routing_state_1.safetensors"
COLD = FORMATS / "routing_state_1_cold.safetensors"
CLUSTERS = FORMATS / "clusters_1.safetensors"
POLICY = FORMATS / "policy_1.json"
SHA256 = {
    STATE: "c4909b5b2f8d60cd7205c3469ee8fe52f2b0e31b2d9c859bcf6b32e143a5dc75",
    COLD: "6bc87507fd510698951af9e5b7f41fc142676a900f1f130cb0262fe8ac2e704a",
    CLUSTERS: "05e5c0bd6294bdac198be064fb274e781a1284b94132d3761ee61da0659788be",
    POLICY: "64bc3df164694a87de24580f0f63cf5eac2ffd0426123f1c59ee9b3e20d377ac",
}


@pytest.mark.parametrize("path", SHA256, ids=lambda path: path.name)
def test_the_files_are_the_ones_that_were_written(path: Path) -> None:
    assert hashlib.sha256(path.read_bytes()).hexdigest() == SHA256[path]
    assert path.stat().st_size < 60_000


def stored(path: Path) -> RoutingState:
    return load_state(path.read_bytes(), sha256=SHA256[path])


def test_a_routing_state_of_format_1_loads() -> None:
    found = stored(STATE)
    assert (found.version, found.parent, found.policy_version) == (7, 6, 3)
    assert (found.threshold, found.safe_reason, found.effective_labels) == (0.4, None, 150.5)
    assert (found.encoder, found.policy.reference, found.policy.alpha) == (
        "encoder-1",
        "strong",
        0.07,
    )
    assert [m.name for m in found.pool] == ["strong", "a", "b", "c", "d", "e"]
    assert {m.status for m in found.pool} == {ExpertStatus.CERTIFIED}
    assert found.pool[1].price.request_usd == 0.5
    assert found.model is not None
    assert found.model.columns == tuple(m.name for m in found.pool)
    assert found.model.table.shape == (FOLDS, 4, 6)


def test_a_routing_state_of_format_1_routes() -> None:
    found = stored(STATE)
    vector = np.eye(8, dtype=np.float32)[0]
    for fold in range(FOLDS):
        choice = route(prompt("r1"), vector, found, fold=fold, category="unknown")
        assert choice.expert in found.members


def test_a_cold_state_of_format_1_loads() -> None:
    found = stored(COLD)
    assert found.model is None
    assert (found.threshold, found.safe_reason) == (2.0, Reason.SAFE_COLD)


def test_clusters_of_format_1_load() -> None:
    centroids = load(CLUSTERS.read_bytes())["centroids"]
    assert centroids.shape == (FOLDS, 4, 8)
    assert centroids.dtype == np.float32


def test_a_policy_of_format_1_loads() -> None:
    found = PolicySettings.from_json(json.loads(POLICY.read_text()))
    assert (found.reference, found.alpha, found.hold) == ("strong", 0.07, True)


def test_the_format_is_still_the_first() -> None:
    """A new format needs a new file here, and the old one must go on loading."""
    assert FORMAT == 1
