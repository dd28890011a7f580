"""Chains in a file: all that their next step depends on, and prints of the problem they belong to.
"""

import hashlib
import json

import numpy as np
import safetensors.torch
import torch

from devlib.devices import to_numpy
from devlib.errors import UserError
from devlib.files import write_atomic
from devlib.resume import digest
from devlib.sampling.model import per_sample_losses

HASHED = 4096  # samples, evenly spread, by which a set is known
PROBED = 64  # samples whose loss at w0 is one of the prints
SAME = 1e-3  # relative; other kernels round the losses otherwise, another loss is not that near
TRACES = ("losses", "baseline", "distances")
FACTS = ("chains", "seed", "batch_size", "microbatch", "start", "vectorised", "compile",
         "by_layer")
REMEDY = "start the chains anew"


def save(run, path):
    """Writes the chains `run`, atomically, as safetensors with a digest of its own."""
    tensors = {"w": run.w, "state": run.state, "probe": _probe(run)}
    if run.init_losses is not None:
        tensors["init_losses"] = run.init_losses
    for name in TRACES:
        tensors[name] = torch.from_numpy(np.concatenate(getattr(run, f"_{name}"), 1))
    facts = {name: getattr(run, name) for name in FACTS} | {
        "taken": run.taken, "sampler": repr(run.sampler), "prints": _prints(run)}
    tensors = {name: torch.as_tensor(to_numpy(part.contiguous())) for name, part in tensors.items()}
    facts["sha256"] = digest(tensors, facts)
    # one entry: safetensors writes several in an order of chance, and the same chains give the
    # same bytes
    write_atomic(path, safetensors.torch.save(
        tensors, {"chains": json.dumps(facts, sort_keys=True)}))


def read(path) -> tuple[dict, dict]:
    """(tensors, facts) of such a file. Raises UserError for any other."""
    try:
        tensors = safetensors.torch.load_file(path)
        with safetensors.safe_open(path, "pt") as file:
            facts = json.loads(file.metadata()["chains"])
        if facts.pop("sha256") != digest(tensors, facts):
            raise ValueError("its sha256 is another")
    except (OSError, KeyError, TypeError, ValueError, safetensors.SafetensorError) as error:
        raise UserError(f"{path} holds no whole chains ({error}); {REMEDY}") from error
    return tensors, facts


def put_back(run, path, tensors, prints):
    """Gives new chains the place and the past of those in the file. Raises UserError if they are
    of another problem."""
    for name, found in _prints(run).items():
        if prints[name] != found:
            raise UserError(f"{path} holds chains of another {name}: give the one that they had, "
                            f"or {REMEDY}")
    where = run.w.device
    run.w, run.state = tensors["w"].to(where), tensors["state"].to(where)
    probe = _probe(run)
    if not np.allclose(to_numpy(probe), to_numpy(tensors["probe"]), rtol=SAME, atol=0,
                       equal_nan=True):
        raise UserError(f"{path} holds chains of another loss: at the same parameters and samples "
                        f"it has other values. Give the one that they had, or {REMEDY}")
    for name in TRACES:
        setattr(run, f"_{name}", [tensors[name].numpy()])


def _prints(run) -> dict:
    """What has to be the same, by the name under which it is refused."""
    layout = [[name, list(shape)] for name, shape in
              zip(run.layout.names, run.layout.shapes, strict=True)]
    places = torch.linspace(0, len(run.data[0]) - 1, min(HASHED, len(run.data[0]))).long().unique()
    return {"model": _print(json.dumps(layout), run.origin),
            "mask": "none" if run.free is None else _print("", run.free),
            "data": _print(str(len(run.data[0])), *(part[places.to(part.device)]
                                                     for part in run.data))}


def _print(words, *tensors):
    found = hashlib.sha256(words.encode())
    for tensor in tensors:
        found.update(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
        found.update(to_numpy(tensor.contiguous().flatten().view(torch.uint8)).tobytes())
    return found.hexdigest()


def _probe(run):
    places = torch.linspace(0, len(run.data[0]) - 1, min(PROBED, len(run.data[0]))).long()
    few = tuple(part[places.to(part.device)] for part in run.data)
    return torch.stack([per_sample_losses(run.loss, params, few) for params in (
        run.layout.unflatten(run.origin), run.params(run.w[0]))])  # losses may vanish at w0
