"""What the first and the last cell of every page call (devlib.fixed_cells)."""

import os
import subprocess
import sys
from importlib import metadata

from devlib.files import project_root


def begin():
    """On Google Colab, in the clone that the head has made: installs what Colab lacks, and finds
    this library from wherever the page goes. Where that changed a NumPy which is already loaded,
    says so and restarts the session."""
    root = str(project_root())
    sys.path[:] = [root, *(place for place in sys.path if os.path.abspath(place) != root)]
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "-r",
                    os.path.join(root, "requirements-colab.txt")], check=True)
    loaded, installed = sys.modules.get("numpy"), metadata.version("numpy")
    if loaded and loaded.__version__ != installed:
        print(f"numpy changed from {loaded.__version__} to {installed}: the session restarts now; "
              "then choose Runtime > Run all again.", flush=True)
        os.kill(os.getpid(), 9)


def end(recompute):
    """Shows what the page has read, and on Google Colab offers what it has computed as one file."""
    from devlib import colab, sources

    sources.show()
    if colab.here() and recompute:
        colab.download_results()
