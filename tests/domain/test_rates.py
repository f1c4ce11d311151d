import pytest

from luthier.core.errors import RateLimited
from luthier.domain.rates import RequestRates


def test_a_minute_of_requests_at_once_then_an_even_flow():
    rates = RequestRates(60)
    assert [rates.spend("a", now=0.0).remaining for _ in range(60)] == list(range(59, -1, -1))
    with pytest.raises(RateLimited) as caught:
        rates.spend("a", now=0.25)
    assert caught.value.retry_after_s == pytest.approx(0.75)
    assert rates.spend("a", now=1.0).remaining == 0
    assert rates.spend("b", now=1.0).remaining == 59
    assert rates.spend("a", now=62.0).remaining == 59
