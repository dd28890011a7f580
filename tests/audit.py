"""Are there known holes in the versions that we install? `make audit`, which CI runs.

It asks a public database of them on the network. Where there is none, it says so and passes: the
pins are no worse for that.
"""

import json
import re
import subprocess
import sys

from companion.places import project_root

ENVIRONMENT = ".venv-audit"  # pip-audit has packages of its own, which devlib does not need
PINS = ("requirements.txt", "requirements-audit.txt")
SECONDS = 10  # to wait for the database
LIMIT = 600
UNREACHED = "the database of known holes cannot be reached from here"


def audit(root=None, run=subprocess.run) -> tuple[bool | None, str]:
    """(whether the pins are free of known holes, in words); None where it cannot be known."""
    root = project_root() if root is None else root
    python = root / ENVIRONMENT / "bin" / "python"
    if not python.exists():
        return None, "pip-audit is not installed here; make audit installs it"
    pins = [part for name in PINS if (root / name).exists() for part in ("-r", str(root / name))]
    try:
        end = run([python, "-m", "pip_audit", "--vulnerability-service", "osv", "--format", "json",
                   "--no-deps", "--disable-pip", "--progress-spinner", "off", "--timeout",
                   str(SECONDS), *pins], capture_output=True, text=True, timeout=LIMIT)
    except subprocess.TimeoutExpired:
        return None, UNREACHED
    try:
        packages = json.loads(end.stdout)["dependencies"]
    except (ValueError, KeyError, TypeError):
        last = (end.stderr.strip().splitlines() or ["no answer"])[-1]
        return (None, UNREACHED) if re.search("(?i)connect|timed? ?out|resolve", end.stderr) else (
            False, f"pip-audit failed: {last}")
    holes = [f"{package['name']} {package['version']}: {hole['id']}, mended in "
             f"{', '.join(hole['fix_versions']) or 'no version yet'}"
             for package in packages for hole in package.get("vulns", ())]
    return not holes, "; ".join(holes) or f"{len(packages)} pins, no known hole"


if __name__ == "__main__":
    verdict, words = audit()
    print("audit:", "skipped, " * (verdict is None) + words)
    sys.exit(verdict is False)
