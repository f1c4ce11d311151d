import pytest

from luthier.core.names import TunedName, clean_suffix, parse_tuned_name


@pytest.mark.parametrize(
    "name",
    ["ft:gpt-4o-mini-2024-07-18:personal::Ajo5kvNY", "ft:a:b:c:d", "ft:a:b:c:d:ckpt-step-88"],
)
def test_names_go_both_ways(name):
    parsed = parse_tuned_name(name)
    assert parsed is not None
    assert str(parsed) == name


def test_a_checkpoint_is_its_model_at_a_step():
    model = TunedName("a", "b", "", "d")
    assert parse_tuned_name(str(model.at_step(7))) == TunedName("a", "b", "", "d", 7)


@pytest.mark.parametrize("name", ["gpt-4o", "ft:a:b:c", "ft:a:b:c:d:ckpt-step-x", "ft:a:b:c:d:e"])
def test_other_names_are_none(name):
    assert parse_tuned_name(name) is None


def test_suffix_is_cleaned():
    assert clean_suffix("My Shop: Tone!") == "my-shop-tone"
