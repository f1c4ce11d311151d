"""The bytes of tokens, of both kinds of tokenizers."""

import pytest
from tokenizers import Tokenizer

from luthier.core.errors import InvalidRequest
from luthier.engines.vocabulary import Vocabulary, texts_of
from tests.families import make_hf

TEXT = "the naïve  fox\n日本 😀\t"


@pytest.mark.parametrize(("family", "first", "mark"), [("smollm", "", "<|im_end|>"), ("mistral", "<s>", "</s>")])
def test_tokens_are_the_bytes_of_their_text(tmp_path, family, first, mark):
    file = make_hf(tmp_path / "hf", family) / "tokenizer.json"
    vocabulary = Vocabulary(file)
    ids = Tokenizer.from_file(str(file)).encode(TEXT + mark).ids
    assert b"".join(vocabulary.bytes_of(ids)).decode() == first + TEXT + mark
    assert [vocabulary.is_special(token) for token in ids[-2:]] == [False, True]
    with pytest.raises(InvalidRequest, match="tokens that this model does not know"):
        vocabulary.bytes_of([9999])


def test_a_character_of_several_tokens_is_the_last_ones():
    assert texts_of([b"a \xe6", b"\x97", b"\xa5b", b"", b"\xe6"]) == ["a ", "", "日b", "", "�"]
