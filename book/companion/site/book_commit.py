"""The commit that a book is built from, so that a page opened from it fetches the very same code.

A page that is part of a commit cannot name it. So each published commit gets a child, tagged
`book-COMMIT`, in which nothing differs but the heads of the pages: they name the parent. The links
of the built book open the pages of that tag, and the notebooks that it offers for download have
the same heads. A book of files that are not committed leads to the branch of `_config.yml`.
"""

import os
import subprocess
import tempfile
from pathlib import Path

from companion.places import project_root
from companion.site import fixed_cells
from companion.site.address import repository
from devlib.errors import UserError


def commit_of(root=None) -> str | None:
    """The commit of a checkout; None where there is no git, or a tracked file differs from it."""
    root = Path(root or project_root()).resolve()
    try:
        top, commit = _git(root, "rev-parse", "--show-toplevel", "HEAD").splitlines()
        changed = _git(root, "status", "--porcelain", "--untracked-files=no")
    except (OSError, UserError, ValueError):
        return None
    own = Path(top).resolve() / repository(root).path == root  # and not a repository around it
    return commit if own and not changed else None


def tag_of(commit) -> str:
    """The tag whose pages fetch this commit."""
    return f"book-{commit}"


def tag_pages(root=None) -> str:
    """Makes the tag of the commit that is checked out, and returns its name; the checkout stays as
    it is. The same commit always gives the same tag. Raises UserError if there is none, or if
    files differ from it."""
    root = Path(root or project_root())
    commit = commit_of(root)
    if commit is None:
        raise UserError(f"{root} is no git checkout, or has changes; commit them first")
    when = _git(root, "show", "-s", "--format=%cI", commit).strip()
    who = {f"GIT_{role}_{what}": value for role in ("AUTHOR", "COMMITTER")
           for what, value in (("NAME", "book"), ("EMAIL", "book@localhost"), ("DATE", when))}
    with tempfile.TemporaryDirectory() as folder:
        index = {"GIT_INDEX_FILE": os.path.join(folder, "index")}
        _git(root, "read-tree", commit, **index)
        for name in _git(root, "ls-tree", "--name-only", "--full-name", commit,
                         "notebooks/").splitlines():
            if (kind := Path(name).suffix) in fixed_cells.KINDS:
                text = fixed_cells.KINDS[kind](_git(root, "show", f"{commit}:{name}"), root, commit)
                blob = _git(root, "hash-object", "-w", "--stdin", given=text).strip()
                _git(root, "update-index", "--cacheinfo", f"100644,{blob},{name}", **index)
        tree = _git(root, "write-tree", **index).strip()
    words = f"Pages of the book built from {commit[:12]}, each of which fetches that commit"
    child = _git(root, "commit-tree", tree, "-p", commit, "-m", words, **who).strip()
    _git(root, "update-ref", f"refs/tags/{tag_of(commit)}", child)
    return tag_of(commit)


def _git(root, *arguments, given=None, **environment):
    """What git says. Raises UserError with its words if it fails."""
    done = subprocess.run(["git", "-C", str(root), *arguments], input=given, text=True,
                          capture_output=True, encoding="utf-8", env=os.environ | environment)
    if done.returncode:
        raise UserError(f"git {arguments[0]} failed in {root}: {done.stderr.strip()}")
    return done.stdout
