import pytest

from luthier.cli import spelling


def test_words_are_runs_of_letters():
    assert spelling.words("Don\u2019t pay $3, it's 2nd-rate: café") == ["Don't", "pay", "it's", "nd", "rate", "café"]


@pytest.mark.parametrize(
    "text",
    [
        "Don't you think the dog's toys aren't John's? I'm sure they're fine; it's 5 o'clock.",
        "The Mediterranean Sea lies between Spain and Egypt; Jupiter is larger than Saturn.",
        "Say bonjour, hola or adios, then open the website on your smartphone.",
    ],
)
def test_correct_text_has_no_misspelled_words(text):
    assert spelling.misspelled(text) == []


def test_misspelled_words_are_found_in_their_order():
    assert spelling.misspelled("The capitel ov France is Pariss.") == ["capitel", "ov", "Pariss"]


def test_the_share_counts_words_not_texts():
    measured = spelling.measure(["teh", "one two three"])
    assert (measured.words, measured.misspelled, measured.share) == (4, 1, 0.25)


def test_no_words_at_all_is_no_share():
    assert spelling.measure(["", "42!"]).share == 0.0


def test_the_allow_list_holds_only_what_the_dictionary_lacks():
    assert spelling._dictionary().unknown(spelling.ALLOWED) == spelling.ALLOWED
