"""What a call costs, and that nobody is free."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from online.costs import NOMINAL_OUTPUT_TOKENS, check_price, count_tokens, expected_cost
from store.errors import EventRejected
from store.records import ExpertId, Price
from tests.unit.state_fakes import NAMES, state


def test_cost_by_hand() -> None:
    price = Price(input_usd_per_mtok=2.0, output_usd_per_mtok=8.0, request_usd=0.001)
    assert expected_cost(price, input_tokens=500, mean_output_tokens=250) == pytest.approx(0.004)
    assert expected_cost(price, input_tokens=0) == pytest.approx(
        0.001 + 8e-6 * NOMINAL_OUTPUT_TOKENS
    )


@pytest.mark.parametrize(
    "price",
    [
        Price(),
        Price(request_usd=-0.1),
        Price(input_usd_per_mtok=1.0, output_usd_per_mtok=-0.5),
        Price(request_usd=float("nan")),
        Price(input_usd_per_mtok=float("inf")),
    ],
)
def test_zero_negative_and_missing_prices_are_refused(price: Price) -> None:
    with pytest.raises(EventRejected) as rejected:
        check_price(price)
    assert (rejected.value.code, rejected.value.field) == ("bad_price", "price")


@pytest.mark.parametrize("part", ["input_usd_per_mtok", "output_usd_per_mtok", "request_usd"])
def test_one_positive_part_is_enough(part: str) -> None:
    price = Price(**{part: 0.1})
    assert check_price(price) is price


PART = st.floats(1e-6, 100.0)


@given(PART, PART, st.integers(0, 10_000), st.floats(1.0, 10_000.0))
def test_more_tokens_never_cost_less(one: float, other: float, tokens: int, written: float) -> None:
    price = Price(input_usd_per_mtok=one, output_usd_per_mtok=other)
    cost = expected_cost(price, input_tokens=tokens, mean_output_tokens=written)
    assert cost > 0.0
    assert expected_cost(price, input_tokens=tokens + 1, mean_output_tokens=written) >= cost
    assert expected_cost(price, input_tokens=tokens, mean_output_tokens=written + 1) >= cost


@given(st.text())
def test_every_text_has_at_least_one_token(text: str) -> None:
    assert count_tokens(text) >= 1


def test_relative_costs_are_in_units_of_the_reference() -> None:
    made = state(costs={NAMES[0]: 0.4, NAMES[1]: 0.1, NAMES[2]: 0.8})
    costs = made.relative_costs(100)
    assert costs[:3].tolist() == pytest.approx([1.0, 0.25, 2.0])
    assert made.members[ExpertId("a")].cost(5) == pytest.approx(0.1)


@given(st.integers(1, 100_000), st.floats(0.0, 100.0), st.floats(0.001, 100.0))
def test_costs_of_a_whole_pool_are_those_of_its_members(
    tokens: int, per_input: float, per_output: float
) -> None:
    made = state()
    price = Price(input_usd_per_mtok=per_input, output_usd_per_mtok=per_output, request_usd=0.01)
    made = replace(made, pool=(made.pool[0], *(replace(m, price=price) for m in made.pool[1:])))
    one_by_one = [m.cost(tokens) / made.reference.cost(tokens) for m in made.pool]
    assert made.relative_costs(tokens).tolist() == one_by_one
