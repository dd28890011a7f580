"""What the first and the last cell of every page call (companion.site.fixed_cells)."""

import os
import subprocess
import sys
from importlib import metadata

from companion.places import project_root


def begin():
    """On Google Colab, in the clone that the head has made: installs what Colab lacks, and finds
    this library from wherever the page goes. Where that changed a NumPy which is already loaded,
    says so and restarts the session."""
    root = str(project_root())
    rooms = [root, os.path.join(root, "book")]
    sys.path[:] = [*rooms, *(place for place in sys.path
                             if os.path.abspath(place) not in rooms)]
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "-r",
                    os.path.join(root, "requirements-colab.txt")], check=True)
    loaded, installed = sys.modules.get("numpy"), metadata.version("numpy")
    if loaded and loaded.__version__ != installed:
        print(f"numpy changed from {loaded.__version__} to {installed}: the session restarts now; "
              "then choose Runtime > Run all again.", flush=True)
        os.kill(os.getpid(), 9)


def end(recompute):
    """Shows what the page has read, and on Google Colab offers what it has computed as one file."""
    from companion import provenance
    from companion.site import colab

    provenance.show()
    if colab.here() and recompute:
        colab.download_results()
