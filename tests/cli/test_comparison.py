from dataclasses import replace

import pytest

from luthier.cli.comparison import conclude, measure
from luthier.cli.contenders import Reply
from luthier.core.prices import Price, price_of

PRICE = Price(training=3.0, input=1.0, cached_input=0.5, output=2.0)


def contender(role, share, cost):
    reply = Reply("teh", 10.0, 100, 10)
    measured = measure(role, role, 0, [reply], PRICE)
    return replace(measured, misspelled_share=share, cost_per_1k_requests=cost)


def test_a_contenders_numbers():
    replies = [Reply("teh cat", 100.0, 1000, 10, cached_tokens=400), Reply("Hello, my name is teh", 300.0, 500, 30)]
    measured = measure("few-shot", "base", 7, replies, PRICE)
    assert (measured.words, measured.misspelled, measured.examples) == (7, 2, 7)
    assert measured.misspelled_share == pytest.approx(2 / 7)
    assert (measured.mean_reply_words, measured.mean_latency_ms) == (3.5, 200.0)
    assert (measured.prompt_tokens, measured.completion_tokens) == (750, 20)
    first, second = 600 * 1.0 + 400 * 0.5 + 10 * 2.0, 500 * 1.0 + 30 * 2.0
    assert measured.cost_per_1k_requests == pytest.approx((first + second) / 2 / 1e6 * 1000)


def test_a_models_own_price_comes_first():
    prices = {"base": PRICE, "tuned": replace(PRICE, input=2.0), "ft:mine": replace(PRICE, input=3.0)}
    assert [price_of(name, prices).input for name in ("other", "ft:other", "ft:mine")] == [1.0, 2.0, 3.0]


def test_better_and_cheaper_is_worth_it():
    found = conclude(
        [contender("stock", 0.04, 0.05), contender("few-shot", 0.4, 0.30), contender("tuned", 0.95, 0.02)], 0.07
    )
    assert found.against == "few-shot"
    assert found.break_even_requests == pytest.approx(0.07 / (0.28 / 1000))
    assert found.verdict == (
        "Worth it: tuned misspells 95% of its words, stock with the examples in its prompt 40%; it is cheaper too "
        "($0.020 against $0.300 per 1,000 requests), so training ($0.07) pays for itself after 250 requests."
    )


def test_better_and_dearer_pays_for_quality():
    found = conclude([contender("stock", 0.04, 0.01), contender("tuned", 0.95, 0.02)], 0.07)
    assert found.break_even_requests is None
    assert found.verdict.startswith("Worth it: ")
    assert "you pay for quality" in found.verdict


def test_equal_and_cheaper_is_worth_it_from_a_number_of_requests_on():
    found = conclude([contender("few-shot", 0.93, 0.30), contender("tuned", 0.95, 0.02)], 0.28)
    assert found.verdict.startswith("Worth it from 1,000 requests on: ")


def test_equal_and_dearer_is_not_worth_it():
    found = conclude([contender("stock", 0.93, 0.01), contender("tuned", 0.95, 0.02)], 0.28)
    assert found.verdict.startswith("Not worth it: ")
    assert "keep the prompt" in found.verdict


def test_of_equal_rivals_the_cheaper_one_counts():
    found = conclude(
        [contender("stock", 0.91, 0.01), contender("few-shot", 0.93, 0.3), contender("tuned", 0.95, 0.02)], 0.28
    )
    assert (found.against, found.break_even_requests) == ("stock", None)


def test_worse_is_not_worth_it():
    found = conclude([contender("few-shot", 0.9, 0.3), contender("tuned", 0.7, 0.02)], 0.28)
    assert "the prompt alone does better" in found.verdict


def test_what_was_not_learnt_is_not_worth_it():
    found = conclude([contender("stock", 0.04, 0.3), contender("tuned", 0.2, 0.02)], 0.28)
    assert found.verdict.startswith("Not worth it yet: ")
