"""`auto`, by OpenAI's rule where it serves and by ours for small models."""

import pytest

from luthier.core.hyper import resolve

SMALL, LARGE = 135_000_000, 8_000_000_000


@pytest.mark.parametrize(
    ("examples", "epochs"), [(10, 10), (1, 25), (33, 3), (34, 3), (8333, 3), (10_000, 2), (30_000, 1)]
)
def test_epochs_of_large_models_are_openais(examples, epochs):
    assert resolve(examples=examples, parameters=LARGE).n_epochs == epochs


@pytest.mark.parametrize(("examples", "epochs", "batch"), [(10, 10, 2), (50, 5, 10), (200, 4, 16), (2000, 3, 16)])
def test_small_models_see_more_of_little_data(examples, epochs, batch):
    found = resolve(examples=examples, parameters=SMALL)
    assert (found.n_epochs, found.batch_size) == (epochs, batch)


def test_what_is_given_stays():
    found = resolve(examples=50, parameters=SMALL, n_epochs=2, batch_size=7, learning_rate_multiplier=0.5)
    assert (found.n_epochs, found.batch_size, found.learning_rate_multiplier) == (2, 7, 0.5)
    alike = resolve(examples=50, parameters=SMALL, n_epochs=2, batch_size=7)
    assert found.learning_rate == 0.5 * alike.learning_rate


@pytest.mark.parametrize(("batch_size", "rate"), [(1, 1e-3), (5, 1e-3), (10, 1.41e-3), (25, 2e-3), (50, 2e-3)])
def test_few_steps_are_larger(batch_size, rate):
    found = resolve(examples=50, parameters=SMALL, n_epochs=5, batch_size=batch_size)
    assert found.learning_rate == pytest.approx(rate, rel=0.01)


def test_a_batch_is_no_larger_than_the_data():
    assert resolve(examples=10, parameters=SMALL, batch_size=256).batch_size == 10


def test_beta_is_for_preferences():
    assert resolve(examples=50, parameters=SMALL).beta is None
    preferences = resolve(examples=50, parameters=SMALL, dpo=True)
    assert preferences.beta == 0.1
    assert preferences.learning_rate < resolve(examples=50, parameters=SMALL).learning_rate
