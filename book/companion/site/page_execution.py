"""One notebook through papermill, and what can go wrong there in one line."""

import logging
import os
import sys
import tempfile
from pathlib import Path

from companion.environment import environment
from companion.places import project_root
from companion.site.notebooks import canonical, read, write
from devlib.errors import UserError
from devlib.files import make_directory


def execute(nb, page, failures, values=None, bar=True, **variables):
    """Runs a notebook in its own folder, by the interpreter that runs this, and returns it."""
    import papermill

    logging.getLogger("papermill").setLevel(logging.CRITICAL)
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)  # tasks that an interrupt leaves behind
    failed = failures / f"{page.stem}.failed.ipynb"
    bar = {"desc": page.stem, "unit": "cell"} if bar and sys.stderr.isatty() else False
    # papermill treats {} in a path as a parameter: give it a path of our own
    with tempfile.TemporaryDirectory() as folder, environment(**_variables(**variables)):
        partial = Path(folder) / "partial.ipynb"
        try:
            done = papermill.execute_notebook(
                nb, partial, values or {}, kernel_name="python3", cwd=page.parent,
                progress_bar=bar, extra_arguments=["--log-level=CRITICAL"],
                kernel_manager_class=_quiet_kernels(Path(folder) / "kernel.log"))
        except papermill.PapermillExecutionError as error:
            what = f"cell {error.exec_count} failed: {error.ename}: {error.evalue}"
        except RuntimeError as error:  # nbclient's DeadKernelError is one
            said = (Path(folder) / "kernel.log").read_text(errors="replace").splitlines()
            what = (f"the kernel died, perhaps for want of memory ({error})"
                    + "".join(f"; its last word: {line}" for line in said[-1:]))
        else:
            failed.unlink(missing_ok=True)
            return done
        make_directory(failures)
        write(canonical(read(partial), keep_injected=True), failed)
    what = " ".join(what.split())
    raise UserError(f"{page.stem}: {what}; the notebook up to there: {failed}")


def _quiet_kernels(log):
    """Kernels whose processes write to the file `log`, not to this one's terminal: what a cell
    prints is in the notebook, and what sockets say while a kernel ends is nobody's concern."""
    from jupyter_client.manager import AsyncKernelManager

    class QuietKernels(AsyncKernelManager):
        async def start_kernel(self, **options):
            with log.open("ab") as file:
                await super().start_kernel(**options, stdout=file, stderr=file)

    return QuietKernels


def _variables(**variables):
    """What a kernel started here finds in its environment: this library, this interpreter's
    kernel rather than a user's of the same name, inline figures, no warnings of the debugger."""
    path = [str(project_root()), str(project_root() / "book"),
            *filter(None, [os.environ.get("PYTHONPATH")])]
    return variables | {"PYTHONPATH": os.pathsep.join(path), "JUPYTER_PREFER_ENV_PATH": "1",
                        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
                        "PYDEVD_DISABLE_FILE_VALIDATION": "1"}
