"""Data as people have them: each form gives the chains the same samples, or one line."""

import datasets
import numpy as np
import pytest
import torch
from torch.utils.data import (
    DataLoader,
    Dataset,
    IterableDataset,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
)

from devlib.errors import UserError
from devlib.own import data as own_data
from devlib.own.data import samples_of

X = np.arange(24, dtype=np.float32).reshape(12, 2) / 7
Y = np.arange(12) % 5
PLACES = [7, 0, 7, 3]


class Pairs(Dataset):
    """Samples made when they are asked for, of which `read` counts."""

    def __init__(self, change=lambda x: torch.from_numpy(x)):
        self.read, self.change = 0, change

    def __len__(self):
        return len(X)

    def __getitem__(self, place):
        self.read += 1
        return self.change(X[place]), int(Y[place])


class Endless(IterableDataset):
    def __iter__(self):
        return iter(())


def taken(data, dtype=torch.float32):
    samples = samples_of(data, dtype, torch.device("cpu"))
    return samples, samples.batch(tuple(part[torch.tensor(PLACES)] for part in samples.parts))


def hugging_face(rows=12):
    return datasets.Dataset.from_dict({"x": X[:rows].tolist(), "y": Y[:rows].tolist()})


def assert_pair(batch):
    x, y = batch
    assert torch.equal(x, torch.from_numpy(X[PLACES])) and x.dtype == torch.float32
    assert torch.equal(y, torch.from_numpy(Y[PLACES])) and y.dtype == torch.int64


TUPLES = {
    "tensors": lambda: (torch.from_numpy(X), torch.from_numpy(Y)),
    "a list": lambda: [torch.from_numpy(X), torch.from_numpy(Y)],
    "numpy": lambda: (X, Y), "short integers": lambda: (X, Y.astype(np.uint16)),
    "TensorDataset": lambda: TensorDataset(torch.from_numpy(X), torch.from_numpy(Y)),
    "Dataset": Pairs, "Subset": lambda: Subset(Pairs(), range(12)),
    "DataLoader": lambda: DataLoader(Pairs(), batch_size=5, shuffle=True, drop_last=True)}


@pytest.mark.parametrize("form", TUPLES)
def test_forms_that_are_pairs(form):
    samples, batch = taken(TUPLES[form]())
    assert isinstance(batch, tuple) and len(samples) == 12 and not samples.by_index
    assert_pair(batch)


@pytest.mark.parametrize("form", [lambda: {"x": X, "y": torch.from_numpy(Y)}, hugging_face])
def test_forms_that_are_dictionaries(form):
    _, batch = taken(form())
    assert list(batch) == ["x", "y"]
    assert_pair(batch.values())


def test_one_tensor_stays_one():
    assert torch.equal(taken(torch.from_numpy(Y))[1], torch.from_numpy(Y[PLACES]))


def test_numbers_take_the_parameters_dtype_and_truths_stay():
    _, batch = taken({"x": X, "y": Y.astype(np.int8), "kept": Y > 2}, torch.float64)
    assert [part.dtype for part in batch.values()] == [torch.float64, torch.int64, torch.bool]


def test_a_memory_mapped_array_is_not_copied(tmp_path):
    tokens = np.memmap(tmp_path / "tokens.bin", np.uint16, "w+", shape=(12, 3))
    tokens[:] = np.arange(36).reshape(12, 3)
    tokens.flush()
    again = np.memmap(tmp_path / "tokens.bin", np.uint16, "r", shape=(12, 3))
    samples, batch = taken(again)
    assert samples.parts[0].data_ptr() == again.ctypes.data
    assert torch.equal(batch, torch.from_numpy(np.array(again[PLACES]).astype(np.int64)))


@pytest.mark.parametrize("make", [Pairs, lambda: DataLoader(Pairs(), collate_fn=None),
                                  hugging_face])
def test_a_large_dataset_stays_where_it_is(make, monkeypatch):
    monkeypatch.setattr(own_data, "STACK_BELOW", 40)
    samples, batch = taken(make())
    assert samples.by_index and torch.equal(samples.parts[0], torch.arange(12))
    assert_pair(batch.values() if isinstance(batch, dict) else batch)


def test_only_drawn_samples_of_a_large_dataset_are_read(monkeypatch):
    monkeypatch.setattr(own_data, "STACK_BELOW", 40)
    data = Pairs()
    taken(data)
    assert data.read == 2 + len(PLACES)  # the first one twice, then the batch


def test_a_collate_function_of_ones_own_makes_the_batch():
    """Padding to the longest of the batch, which is another for each."""
    texts = [list(range(1, 2 + place % 4)) for place in range(12)]

    def pad(rows):
        longest = max(map(len, rows))
        return {"input_ids": torch.tensor([row + [0] * (longest - len(row)) for row in rows]),
                "attention_mask": torch.tensor([[1] * len(row) + [0] * (longest - len(row))
                                                for row in rows])}

    _, batch = taken(DataLoader(texts, collate_fn=pad))
    assert torch.equal(batch["input_ids"], pad([texts[place] for place in PLACES])["input_ids"])


REFUSED = {
    "a generator": (lambda: (row for row in X), "a generator has no length"),
    "endless": (Endless, "a Endless has no length"),
    "a loader of a stream": (lambda: DataLoader(Endless()), "a Endless has no length"),
    "a loader of a part": (lambda: DataLoader(Pairs(), sampler=SubsetRandomSampler([1, 2])),
                           "draws by a SubsetRandomSampler, which is not followed here"),
    "a number": (lambda: 3, "not int"), "nothing": (lambda: (), "not tuple"),
    "texts": (lambda: (X, ["a"] * 12), r"data\[1\] holds str, no tensor"),
    "numpy texts": (lambda: (X, np.array(["a"] * 12)), "numpy array of <U1"),
    "lengths": (lambda: (X, Y[:3]), r"one length above 0 throughout, not \[3, 12\]"),
    "empty": (lambda: (X[:0],), r"not \[0\]"), "empty set": (lambda: Subset(Pairs(), []), "empty"),
    "random": (lambda: Pairs(lambda x: torch.rand(2)), "another sample at each reading"),
    "ragged": (lambda: Pairs(lambda x: torch.zeros(1 + int(x[0] > 1))), "do not stack"),
    "ragged rows": (lambda: datasets.Dataset.from_dict({"x": [[1], [1, 2]] * 6}),
                    "different lengths: pad them"),
    "a text column": (lambda: datasets.Dataset.from_dict({"x": [1, 2], "text": ["a", "b"]}),
                      r"data\['text'\] holds str, no tensor: leave it out \(remove_columns\)")}


@pytest.mark.parametrize("form", REFUSED)
def test_what_is_not_taken(form):
    data, match = REFUSED[form]
    with pytest.raises(UserError, match=match) as refused:
        taken(data())
    assert "\n" not in str(refused.value)
