import pytest

from luthier.core.prices import Price, break_even_requests, request_cost

PRICE = Price(training=3.0, input=1.0, cached_input=0.5, output=2.0)


def test_a_million_of_each_costs_the_table():
    assert request_cost(PRICE, prompt_tokens=1e6, completion_tokens=1e6) == pytest.approx(3.0)
    assert request_cost(PRICE, prompt_tokens=1e6, completion_tokens=0, cached_tokens=1e6) == pytest.approx(0.5)


def test_break_even_is_training_over_saving():
    assert break_even_requests(1.0, tuned_cost=0.01, other_cost=0.02) == pytest.approx(100)
    assert break_even_requests(1.0, tuned_cost=0.02, other_cost=0.02) is None
