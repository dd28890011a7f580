"""The authors' released language models: HookedTransformer state dicts on the Hugging Face hub.

Nothing in such a file is executed: torch reads tensors and plain containers, and refuses the rest.
"""

from pathlib import Path

import torch

from devlib.errors import CheckpointError, UserError
from devlib.language.parameters import check_parameters
from devlib.settings import LanguageModel, replace

RELEASED = {1: "georgeyw/L1W256-3m-rr", 2: "georgeyw/L2W256-3m-rr"}  # layers -> hub repository
BUFFERS = ("mask", "IGNORE")  # constants of HookedTransformer's attention, which are no weights


def download(layers, step) -> Path:
    """The file of one checkpoint, fetched from the hub or from its local cache.

    Raises UserError for a number of layers that was not released, CheckpointError if the hub is
    out of reach or has no such step.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    if layers not in RELEASED:
        raise UserError(f"models of {' and '.join(map(str, RELEASED))} layers are released, not "
                        f"of {layers!r}")
    name = f"checkpoints/checkpoint_{step:07d}.pth"
    try:
        return Path(hf_hub_download(RELEASED[layers], name))
    except (OSError, EntryNotFoundError) as error:
        raise CheckpointError(f"cannot fetch {name} of {RELEASED[layers]}: the hub is out of reach "
                              f"or has no such step ({_line(error)}); train a model of your own, "
                              "or name a file with load_released") from error


def load_released(path, model: LanguageModel | None = None) -> dict[str, torch.Tensor]:
    """The parameters in a released file, in the names and shapes of `initial_parameters`.

    The file holds a state dict, alone or as "model" beside optimizer and schedule. `model` is
    what it must be of (default: the paper's, with as many layers as the file has). Raises
    CheckpointError, naming the file, if it is no such file or of another architecture.
    """
    state = _read(path)
    params = {name: value.float() for name, value in state.items()
              if name.split(".")[-1] not in BUFFERS}
    if model is None:
        layers = len({name.split(".")[1] for name in params if name.startswith("blocks.")})
        model = replace(LanguageModel(), layers=max(1, layers))
    try:
        check_parameters(params, model)
    except UserError as error:
        raise CheckpointError(f"{path}: {error}") from error
    return params


def _read(path) -> dict[str, torch.Tensor]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise CheckpointError(f"cannot read {path} ({error.strerror})") from error
    except Exception as error:  # whatever a damaged or hostile file makes the reader raise
        raise CheckpointError(f"{path} holds no weights that can be read without running code "
                              f"({_line(error)})") from error
    state = content.get("model", content) if isinstance(content, dict) else None
    if not isinstance(state, dict) or not all(
            isinstance(name, str) and isinstance(value, torch.Tensor)
            for name, value in state.items()):
        raise CheckpointError(f"{path} holds no state dict of a HookedTransformer")
    return state


def _line(error) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
