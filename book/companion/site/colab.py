"""Google Colab: what was computed there, as one file to take home before the session ends."""

import os
import sys
import zipfile
from pathlib import Path

from companion.places import runs_directory

NAME = "devlib-results.zip"
CHECKPOINTS = "checkpoints"  # the folder of a run that holds them


def here() -> bool:
    """Whether this session runs on Google Colab."""
    return "google.colab" in sys.modules


def download_results(checkpoints=False, runs=None) -> Path | None:
    """Zips the runs directory and hands it to the browser; returns the file's place, or None where
    nothing was computed. Unpacked into `runs/` of a checkout, finished tables are found there and
    not computed again. Checkpoints, most of the bytes, are left out unless asked for."""
    runs = Path(runs or runs_directory())
    found = [path for path in sorted(runs.rglob("*")) if path.is_file()
             and not path.name.startswith(".")
             and (checkpoints or CHECKPOINTS not in path.relative_to(runs).parts)]
    if not found:
        return None
    place, partial = Path.cwd() / NAME, Path.cwd() / f".{NAME}.part"
    with zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in found:
            archive.write(path, path.relative_to(runs))
    os.replace(partial, place)
    print(f"{place}: {len(found)} files, {place.stat().st_size / 1e6:.1f} MB"
          + ("" if checkpoints else "; colab.download_results(checkpoints=True) has the "
             "checkpoints too"))
    if here():
        from google.colab import files

        files.download(str(place))
    return place
