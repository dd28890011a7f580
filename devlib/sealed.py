"""JSON files that carry a digest of themselves, so that no changed byte of them is believed.

`python -m devlib.sealed PATH ...` gives one to the manifests of earlier versions, which had none.
"""

import json
import sys
from pathlib import Path

from devlib.errors import UserError
from devlib.files import sha256, write_atomic

DIGEST = "digest"


def write_sealed(path, value: dict):
    """Writes `value` as JSON with a fixed key order and the sha256 of that text as one more entry,
    atomically."""
    value = _without(json.loads(_render(value)))  # keys as they will be read
    write_atomic(path, _render(value | {DIGEST: sha256(_render(value))}))


def read_sealed(path, unsealed=False) -> dict:
    """What `write_sealed` wrote, without the digest. Raises OSError if the file cannot be read and
    ValueError, in a few words, if it is not byte for byte what was written.

    With `unsealed` a file of an earlier version is taken too. It has no digest, so that a changed
    byte of it can go unnoticed: callers say what else proves it, and what nothing does.
    """
    data = Path(path).read_bytes()
    value = json.loads(data)
    if not isinstance(value, dict):
        raise ValueError("it is no JSON object")
    if DIGEST in value:
        content = _without(value)
        # the text as well as the digest: a changed blank leaves the content what it was
        if value[DIGEST] != sha256(_render(content)) or data != _render(value):
            raise ValueError("its digest is not that of its content")
        return content
    if any(part == sha256(_render(_without(value, name))) for name, part in value.items()):
        raise ValueError("the name of its digest is changed")
    if not unsealed:
        raise ValueError("it has no digest; if a version before digests wrote it, and you trust "
                         f"it: python -m devlib.sealed {path}")
    return value


def seal(path):
    """Adds the digest to a JSON file of an earlier version. Raises UserError if it is damaged."""
    try:
        value = json.loads(Path(path).read_bytes())
        sealed = DIGEST in value
        read_sealed(path, unsealed=True)
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{path} cannot be sealed ({error})") from error
    if not sealed:
        write_sealed(path, value)


def manifests(place) -> list[Path]:
    """The manifests in a folder: of tables, of runs and of packed checkpoints."""
    place = Path(place)
    if place.is_file():
        return [place]
    return sorted([*place.rglob("manifest.json"),
                   *(path.with_suffix(".json") for path in place.rglob("*.safetensors")
                     if path.with_suffix(".json").exists())])


def _without(value, left_out=DIGEST):
    return {name: part for name, part in value.items() if name != left_out}


def _render(value) -> bytes:
    return (json.dumps(value, indent=1, sort_keys=True) + "\n").encode()


if __name__ == "__main__":
    for place in sys.argv[1:]:
        for manifest in manifests(place):
            seal(manifest)
            print(manifest)
