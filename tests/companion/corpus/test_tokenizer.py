"""The tokenizer: GPT-2's facts, a plain twin of byte-pair encoding, and the n-gram sets."""

import re
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from companion.corpus import tokenizer
from companion.corpus.tokenizer import GPT2, SPACE, byte_alphabet, load_tokenizer, read_merges
from devlib.errors import UserError

TEXT = """The quick brown fox couldn't jump 1,024 times; they're "lazy"!  It's naïve — café.
\tTabs, and\u00a0no-break spaces.   \n\n<|endoftext|> Ünïcödé 日本語 🙂 ==== https://example.org/a?b=c
Whereupon marijuana, liament and rastructure."""


def plain_encode(text, vocabulary):
    """Byte-pair encoding as it is defined: in each word, join the pair that was learnt first, at
    all its places, until no learnt pair is left."""
    merges = read_merges()[:vocabulary - 257]
    rank = {pair: i for i, pair in enumerate(merges)}
    alphabet = byte_alphabet()
    ids = {token: i for i, token in enumerate([*alphabet, *map("".join, merges)])}
    # GPT-2's bytes in the order of their ids: printable ones, then the others
    order = [*range(33, 127), *range(161, 173), *range(174, 256)]
    order += [byte for byte in range(256) if byte not in order]
    spelling = {byte: alphabet[i] for i, byte in enumerate(order)}
    out = []
    for word in split(text):
        parts = [spelling[byte] for byte in word.encode()]
        while pairs := [p for p in pairwise(parts) if p in rank]:
            first = min(pairs, key=rank.get)
            i, joined = 0, []
            while i < len(parts):
                step = 2 if tuple(parts[i:i + 2]) == first else 1
                joined.append("".join(parts[i:i + step]))
                i += step
            parts = joined
        out += [ids[part] for part in parts]
    return out


def split(text):
    """GPT-2's words, with letters and digits as Python's re knows them."""
    return re.findall(r"'s|'t|'re|'ve|'m|'ll|'d| ?[^\W\d_]+| ?\d+| ?(?:[^\s\w]|_)+|\s+(?!\S)|\s+",
                      text)


# ------------------------------------------------------------------------------- GPT-2's facts


def test_gpt2():
    gpt2 = load_tokenizer(GPT2)
    assert gpt2.encode("Hello world") == [15496, 995]
    assert gpt2.encode(" the") == [262] and gpt2.encode(" ") == [SPACE]
    assert gpt2.end_of_text == 50_256 and gpt2.decode([50_256]) == "<|endoftext|>"


@pytest.mark.parametrize("vocabulary", [257, 1024, 5000, GPT2])
def test_ids(vocabulary):
    """256 bytes, merge i is 256 + i, and the last is end of text; the others are GPT-2's own."""
    own = load_tokenizer(vocabulary)
    assert own.decode([vocabulary - 1]) == "<|endoftext|>"
    assert own.end_of_text == vocabulary - 1
    ids = [[id] for id in range(vocabulary - 1)]
    assert own.decode_batch(ids) == load_tokenizer(GPT2).decode_batch(ids)
    alphabet, merges = byte_alphabet(), read_merges()
    assert len(alphabet) == 256 and len(merges) == 50_000
    for i in (0, 1, 700, 4_742, 49_999):
        if 256 + i < vocabulary - 1:
            text = "".join(merges[i]).replace("Ġ", " ")
            assert own.decode([256 + i]) == text and own.encode(text) == [256 + i]


def test_end_of_text_spelled_out_is_text():
    own = load_tokenizer(5000)
    ids = own.encode("a<|endoftext|>b")
    assert own.end_of_text not in ids and own.decode(ids) == "a<|endoftext|>b"


# ------------------------------------------------------------------------------- the encoding


@pytest.mark.parametrize("vocabulary", [257, 300, 1024, 5000, GPT2])
def test_against_plain_byte_pair_encoding(vocabulary):
    assert load_tokenizer(vocabulary).encode(TEXT) == plain_encode(TEXT, vocabulary)


def test_truncation_splits_gpt2_s_tokens():
    """Encoding with fewer merges is to split each of GPT-2's tokens further."""
    own, gpt2 = load_tokenizer(5000), load_tokenizer(GPT2)
    text = TEXT.encode("ascii", "ignore").decode()
    parts = own.encode_batch(gpt2.decode([id]) for id in gpt2.encode(text))
    assert own.encode(text) == np.concatenate(parts).tolist()


@settings(max_examples=30, deadline=None)
@given(st.text())
def test_round_trip(text):
    for vocabulary in (257, 5000):
        own = load_tokenizer(vocabulary)
        assert own.decode(own.encode(text)) == text


def test_batches():
    own = load_tokenizer(1024)
    texts = [*TEXT.split("\n"), ""]
    encoded = own.encode_batch(texts)
    assert [row.tolist() for row in encoded] == [own.encode(text) for text in texts]
    assert {row.dtype for row in encoded} == {np.dtype(np.uint16)}
    assert own.decode_batch(encoded) == texts
    assert own.decode(torch.tensor(own.encode(TEXT))) == TEXT
    assert own.decode([]) == ""


# ------------------------------------------------------------------------------- n-grams


def test_ngrams_of_the_paper_s_vocabulary():
    """The authors' walk, repeats and all, finds the numbers known for it, and its first 1,000
    repeat nothing."""
    own = load_tokenizer(5000)
    texts = load_tokenizer(GPT2).decode_batch([[id] for id in range(50_256)])
    walk = [row.tolist() for row in own.encode_batch(texts)]
    for n, available in ((2, 27_414), (3, 13_416), (4, 3_456)):
        right = [row for row in walk if len(row) == n and SPACE not in row]
        assert len(right) == available
        assert own.ngrams(n, 1000).tolist() == right[:1000]


def test_ngrams_repeat_nothing():
    ngrams = load_tokenizer(1024).ngrams(3, 1000)
    assert ngrams.shape == (1000, 3) and len(np.unique(ngrams, axis=0)) == 1000
    assert ngrams.max() < 1023 and SPACE not in ngrams


def test_too_many_ngrams():
    with pytest.raises(UserError, match=r"holds \d+ sequences of 4 tokens .*, not 9999; ask for"):
        load_tokenizer(5000).ngrams(4, 9999)


# ------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize("vocabulary", [0, 256, 50_258])
def test_vocabularies_that_cannot_be(vocabulary):
    with pytest.raises(UserError, match=f"from 257 to 50257 tokens, not {vocabulary}"):
        load_tokenizer(vocabulary)


@pytest.mark.parametrize("ids", [[5000], [3, -1]])
def test_ids_outside_the_vocabulary(ids):
    with pytest.raises(UserError, match="token ids must be from 0 to 4999"):
        load_tokenizer(5000).decode(ids)


def test_merges_that_are_missing_or_changed(tmp_path, monkeypatch):
    merges = tmp_path / "vocab.bpe"
    monkeypatch.setattr(tokenizer, "MERGES", merges)
    with pytest.raises(UserError, match=f"cannot read {merges}"):
        read_merges()
    merges.write_text("#version: 0.2\nt h\n")
    with pytest.raises(UserError, match=f"{merges} is not GPT-2's"):
        read_merges()
