"""GPT-2's byte-pair encoding, cut off at V tokens (F.1.2); the paper's V is 5,000.

Ids: 256 bytes in GPT-2's order, then merge i as 256 + i, then end of text as V - 1, which is bos
and eos. So every id below V - 1 is GPT-2's own, and V = 50,257 is GPT-2.
"""

import functools

import numpy as np
import tokenizers
from tokenizers import decoders, models, pre_tokenizers

from companion.corpus.contexts import check_ids
from companion.places import project_root
from devlib.errors import UserError
from devlib.files import sha256

MERGES = project_root() / "data" / "tokenizer" / "vocab.bpe"
MERGES_SHA256 = "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5"
BYTES = 256
GPT2 = 50_257  # GPT-2's own vocabulary
SPACE = 220  # a space that no merge has joined to the word after it
END_OF_TEXT = "<|endoftext|>"


class Tokenizer:
    """Text to ids and back, for a vocabulary of V tokens. Get one from `load_tokenizer`."""

    def __init__(self, vocabulary, merges):
        tokens = [*byte_alphabet(), *("".join(pair) for pair in merges), END_OF_TEXT]
        self.vocabulary = vocabulary
        self.end_of_text = vocabulary - 1
        # END_OF_TEXT is no special token here, so that text which spells it out is only text
        self._model = tokenizers.Tokenizer(models.BPE(
            vocab={token: id for id, token in enumerate(tokens)}, merges=merges))
        self._model.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        self._model.decoder = decoders.ByteLevel()

    def encode(self, text) -> list[int]:
        """The ids of a text, without end of text."""
        return self._model.encode(text).ids

    def encode_batch(self, texts) -> list[np.ndarray]:
        """The ids of each text, uint16, on all cores unless $TOKENIZERS_PARALLELISM is false."""
        return [np.array(encoding.ids, np.uint16)
                for encoding in self._model.encode_batch_fast(list(texts))]

    def decode(self, ids) -> str:
        """The text of a sequence of ids; bytes that make no character come out as U+FFFD. Raises
        UserError for an id outside the vocabulary."""
        return self.decode_batch([ids])[0]

    def decode_batch(self, rows) -> list[str]:
        """The text of each row of ids."""
        rows = [np.asarray(row, np.int64) for row in rows]
        for row in rows:
            check_ids(row, self.vocabulary)
        return self._model.decode_batch([row.tolist() for row in rows], skip_special_tokens=False)

    def ngrams(self, n, count) -> np.ndarray:
        """The `count` most common sequences of n tokens, (count, n), by the paper's heuristic
        (C.1.2): GPT-2's tokens in the order of their ids, which is that of their frequency, as
        this vocabulary spells them, if that takes n tokens and none is a lone space (code).

        A sequence counts once: tokens that are parts of a character all decode to U+FFFD, which
        small vocabularies spell in three. Raises UserError if there are fewer.
        """
        found = [row for row in self._gpt2_tokens if len(row) == n and SPACE not in row]
        if len(found) < count:
            raise UserError(f"GPT-2's vocabulary holds {len(found)} sequences of {n} tokens of "
                            f"the vocabulary of {self.vocabulary}, not {count}; ask for fewer")
        return np.array(found[:count], np.int64).reshape(count, n)

    @functools.cached_property
    def _gpt2_tokens(self) -> list[tuple]:
        """Every token of GPT-2 in this vocabulary's ids, in order, each spelling once."""
        texts = load_tokenizer(GPT2).decode_batch([[id] for id in range(GPT2 - 1)])
        return list(dict.fromkeys(tuple(row.tolist()) for row in self.encode_batch(texts)))


@functools.cache
def load_tokenizer(vocabulary) -> Tokenizer:
    """The tokenizer with that many ids, 257 to 50,257. Raises UserError for another number, or if
    the file of merges is missing or changed."""
    if not BYTES < vocabulary <= GPT2:
        raise UserError(f"vocabulary must be from {BYTES + 1} to {GPT2} tokens, not {vocabulary}")
    return Tokenizer(vocabulary, read_merges()[:vocabulary - BYTES - 1])


def read_merges() -> list[tuple[str, str]]:
    """GPT-2's 50,000 merges in order."""
    try:
        data = MERGES.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {MERGES} ({error.strerror}); language models need a "
                        "checkout of the project, with its data/") from error
    if sha256(data) != MERGES_SHA256:
        raise UserError(f"{MERGES} is not GPT-2's (its sha256 is another); restore it with git")
    return [tuple(line.split(" ")) for line in data.decode().split("\n")[1:-1]]


def byte_alphabet() -> list[str]:
    """The characters that stand for the 256 bytes, in the order of their ids: printable bytes
    stand for themselves, the others follow from code point 256 on."""
    return sorted(pre_tokenizers.ByteLevel.alphabet())
