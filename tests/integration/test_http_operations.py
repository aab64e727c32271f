"""Operating the router over HTTP: experts, policy, routing state, alerts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from starlette.testclient import TestClient

from online.snapshot import dump
from store.errors import StateSuperseded
from store.health import HEALTHY, Health
from store.judging import CanaryResult, Quarantine
from store.records import SAFE, ExpertStatus, Reason, RoutingStateRecord
from tests import factories
from tests.integration.http_harness import EXPERT, Api, error_of
from tests.unit import state_fakes


@pytest.fixture
def api() -> Api:
    return Api()


@pytest.fixture
def client(api: Api) -> Iterator[TestClient]:
    with api.client() as running:
        yield running


# Experts


def test_an_expert_is_registered_listed_priced_and_paused(api: Api, client: TestClient) -> None:
    admin = api.keys["admin"]
    path = "/v1/experts/vendor/new-1.5"
    added = client.post("/v1/experts", json=EXPERT, headers=admin)
    again = client.post("/v1/experts", json=EXPERT, headers=admin)
    priced = client.patch(path, json={"price": {"request_usd": 0.5}}, headers=admin)
    paused = client.patch(path, json={"status": "paused"}, headers=admin)
    still = client.patch(path, json={"status": "paused"}, headers=admin)

    assert (added.status_code, added.json()["status"]) == (201, "registered")
    assert error_of(again, 409)["code"] == "expert_exists"
    assert priced.json()["price"]["request_usd"] == 0.5
    assert (paused.json()["status"], still.json()["status"]) == ("paused", "paused")
    names = [expert["name"] for expert in client.get("/v1/experts").json()["experts"]]
    assert names == ["cheap", "strong", "vendor/new-1.5"]
    with api.ledger.begin() as tx:
        assert {e.action for e in tx.operations.audit_trail(limit=9) if e.actor == "admin"} == {
            "expert.added",
            "expert.changed",
        }


def test_one_expert_shows_how_far_it_has_come(api: Api, client: TestClient) -> None:
    with api.ledger.begin() as tx:
        tx.decisions.record([factories.decided("r1", decided_at=api.clock.now())])
        tx.describing.answer(factories.probe_answer())
    shown = client.get("/v1/experts/cheap")
    assert shown.status_code == 200
    body = shown.json()
    assert body.items() >= client.get("/v1/experts").json()["experts"][0].items()
    assert [step["status"] for step in body["steps"]] == [body["status"]]
    assert (body["labels_needed"], body["labels_got"], body["probe_usd"]) == (100, 0, 0.25)
    assert body["last_day"]["decisions"] == 1
    assert "vector" not in shown.text
    assert error_of(client.get("/v1/experts/nobody"), 404)["code"] == "unknown_expert"
    assert error_of(client.get("/v1/experts/%00"), 404)["code"] == "unknown_expert"


def test_what_an_expert_can_do_is_declared_shown_and_changed_as_a_whole(
    api: Api, client: TestClient
) -> None:
    admin = api.keys["admin"]
    can = {"context_tokens": 8_000, "tools": True, "regions": ["eu"]}
    nothing: dict[str, Any] = {
        "context_tokens": None,
        "max_output_tokens": None,
        "tools": False,
        "json_mode": False,
        "regions": [],
    }
    added = client.post("/v1/experts", json=EXPERT | {"capabilities": can}, headers=admin)
    path = "/v1/experts/vendor/new-1.5"
    changed = client.patch(path, json={"capabilities": {"json_mode": True}}, headers=admin)
    priced = client.patch(path, json={"price": {"request_usd": 0.5}}, headers=admin)

    assert added.json()["capabilities"] == nothing | can
    assert changed.json()["capabilities"] == nothing | {"json_mode": True}
    assert priced.json()["capabilities"] == changed.json()["capabilities"]


def test_a_pause_for_failing_calls_is_shown_and_can_be_taken_over(
    api: Api, client: TestClient
) -> None:
    now = factories.later(9)
    with api.ledger.begin() as tx:
        tx.experts.set_status(
            factories.CHEAP,
            before=ExpertStatus.REGISTERED,
            after=ExpertStatus.PAUSED,
            now=now,
        )
        failing = Health(was="registered", since=now, error="timeout", probes=2, episodes=1)
        tx.experts.set_health(factories.CHEAP, before=HEALTHY, after=failing)
    shown = client.get("/v1/experts").json()["experts"][0]
    taken = client.patch(
        "/v1/experts/cheap", json={"status": "paused"}, headers=api.keys["admin"]
    ).json()

    assert (shown["status"], shown["is_failing"]) == ("paused", True)
    assert (shown["health"]["error"], shown["health"]["probes"]) == ("timeout", 2)
    assert (taken["status"], taken["is_failing"]) == ("paused", False)


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("capabilities.context_tokens", {"capabilities": {"context_tokens": 0}}),
        ("capabilities.regions.0", {"capabilities": {"regions": [""]}}),
        ("capabilities.vision", {"capabilities": {"vision": True}}),
        ("price", {"price": {"input_usd_per_mtok": 0.0}}),
        ("price.input_usd_per_mtok", {"price": {"input_usd_per_mtok": -1}}),
        ("price.input_usd_per_mtok", {"price": {"input_usd_per_mtok": "1"}}),
        ("price.free", {"price": {"free": True}}),
        ("name", {"name": "a b"}),
        ("name", {"name": "a\x00"}),
        ("client", {"client": {"kind": "telepathy"}}),
        ("client.openai.api_key", {"client": EXPERT["client"] | {"api_key": "sk-1"}}),
        ("surprise", {"surprise": 1}),
    ],
)
def test_an_impossible_expert_is_refused(
    field: str, change: dict[str, Any], api: Api, client: TestClient
) -> None:
    reply = client.post("/v1/experts", json=EXPERT | change, headers=api.keys["admin"])

    assert error_of(reply, 422)["field"] == field


def test_an_illegal_status_and_the_reference_are_left_alone(api: Api, client: TestClient) -> None:
    admin = api.keys["admin"]

    shadow = client.patch("/v1/experts/cheap", json={"status": "shadow"}, headers=admin)
    certified = client.patch("/v1/experts/cheap", json={"status": "certified"}, headers=admin)
    reference = client.patch("/v1/experts/strong", json={"status": "paused"}, headers=admin)
    unknown = client.patch("/v1/experts/none", json={"status": "paused"}, headers=admin)

    assert error_of(shadow, 422)["code"] == "illegal_status"
    assert error_of(certified, 422)["field"] == "status"
    assert error_of(reference, 409)["code"] == "expert_is_reference"
    assert error_of(unknown, 404)["code"] == "unknown_expert"


# Policy and state


def test_policy_changes_as_values_or_text_by_the_keys_name(api: Api, client: TestClient) -> None:
    change = {"alpha": 0.2, "tau": "0.8", "hold": True, "judge_budget_per_day": 5}
    changed = client.patch("/v1/policy", json=change, headers=api.keys["admin"])

    assert changed.status_code == 200, changed.text
    assert changed.json() == client.get("/v1/policy").json()
    settings = changed.json()["settings"]
    assert {name: settings[name] for name in change} == change | {"tau": 0.8}
    with api.ledger.begin() as tx:
        assert tx.operations.audit_trail(limit=1)[0].actor == "admin"


@pytest.mark.parametrize(
    "change",
    [{}, {"alpha": 2}, {"alpha": "nan"}, {"alpha": None}, {"alpah": 0.1}, {"alpha": [1]},
     {"reference": "nobody"}, {"judge": "a\x00b"}, {"hold": 1}],
)  # fmt: skip
def test_an_impossible_policy_is_refused_and_the_old_one_stays(
    change: dict[str, Any], api: Api, client: TestClient
) -> None:
    before = client.get("/v1/policy").json()

    error_of(client.patch("/v1/policy", json=change, headers=api.keys["admin"]), 422)

    assert client.get("/v1/policy").json() == before


def test_the_state_says_what_is_in_force_and_who_serves_it(api: Api, client: TestClient) -> None:
    with api.ledger.begin() as tx:
        tx.states.record_calibration(factories.calibration())

    shown = client.get("/v1/state").json()

    assert (shown["active"]["version"], shown["active"]["threshold"]) == (1, 0.5)
    assert (shown["active"]["risk_target"], shown["active"]["effective_labels"]) == (0.1, 120.25)
    assert list(shown["acknowledged"]) == ["r-1"]
    assert shown["serving"] == {"version": 1, "gap": None}
    assert shown["last_calibration"]["reason"] == "feasible"
    assert [state["cause"] for state in shown["history"]] == ["labels"]


def cold_state(version: int) -> RoutingStateRecord:
    made = replace(
        state_fakes.state(threshold=SAFE),
        version=version,
        parent=version - 1,
        model=None,
        safe_reason=Reason.SAFE_COLD,
    )
    return factories.state(version, payload=dump(made), threshold=SAFE, effective_labels=0.0)


def test_a_cold_start_is_shown_in_figures_and_in_words(api: Api, client: TestClient) -> None:
    assert client.get("/v1/state").json()["waiting"] is None
    with api.ledger.begin() as tx:
        tx.states.publish(cold_state(2))
        tx.decisions.record([factories.decided(f"c{n}", seed=n) for n in range(37)])
        for n in range(37):
            at = factories.later(-3_600 + 100 * n)
            tx.labels.add([], [factories.label(f"c{n}", labelled_at=at)])

    shown = client.get("/v1/state").json()["waiting"]

    assert (shown["reason"], shown["counted"]) == ("safe_cold", "prompts")
    assert (shown["have"], shown["need"]) == (37, 400)
    assert shown["labels_per_hour"] == pytest.approx(36.0)
    assert shown["hours_left"] == pytest.approx(454 / 36.0)
    assert shown["text"] == (
        "37 of 400 sampled prompts, serving the reference; about 12.6 hours left at this rate"
    )
    assert client.get("/ready").status_code == 200


def test_the_bound_on_the_true_risk_stands_beside_the_target(api: Api, client: TestClient) -> None:
    assert client.get("/v1/state").json()["judge"] is None
    with api.ledger.begin() as tx:
        tx.decisions.record([factories.decided(f"j{n}", seed=n) for n in range(2)])
        tx.labels.add([], [factories.label(f"j{n}") for n in range(2)])
        tx.judging.audit_pair(factories.audited("j0", preference=0.0))

    shown = client.get("/v1/state").json()["judge"]

    assert (shown["truly_bad_audited"], shown["truly_bad_needed"]) == (1, 100)
    assert shown["e1"] == 1.0
    assert shown["e1_at_most"] is None
    assert shown["true_risk_at_most"] is None
    assert shown["text"].endswith("not bounded yet: 1 of 100 truly bad pairs audited.")


def test_the_mode_is_changed_and_shown(api: Api, client: TestClient) -> None:
    admin = api.keys["admin"]
    assert client.get("/v1/state").json()["mode"] == "apply"
    assert client.patch("/v1/policy", json={"mode": "observe"}, headers=admin).status_code == 200
    assert client.get("/v1/state").json()["mode"] == "observe"
    assert client.get("/v1/policy").json()["settings"]["mode"] == "observe"
    error_of(client.patch("/v1/policy", json={"mode": "maybe"}, headers=admin), 422)


def test_an_earlier_state_comes_back_as_a_new_version(api: Api, client: TestClient) -> None:
    with api.ledger.begin() as tx:
        tx.states.publish(factories.state(2))
    admin = api.keys["admin"]

    done = client.post("/v1/state/rollback", json={"version": 1}, headers=admin)
    unknown = client.post("/v1/state/rollback", json={"version": 99}, headers=admin)
    zero = client.post("/v1/state/rollback", json={"version": 0}, headers=admin)

    assert done.json() == {"version": 3, "copied_from": 1}
    assert client.get("/v1/state").json()["active"]["cause"] == "rollback"
    assert error_of(unknown, 404)["code"] == "unknown_state"
    error_of(zero, 422)


def test_a_rollback_that_lost_a_race_is_a_conflict(api: Api, client: TestClient) -> None:
    def lost(version: int, actor: str) -> int:
        raise StateSuperseded(expected=1, active=2)

    api.roll_back = lost  # type: ignore[method-assign]  # another publisher was faster
    with api.client() as raced:
        reply = raced.post("/v1/state/rollback", json={"version": 1}, headers=api.keys["admin"])

    assert error_of(reply, 409)["code"] == "state_superseded"


def test_alerts_are_listed(client: TestClient) -> None:
    assert client.get("/v1/alerts").json()["alerts"][0]["kind"] == "expert_regression"
    error_of(client.get("/v1/alerts?limit=0"), 422)
    error_of(client.get("/v1/alerts?limit=many"), 422)


# Judges


def test_judges_are_listed_with_canaries_and_quarantine(api: Api, client: TestClient) -> None:
    assert client.get("/v1/judges").json() == {"judges": []}
    now = api.clock.now()
    run = [
        CanaryResult(judge_version="judge-1", ran_at=now, name="null-01", is_right=False),
        CanaryResult(judge_version="judge-1", ran_at=now, name="gibberish-01", is_right=True),
    ]
    held = Quarantine(judge_version="judge-1", since=now, reason="lost null-01", imposed_at=now)
    with api.ledger.begin() as tx:
        tx.labels.add([], [factories.label("r1", labelled_at=now)])
        tx.judging.record_canaries(run)
        tx.judging.quarantine(held, actor="canaries")
    (judge,) = client.get("/v1/judges").json()["judges"]
    assert (judge["judge_version"], judge["labels"], judge["labels_left_out"]) == ("judge-1", 1, 1)
    assert judge["canaries"] == {
        "canaries": 2,
        "lost": ["null-01"],
        "gibberish_worse": 1.0,
        "unreadable": 0,
    }
    assert judge["quarantine"]["reason"] == "lost null-01"
