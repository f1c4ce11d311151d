from luthier.core.names import TunedName, clean_suffix


def test_names_are_printed_as_openai_prints_them():
    model = TunedName("gpt-4o-mini-2024-07-18", "personal", "", "Ajo5kvNY")
    assert str(model) == "ft:gpt-4o-mini-2024-07-18:personal::Ajo5kvNY"
    assert str(model.at_step(88)) == "ft:gpt-4o-mini-2024-07-18:personal::Ajo5kvNY:ckpt-step-88"


def test_suffix_is_cleaned():
    assert clean_suffix("My Shop: Tone!") == "my-shop-tone"
