"""A stand-in for Google Colab: runs notebooks, each in a session of its own, and prints how each
one ended as a line of JSON. `python colab_session.py FACTS`, where FACTS is JSON:

    {"pages": {path of a notebook: the empty folder of its session},
     "whole": [names of pages whose cells all run; of others the first cell and all imports do],
     "pip": a program that stands in for this Python when the notebook calls pip,
     "lacking": [modules that Colab lacks]}

A session is a process that has loaded what Colab loads, knows the module google.colab, has the
notebook and nothing else in its folder, and finds no devlib but the one that it fetches.
"""

import ast
import json
import os
import sys
import traceback
import types
from importlib.machinery import ModuleSpec
from pathlib import Path


class Lacking:
    """Makes modules unknown to `import`."""

    def __init__(self, names):
        self.names = set(names)

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in self.names:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def imports(source):
    """The import statements that stand at the left of a cell."""
    found = [node for node in ast.parse(source).body
             if isinstance(node, ast.Import | ast.ImportFrom)]
    return "\n".join(map(ast.unparse, found))


def run(page, folder, facts):
    """Everything that the cells of a notebook do, or what they fetch and import; the place of the
    library they found."""
    from IPython.core.interactiveshell import InteractiveShell

    os.chdir(folder)
    colab, files = types.ModuleType("google.colab"), types.ModuleType("google.colab.files")
    colab.__spec__ = ModuleSpec("google.colab", None)  # libraries ask for it, to see where they are
    files.download = lambda path: None
    colab.files = files
    sys.modules |= {"google.colab": colab, "google.colab.files": files}
    sys.meta_path.insert(0, Lacking(facts["lacking"]))
    sys.executable = facts["pip"]
    shell = InteractiveShell.instance()
    cells = json.loads(Path(page).read_text())["cells"]
    first, *others = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    whole = Path(page).stem in facts["whole"]
    for source in (first, *(others if whole else map(imports, others))):
        shell.run_cell(source).raise_error()
    return {"library": sys.modules["devlib"].__file__, "ran": "whole" if whole else "imports",
            "left": sorted(path.name for path in Path(folder).iterdir())}


def main(facts):
    import IPython  # noqa: F401
    import matplotlib
    import numpy  # noqa: F401
    import pandas  # noqa: F401
    import scipy.stats  # noqa: F401
    import sklearn.gaussian_process  # noqa: F401
    import torch

    torch.set_num_threads(1)
    matplotlib.use("agg")
    assert "devlib" not in sys.modules
    for page, folder in facts["pages"].items():
        sys.stdout.flush()
        read, write = os.pipe()
        if os.fork() == 0:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what a page prints is not the test's
            try:
                end = run(page, folder, facts)
            except BaseException:
                end = {"error": traceback.format_exc()}
            os.write(write, json.dumps(end).encode()[:60_000])
            os._exit(0)
        os.close(write)
        with os.fdopen(read) as pipe:
            print(json.dumps({"page": page, "end": json.loads(pipe.read() or '{"error": "died"}')}))
        os.wait()


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
