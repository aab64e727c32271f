"""What happens when something breaks, row by row, and the tests that show it.

Half of one row is open: no canary finds a lying judge yet. Its labels count, all that is promised
holds with respect to the judge, and the tests of that row show what happens to traffic meanwhile.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
NAMED = "faults/test_crash_points.py::test_killed_at_every_named_point"
RANDOM = "faults/test_crash_points.py::test_killed_at_random_while_broker_and_database_restart"
ROWS: Mapping[str, Sequence[str]] = {
    "killed before the decision's commit: redelivered, decided then": (
        NAMED,
        RANDOM,
        "unit/test_stream.py::test_a_crash_before_the_database_redelivers",
        "faults/test_outages.py::test_killed_with_the_real_encoder_at_work",
    ),
    "killed after the commit, before publishing: the sweeper publishes": (
        NAMED,
        RANDOM,
        "unit/test_stream.py::test_a_decision_that_could_not_be_sent_is_left_to_the_sweeper",
    ),
    "killed after publishing, before marking or the offset commit: sent twice with one id": (
        NAMED,
        RANDOM,
        "unit/test_outbox.py::test_what_was_sent_but_not_marked_is_sent_again",
        "unit/test_stream.py::test_a_crash_between_handler_and_commit_redelivers",
    ),
    "judge dies with a lease: another worker takes it; dead after n attempts, kept and counted": (
        NAMED,
        RANDOM,
        "contract/test_ledger_learning.py"
        "::test_an_expired_lease_goes_to_another_worker_and_the_first_has_lost_it",
        "contract/test_ledger_learning.py"
        "::test_a_buried_task_stays_counted_and_is_never_leased_again",
        "unit/test_judge_worker.py"
        "::test_an_expert_that_stays_silent_counts_as_a_loss_and_costs_no_other",
    ),
    "learner dies mid-batch: rebuilds to the same state": (
        NAMED,
        RANDOM,
        "unit/test_cycle.py::test_two_learners_from_one_ledger_compute_the_same_bytes",
        "unit/test_lifecycle.py::test_a_restarted_learner_still_waits_for_the_evidence_of_probes",
    ),
    "two recalibrations at once: one publishes, the other is superseded": (
        "faults/test_outages.py::test_of_two_recalibrations_at_once_one_publishes",
        "contract/test_ledger_pool.py::test_of_two_concurrent_publishers_one_is_superseded",
        "unit/test_cycle.py::test_a_superseded_state_leaves_nothing",
    ),
    "new state unreadable or implausible: refused; the last good state serves; alarm": (
        "faults/test_outages.py::test_started_on_a_damaged_state_it_serves_the_last_good_one",
        "unit/test_live.py::test_a_state_that_must_not_go_live_is_refused_once",
        "unit/test_cycle.py::test_a_refused_state_keeps_the_old_one_and_alerts_once",
    ),
    "broker away: HTTP goes on; the stream retries; nothing is acknowledged that is not stored": (
        RANDOM,
        "faults/test_outages.py::test_http_goes_on_while_the_broker_is_away",
        "faults/test_broker_forgets.py::test_what_the_ledger_has_survives_and_the_stream_goes_on",
        "integration/test_apache_kafka.py"
        "::test_nothing_acknowledged_is_lost_when_the_broker_is_killed",
        "unit/test_stream.py::test_pauses_grow_to_ten_seconds_and_no_further",
    ),
    "PostgreSQL away: HTTP only, degraded, spooled before the reply; 503 when the spool is full": (
        RANDOM,
        "faults/test_postgres_away.py::test_every_answered_request_is_in_the_ledger_afterwards",
        "faults/test_outages.py::test_killed_between_the_spool_and_the_reply",
        "unit/test_degraded.py::test_a_full_spool_refuses_and_keeps_what_it_has",
        "unit/test_degraded.py"
        "::test_a_decision_that_was_in_the_ledger_already_is_kept_as_a_conflict",
    ),
    "a response before its decision is visible: parked ten minutes before the dead letters": (
        NAMED,
        RANDOM,
        "integration/test_running.py"
        "::test_an_early_response_waits_and_an_unknown_expert_is_refused",
        "unit/test_stream.py::test_a_response_to_nothing_is_given_up_after_ten_minutes",
    ),
    "judge away, slow or lying: labels pause, λ ages visibly": (
        "unit/test_judge_worker.py::test_an_outage_gives_the_task_back_without_counting",
        "unit/test_judge_worker.py::test_a_lease_lost_during_an_outage_stops_nobody",
        "integration/test_judge_faults.py"
        "::test_a_fault_that_lasts_costs_no_task_and_makes_no_label",
        "integration/test_judge_faults.py"
        "::test_two_workers_and_every_fault_at_random_lose_nothing_and_double_nothing",
        "unit/test_cycle.py::test_a_stopped_judge_lets_lambda_age_into_safe_and_says_so_once",
        "unit/test_cycle.py::test_a_position_biased_judge_leaves_no_more_than_the_target_to_others",
    ),
    "unreadable event: dead letter with the reason; the stream goes on": (
        "integration/test_running.py::test_bad_prompts_are_told_why_and_cost_no_other",
        "integration/test_kafka_fuzz.py"
        "::test_any_event_is_stored_or_dead_lettered_and_no_other_is_lost",
        "unit/test_stream.py::test_one_bad_event_costs_no_other",
    ),
}


@cache
def functions(file: str) -> set[str]:
    tree = ast.parse((TESTS / file).read_text())
    return {one.name for one in tree.body if isinstance(one, ast.FunctionDef)}


@pytest.mark.parametrize("row", ROWS)
def test_every_row_has_its_tests(row: str) -> None:
    missing = [
        name
        for name in ROWS[row]
        for file, _, function in [name.partition("::")]
        if function not in functions(file)
    ]
    assert missing == []
