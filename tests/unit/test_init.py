"""``steersman init``: every answer is checked at once, nothing is written before it may be."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from ingest import cli
from ingest.commands import Operator
from ingest.env_file import FILE, read_file, write_file
from ingest.first_answers import Answers, Model, read_answers
from ingest.first_checks import check_key_variable
from ingest.first_plan import estimate, summary, warnings
from ingest.first_registration import steps
from ingest.settings import ProcessSettings
from store import environ
from store.clock import ManualClock
from store.errors import SettingsInvalid
from store.memory import MemoryLedger
from store.records import ExpertId, ExpertStatus, Price
from tests.factories import NOON
from tests.fake_endpoints import Endpoints

SECRET = "sk-s3cret-key-value"  # noqa: S105
BIG, SMALL = ExpertId("big"), ExpertId("small")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in [n for n in os.environ if n.startswith("STEERSMAN_")]:
        monkeypatch.delenv(name)
    return tmp_path


@pytest.fixture
def ledger(monkeypatch: pytest.MonkeyPatch) -> MemoryLedger:
    """The ledger that the command opens, in place of PostgreSQL's."""
    made = MemoryLedger(clock=ManualClock(NOON))

    @contextmanager
    def opened(settings: ProcessSettings) -> Iterator[MemoryLedger]:
        yield made

    monkeypatch.setattr("ingest.backbone.open_ledger", opened)
    return made


def answers_text(url: str, *, small_output: float = 0.4, extra: str = "") -> str:
    return f"""
reference = "big"
label_rate = 0.2
{extra}
[[experts]]
name = "big"
base_url = "{url}"
input = 2.5
output = 10
[[experts]]
name = "small"
base_url = "{url}"
model = "small"
input = 0.1
output = {small_output}
[judge]
base_url = "{url}/"
model = "judge"
input = 0.5
"""


def run(*arguments: str, typed: str = "") -> Result:
    return CliRunner().invoke(cli.app, ["init", *arguments], input=typed, env={"COLUMNS": "100"})


def from_file(text: str, *arguments: str) -> Result:
    Path("answers.toml").write_text(text)
    return run("--answers", "answers.toml", *arguments)


def pool(ledger: MemoryLedger) -> dict[ExpertId, tuple[Price, dict[str, str]]]:
    with ledger.begin() as tx:
        return {e.name: (e.price, dict(e.client)) for e in tx.experts.all()}


def policy(ledger: MemoryLedger) -> dict[str, object]:
    with ledger.begin() as tx:
        current = tx.policies.current()
    assert current is not None
    return {"version": current[0], **current[1].to_json()}


def test_a_file_of_answers_makes_settings_experts_and_policy(
    endpoints: Endpoints, ledger: MemoryLedger
) -> None:
    done = from_file(answers_text(endpoints.url))
    assert done.exit_code == 0, done.output
    assert endpoints.calls == {"big": 1, "small": 1, "judge": 1}
    assert stat.S_IMODE(FILE.stat().st_mode) == 0o600
    settings = environ.read(ProcessSettings, read_file())
    assert (settings.judge.base_url, settings.judge.model) == (endpoints.url, "judge")
    assert settings.judge.input_usd_per_mtok == 0.5
    assert (settings.database_url, settings.kafka.bootstrap_servers) == ("", "")
    called = {"kind": "openai", "base_url": endpoints.url}
    assert pool(ledger) == {
        BIG: (Price(input_usd_per_mtok=2.5, output_usd_per_mtok=10.0), called | {"model": "big"}),
        SMALL: (
            Price(input_usd_per_mtok=0.1, output_usd_per_mtok=0.4),
            called | {"model": "small"},
        ),
    }
    found = policy(ledger)
    assert (found["reference"], found["alpha"], found["label_rate"]) == ("big", 0.1, 0.2)
    assert (found["judge"], found["judge_budget_per_day"]) == ("llm", 1_000)
    for said in ("steersman up", "curl -s http://127.0.0.1:8080", "steersman state show"):
        assert said in done.output
    assert "memory" in done.output


def test_the_same_answers_again_change_nothing_and_ask_nothing(
    endpoints: Endpoints, ledger: MemoryLedger
) -> None:
    from_file(answers_text(endpoints.url))
    before, written = policy(ledger), FILE.read_text()
    done = from_file(answers_text(endpoints.url))
    assert done.exit_code == 0, done.output
    assert "steersman.env says this already" in done.output
    assert "the ledger says this already" in done.output
    assert (policy(ledger), FILE.read_text()) == (before, written)


def test_other_answers_show_what_changes_and_replace_the_file_only_when_told(
    endpoints: Endpoints, ledger: MemoryLedger
) -> None:
    from_file(answers_text(endpoints.url))
    FILE.write_text(FILE.read_text() + "\nSTEERSMAN_HTTP_PORT=9999\n")
    written = FILE.read_text()
    other = answers_text(endpoints.url, small_output=0.5).replace("input = 0.5", "input = 0.7")
    refused = from_file(other)
    assert isinstance(refused.exception, SettingsInvalid)
    assert "--yes" in str(refused.exception)
    assert "STEERSMAN_JUDGE_INPUT_USD_PER_MTOK: 0.5 → 0.7" in refused.output
    assert FILE.read_text() == written
    assert pool(ledger)[SMALL][0].output_usd_per_mtok == 0.4
    done = from_file(other, "--yes")
    assert done.exit_code == 0, done.output
    assert "small: price 0.1/0.4/0 → 0.1/0.5/0" in done.output
    assert read_file()["STEERSMAN_JUDGE_INPUT_USD_PER_MTOK"] == "0.7"
    assert read_file()["STEERSMAN_HTTP_PORT"] == "9999", "what init does not ask for stays"
    assert pool(ledger)[SMALL][0].output_usd_per_mtok == 0.5
    assert policy(ledger)["version"] == 1


def test_an_endpoint_that_fails_stops_a_script_unless_told_to_go_on(
    endpoints: Endpoints, ledger: MemoryLedger
) -> None:
    endpoints.status = 401
    refused = from_file(answers_text(endpoints.url))
    assert isinstance(refused.exception, SettingsInvalid)
    assert "big does not work yet: AuthenticationError, status 401" in refused.output
    assert not FILE.exists()
    assert pool(ledger) == {}
    assert from_file(answers_text(endpoints.url), "--yes").exit_code == 0
    assert set(pool(ledger)) == {BIG, SMALL}


@pytest.mark.parametrize(
    ("says", "problem"),
    [
        ("I like A.", "the reply is not one JSON object"),
        ('{"winner": "tie"}', "it does not prefer 5 to 6"),
    ],
)
@pytest.mark.usefixtures("ledger")
def test_a_judge_that_cannot_judge_is_found_before_it_is_used(
    endpoints: Endpoints, says: str, problem: str
) -> None:
    endpoints.says = says
    refused = from_file(answers_text(endpoints.url))
    assert f"the judge does not work yet: {problem}" in refused.output
    assert not FILE.exists()


@pytest.mark.usefixtures("ledger")
def test_a_key_is_used_and_never_written(
    endpoints: Endpoints, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoints.key = SECRET
    monkeypatch.setenv("A_KEY", SECRET)
    text = answers_text(endpoints.url).replace("input =", 'api_key_env = "A_KEY"\ninput =')
    done = from_file(text)
    assert done.exit_code == 0, done.output
    assert SECRET not in FILE.read_text() + done.output
    assert read_file()["STEERSMAN_JUDGE_API_KEY_ENV"] == "A_KEY"


@pytest.mark.parametrize("key", [SECRET, "abcdEF0123456789", "STEERSMAN_KEY", "A B", "$A"])
def test_what_may_be_a_key_is_refused_and_not_repeated(key: str) -> None:
    with pytest.raises(ValueError, match="must") as refused:
        check_key_variable(key)
    assert key not in str(refused.value)


WRONG = {
    "alpha = 0": "alpha: alpha must be in (0, 1)",
    "alpha = 0.005": "must exceed ramp_quota",
    "label_rate = 0": "label_rate must be above 0",
    "judge_budget_per_day = -1": "judge_budget_per_day must be in",
    "requests_per_day = 1.5": "requests_per_day: must be a whole number",
    "database_url = 'mysql://h/d'": "database_url: must read postgresql://",
    "kafka_bootstrap_servers = 'kafka'": "must read HOST:PORT",
    "labelrate = 1": "labelrate is unknown; did you mean label_rate?",
    "reference = 'none'": "reference must name one of the experts",
    "name = ''": "experts[0].name",
    "base_url = 'big.example/v1'": "must begin with http",
    "base_url = 'https://key@h/v1'": "must hold no user or password",
    "base_url = 'https://h/v1/chat/completions'": "must end before /chat/completions",
    "input = -1": "input: must be finite and not negative",
    "input = 'cheap'": "input: must be a number",
    "output = nan": "output: must be finite",
    "api_key_env = 'sk-1'": "must name a variable",
    "colour = 'red'": "experts[0].colour is unknown",
}
"""A wrong line, put in place of the right one, and what is said of it."""


@pytest.mark.parametrize("line", WRONG)
def test_a_wrong_answer_in_a_file_is_named(line: str) -> None:
    key = line.partition(" ")[0]
    lines = answers_text("http://127.0.0.1:9/v1").splitlines()
    place = next((i for i, one in enumerate(lines) if one.startswith(f"{key} =")), None)
    if place is not None:
        lines[place] = line
    else:
        lines.insert(lines.index('name = "big"') if key in {"api_key_env", "colour"} else 1, line)
    Path("answers.toml").write_text("\n".join(lines))
    with pytest.raises(SettingsInvalid) as refused:
        read_answers(Path("answers.toml"))
    assert WRONG[line] in str(refused.value)


def test_every_problem_of_a_file_is_told_at_once() -> None:
    Path("answers.toml").write_text("alpha = 2\nlabel_rate = 2\n[[experts]]\nname = 'a'\n")
    with pytest.raises(SettingsInvalid) as refused:
        read_answers(Path("answers.toml"))
    for part in ("alpha", "label_rate", "experts[0].base_url", "judge.base_url", "judge.model"):
        assert part in str(refused.value)


@pytest.mark.parametrize(
    "text", ["alpha = ", "experts = 1", "judge = 1", "experts = [1]", "\x00", ""]
)
def test_a_file_that_is_no_answers_is_refused(text: str) -> None:
    Path("answers.toml").write_text(text)
    with pytest.raises(SettingsInvalid, match=r"answers\.toml"):
        read_answers(Path("answers.toml"))


def typed(url: str) -> str:
    """Everything a person types, wrong answers and all."""
    return (
        "\n".join(
            [
                *("", "not-a-url", url, "", SECRET, "none", "-1", "2.5", "10", ""),  # big
                "y",
                *("big", "small", "", "", "", "0", "0", "0", "0.1", "0.4", "0"),  # small
                "n",
                *("nobody", ""),  # the reference
                *("", "judge", "", "0.5", "2", ""),  # the judge
                *("7", "0.2", "", "0.5", ""),  # alpha, traffic, label rate, budget
                *("", "here", ""),  # database, brokers
                *("y", "y", "y"),  # call each, write, register
            ]
        )
        + "\n"
    )


def test_questions_in_a_terminal_are_asked_again_until_answered(
    endpoints: Endpoints, ledger: MemoryLedger
) -> None:
    done = run(typed=typed(endpoints.url))
    assert done.exit_code == 0, done.output
    for problem in (
        "must begin with http",
        "must name a variable",
        "must be finite and not negative",
        "big is taken",
        "a price needs a positive part",
        "must be one of big, small",
        "alpha must be in (0, 1)",
        "must read HOST:PORT",
    ):
        assert re.search(rf"Error: .*{re.escape(problem)}", done.output), problem
    assert set(pool(ledger)) == {BIG, SMALL}
    assert pool(ledger)[SMALL][1]["base_url"] == endpoints.url, "the first one's is the default"
    assert policy(ledger)["alpha"] == 0.2
    assert read_file()["STEERSMAN_JUDGE_OUTPUT_USD_PER_MTOK"] == "2"
    assert SECRET not in FILE.read_text()


def test_a_kept_database_password_is_not_shown_as_a_default(
    endpoints: Endpoints, ledger: MemoryLedger
) -> None:
    url = "postgresql://steersman:hunter2@127.0.0.1:9/steersman"
    write_file(f"STEERSMAN_DATABASE_URL={url}\n")
    done = run(typed=typed(endpoints.url))
    assert done.exit_code == 0, done.output
    assert "PostgreSQL URL [(kept)]: " in done.output
    assert "hunter2" not in done.output
    assert read_file()["STEERSMAN_DATABASE_URL"] == url


def test_every_question_has_a_line_of_help(endpoints: Endpoints, ledger: MemoryLedger) -> None:
    from ingest.first_answers import EXPERT, JUDGE, POLICY, SERVICES  # noqa: PLC0415

    done = run(typed=typed(endpoints.url))
    for question in (*EXPERT, *JUDGE, *POLICY, *SERVICES):
        assert len(question.help) > 5
        assert question.help in done.output


def test_a_person_who_says_no_leaves_everything_as_it_was(
    endpoints: Endpoints, ledger: MemoryLedger
) -> None:
    keys = typed(endpoints.url).removesuffix("y\ny\ny\n") + "n\nn\n"
    done = run(typed=keys)
    assert done.exit_code == 1
    assert "Aborted" in done.output
    assert not FILE.exists()
    assert pool(ledger) == {}
    assert not endpoints.calls


def answers(**changes: object) -> Answers:
    url = "http://127.0.0.1:9/v1"
    common = {"base_url": url, "api_key_env": "", "request": 0.0}
    big = Model(name="big", model="b", input=2.5, output=10.0, **common)  # type: ignore[arg-type]
    small = Model(name="small", model="s", input=0.1, output=0.4, **common)  # type: ignore[arg-type]
    judge = Model(model="j", input=1.0, output=2.0, **common)  # type: ignore[arg-type]
    made = Answers(
        experts=(big, small),
        reference="big",
        judge=judge,
        alpha=0.1,
        label_rate=0.05,
        judge_budget_per_day=1_000,
        requests_per_day=10_000,
        database_url="",
        kafka_bootstrap_servers="",
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def test_the_estimate_by_hand() -> None:
    found = estimate(answers())
    assert found.shadow_usd == pytest.approx((200 * 0.1 + 256 * 0.4) / 1e6)
    # Two orders: template, prompt and two answers in (about 1,100 tokens), ten tokens out.
    assert found.verdicts_usd == pytest.approx(2 * (1_100 * 1.0 + 10 * 2.0) / 1e6, rel=0.15)
    assert found.judged_per_day == 500
    assert found.day_usd == pytest.approx(500 * found.request_usd)
    assert found.days_until_learnt == pytest.approx(1.0)


def test_the_budget_bounds_what_is_judged() -> None:
    assert estimate(answers(label_rate=1.0)).judged_per_day == 1_000
    assert estimate(answers(judge_budget_per_day=0)).days_until_learnt == float("inf")
    assert summary(answers(judge_budget_per_day=0))


def test_warnings_say_what_would_go_wrong() -> None:
    assert len(warnings(answers())) == 1
    assert not warnings(answers(kafka_bootstrap_servers="h:1"))
    alone = answers(experts=answers().experts[:1])
    assert "nothing to route to" in warnings(alone)[0]
    partial = answers(judge=replace(answers().judge, model="s"))
    assert "will not judge their answers" in warnings(partial)[0]


def registered(ledger: MemoryLedger, given: Answers) -> list[str]:
    found = steps(ledger, Operator(ledger, ManualClock(NOON)), given)
    for step in found:
        if step.act is not None:
            step.act()
    return [step.text for step in found]


def test_what_is_in_the_ledger_and_not_in_the_answers_stays() -> None:
    ledger = MemoryLedger(clock=ManualClock(NOON))
    registered(ledger, answers())
    said = registered(ledger, answers(experts=answers().experts[:1]))
    assert said == ["small stays, though it was not named: steersman experts retire small"]
    assert set(pool(ledger)) == {BIG, SMALL}


def test_another_model_under_an_old_name_is_pointed_out() -> None:
    ledger = MemoryLedger(clock=ManualClock(NOON))
    registered(ledger, answers())
    big, small = answers().experts
    said = registered(ledger, answers(experts=(big, replace(small, model="s2"))))
    assert said[0] == "small: model s → s2"
    assert "its labels speak of that one" in said[1]
    assert pool(ledger)[SMALL][1]["model"] == "s2"


def test_a_retired_expert_stays_retired() -> None:
    ledger = MemoryLedger(clock=ManualClock(NOON))
    registered(ledger, answers())
    Operator(ledger, ManualClock(NOON)).set_status("small", ExpertStatus.RETIRED)
    assert registered(ledger, answers()) == ["small is retired and stays so: take another name"]


@given(st.floats(0.02, 0.99), st.floats(0.001, 1.0), st.integers(0, 10**6))
def test_registering_twice_is_registering_once(alpha: float, rate: float, budget: int) -> None:
    ledger = MemoryLedger(clock=ManualClock(NOON))
    given_answers = answers(alpha=alpha, label_rate=rate, judge_budget_per_day=budget)
    registered(ledger, answers())
    registered(ledger, given_answers)
    assert registered(ledger, given_answers) == []
