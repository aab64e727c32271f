"""What is said of a database that cannot be used: nothing of its password, nothing of a row."""

from __future__ import annotations

import traceback

import pytest
from sqlalchemy import text
from sqlalchemy.exc import StatementError

from store.errors import SettingsInvalid, SteersmanError
from store.postgres.connecting import make_engine, raw_connection

pytestmark = pytest.mark.postgres
PASSWORD = "not-a-secret-2"  # noqa: S105


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://u:first@{PASSWORD}@127.0.0.1:9/db",
        f"postgresql://u:{PASSWORD}/more@127.0.0.1:9/db",
        f"postgresql://u:{PASSWORD}#more@127.0.0.1:9/db",
        f"postgresql://u:{PASSWORD}@127.0.0.1:port/db",
        f"postgresql://127.0.0.1:9/db?password={PASSWORD}",
        f"postgresql://127.0.0.1:9/db?passwrd={PASSWORD}",
        f"postgresql:u:{PASSWORD}@127.0.0.1:9/db",
        f"host=127.0.0.1 port=9 password={PASSWORD}",
    ],
)
def test_no_error_quotes_the_password(url: str) -> None:
    for use in (lambda: raw_connection(url), lambda: make_engine(url).connect()):
        with pytest.raises(SteersmanError) as refused:
            use()
        assert PASSWORD not in "".join(traceback.format_exception(refused.value))


def test_an_at_sign_in_the_password_is_explained() -> None:
    with pytest.raises(SettingsInvalid, match="write it as %40"):
        make_engine("postgresql://u:p@ss@127.0.0.1/db")


def test_an_error_that_is_not_the_drivers_quotes_no_row(database_url: str) -> None:
    engine = make_engine(database_url)
    values: list[dict[str, object]] = [{"said": "a prompt", "n": 1}, {"said": "a prompt"}]
    with engine.connect() as connection, pytest.raises(StatementError) as failed:
        connection.execute(text("SELECT :said, :n"), values)
    engine.dispose()
    assert "a prompt" not in str(failed.value)
