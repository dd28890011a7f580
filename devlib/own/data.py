"""Data as people have them, made what chains index: a tuple of tensors, the sample first."""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch.utils.data import (
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    TensorDataset,
    default_collate,
)

from devlib.devices import is_gpu, move
from devlib.errors import UserError

STACK_BELOW = 2**28  # bytes; what is larger is read batch by batch
TAKEN = ("data must be tensors, numpy arrays, a dictionary or tuple of them, a Dataset, a "
         "DataLoader, or a Hugging Face dataset")


@dataclass(frozen=True, eq=False)
class Samples:
    """`parts` is what the chains index, and `batch(parts)` makes of a drawn part the batch that
    the loss gets. Where `by_index`, the samples stay where they are, and `parts` holds their
    numbers."""

    parts: tuple
    batch: Callable
    by_index: bool

    def __len__(self):
        return len(self.parts[0])


def samples_of(data, dtype, where) -> Samples:
    """A user's data for parameters of this dtype on this device.

    Taken are a tensor, a numpy array (also memory-mapped: only drawn rows are read), a tuple or
    dictionary of them, a Dataset with a length, a DataLoader (its dataset and collate_fn; batches
    are drawn here), and a Hugging Face dataset. A batch has the form of the data, or the one that
    the collate_fn gives. In it, floating-point numbers have the parameters' dtype and whole ones
    are int64. A dataset of less than STACK_BELOW bytes is read once and stacked; a larger one,
    and one with a collate_fn of its own, is read batch by batch. Raises UserError for what cannot
    be taken, and for a dataset that gives another sample at a second reading.
    """
    fetch, size, own_collate = _reader(data)
    if fetch is None:
        columns, rebuild = _columns(data)
        size = _length(columns)
        there = [part.device == where for part in columns]
        if all(there) or (_bytes(columns) < STACK_BELOW and not is_gpu(columns[0].device)):
            return _stacked(move(tuple(columns), where), rebuild, dtype)

        def fetch(places):
            return rebuild([part[places] for part in columns])
    else:
        if not size:
            raise UserError("data is empty")
        first, again = (_columns(fetch([0]))[0] for _ in range(2))
        if not all(map(_same, first, again)):
            raise UserError("data gives another sample at each reading: take its random transforms "
                            "out, as a chain needs fixed samples")
        if not own_collate and size * _bytes(first) < STACK_BELOW:
            columns, rebuild = _columns(fetch(range(size)))
            _length(columns)
            return _stacked(move(tuple(columns), where), rebuild, dtype)

    def batch(parts):
        columns, rebuild = _columns(fetch(parts[0].tolist()))
        return rebuild([_cast(move(part, where), dtype) for part in columns])

    return Samples((torch.arange(size, device=where),), batch, True)


def _stacked(columns, rebuild, dtype):
    return Samples(columns, lambda parts: rebuild([_cast(part, dtype) for part in parts]), False)


def _cast(part, dtype):
    if part.is_floating_point():
        return part.to(dtype)
    return part if part.dtype == torch.bool or part.is_complex() else part.long()


def _reader(data):
    """(places -> batch, number of samples, whether by a collate_fn of its own) of what is read
    sample by sample; of all else Nones."""
    collate = default_collate
    if isinstance(data, DataLoader) and not isinstance(data.dataset, IterableDataset):
        inner = getattr(data.batch_sampler, "sampler", data.batch_sampler)
        for sampler in (data.sampler, inner):
            if sampler is not None and not isinstance(sampler, RandomSampler | SequentialSampler):
                raise UserError(f"the DataLoader draws by a {type(sampler).__name__}, which is not "
                                "followed here: give its samples as a dataset, such as a Subset")
        data, collate = data.dataset, data.collate_fn or default_collate
    if isinstance(data, DataLoader):  # of a stream
        data = data.dataset
    own = collate is not default_collate
    if isinstance(data, TensorDataset) and not own:
        return lambda places: [part[list(places)] for part in data.tensors], len(data), False
    if isinstance(data, IterableDataset) or (
            hasattr(data, "__iter__") and not hasattr(data, "__len__")):
        raise UserError(f"a {type(data).__name__} has no length, and samples are drawn at random "
                        f"here: {TAKEN}")
    if hasattr(data, "with_format") and hasattr(data, "column_names"):  # of Hugging Face
        data = data.with_format("torch")
        if not own:
            return lambda places: data[list(places)], len(data), False
    elif not isinstance(data, Dataset) and not (own and hasattr(data, "__getitem__")):
        return None, None, False
    try:
        size = len(data)
    except TypeError as error:
        raise UserError(f"a {type(data).__name__} has no length, and samples are drawn at random "
                        "here: give it __len__") from error

    def fetch(places):
        try:
            return collate([data[place] for place in places])
        except (RuntimeError, TypeError) as error:
            raise UserError(f"the samples of data do not stack ({str(error).splitlines()[0]}): pad "
                            "them to one shape, or give a DataLoader with a collate_fn") from error

    return fetch, size, own


def _columns(data):
    """The tensors of data or of a batch, in order, and what gives such tensors its form again.
    Raises UserError for what holds anything else."""
    if isinstance(data, torch.Tensor | np.ndarray):
        return [_tensor("data", data)], lambda parts: parts[0]
    if isinstance(data, Mapping):
        names = tuple(data)
        return ([_tensor(f"data[{name!r}]", data[name]) for name in names],
                lambda parts: dict(zip(names, parts, strict=True)))
    if isinstance(data, tuple | list) and data:
        return [_tensor(f"data[{i}]", part) for i, part in enumerate(data)], tuple
    raise UserError(f"{TAKEN}, not {type(data).__name__}")


def _tensor(name, part):
    if isinstance(part, np.ndarray):
        try:
            with warnings.catch_warnings():  # of an array that cannot be written, and is not
                warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
                part = torch.as_tensor(part)
        except (TypeError, ValueError) as error:
            raise UserError(f"{name} is a numpy array of {part.dtype}, which is no tensor "
                            f"({error}): give numbers") from error
    if not isinstance(part, torch.Tensor):
        inside = type(part[0]).__name__ if isinstance(part, list) and part else None
        if inside == "Tensor":
            raise UserError(f"{name} holds samples of different lengths: pad them to one, or give "
                            "a DataLoader with a collate_fn")
        raise UserError(f"{name} holds {inside or type(part).__name__}, no tensor: leave it out "
                        "(remove_columns), or make numbers of it")
    return part


def _length(columns):
    lengths = {len(part) if part.ndim else 0 for part in columns}
    if len(lengths) != 1 or 0 in lengths:
        raise UserError(f"data must have one length above 0 throughout, not {sorted(lengths)}")
    return lengths.pop()


def _bytes(columns):
    return sum(part.numel() * part.element_size() for part in columns)


def _same(a, b):
    return a.shape == b.shape and torch.equal(torch.nan_to_num(a), torch.nan_to_num(b))
