"""JSON files that carry a digest of themselves, so that no changed byte of them is believed."""

import json
from pathlib import Path

from devlib.files import sha256, write_atomic

DIGEST = "digest"


def write_sealed(path, value: dict):
    """Writes `value` as JSON with a fixed key order and the sha256 of that text as one more entry,
    atomically."""
    value = _without_digest(json.loads(_render(value)))  # keys as they will be read
    write_atomic(path, _render(value | {DIGEST: sha256(_render(value))}))


def read_sealed(path) -> dict:
    """What `write_sealed` wrote, without the digest. Raises OSError if the file cannot be read and
    ValueError, in a few words, if it is not byte for byte what was written."""
    data = Path(path).read_bytes()
    value = json.loads(data)
    if not isinstance(value, dict):
        raise ValueError("it is no JSON object")
    if DIGEST not in value:
        raise ValueError("it has no digest")
    content = _without_digest(value)
    # the text as well as the digest: a changed blank leaves the content what it was
    if value[DIGEST] != sha256(_render(content)) or data != _render(value):
        raise ValueError("its digest is not that of its content")
    return content


def _without_digest(value):
    return {name: part for name, part in value.items() if name != DIGEST}


def _render(value) -> bytes:
    return (json.dumps(value, indent=1, sort_keys=True) + "\n").encode()
