"""A page opened from the built book fetches the commit that the book was built from."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from companion.site import book_commit, fixed_cells
from devlib.errors import UserError

CASES = Path(__file__).parents[2] / "notebook_cases"
URL = "https://github.com/else/where"
LIBRARY = "book/companion/site"
ON_COLAB = "import sys, types; sys.modules['google.colab'] = types.ModuleType('google.colab')\n"


def git(place, *arguments):
    return subprocess.run(["git", "-C", str(place), "-c", "user.name=t", "-c", "user.email=t@t",
                           *arguments], check=True, capture_output=True, text=True).stdout.strip()


def commit(place, number):
    """One more commit, whose library says which it is."""
    (place / LIBRARY / "page_ends.py").write_text(f"def begin(): print({number})\n")
    git(place, "add", "-A")
    git(place, "commit", "-q", "-m", str(number))
    return git(place, "rev-parse", "HEAD")


@pytest.fixture
def checkout(tmp_path):
    """A git checkout with one page and a library of one function, in one commit."""
    place = tmp_path / "checkout"
    for folder in ("notebooks", LIBRARY):
        (place / folder).mkdir(parents=True)
    (place / "_config.yml").write_text(f"repository: {{url: '{URL}', branch: main}}\n")
    for folder in (Path(LIBRARY).parent, LIBRARY):
        (place / folder / "__init__.py").write_text("")
    for name in ("01_sum.py", "01_sum.ipynb"):
        shutil.copy(CASES / name, place / "notebooks")
    source = place / "notebooks" / "01_sum.py"
    source.write_text(source.read_text().replace(
        "# %% [markdown]", f"{fixed_cells.HIDDEN}\nimport sys\n"
        'if "google.colab" in sys.modules:\n    pass\n\n# %% [markdown]', 1))
    fixed_cells.settle(source, place)
    git(tmp_path, "init", "-q", "-b", "main", "checkout")
    git(place, "config", "uploadpack.allowFilter", "true")
    commit(place, 1)
    return place


def opened(checkout, ref, folder):
    """What a session says that runs the head of the page at `ref`, and the commit it fetched."""
    text = git(checkout, "show", f"{ref}:notebooks/01_sum.py")
    head = text.split(f"{fixed_cells.HIDDEN}\n")[1].split("\n\n# %%")[0]
    folder.mkdir()
    done = subprocess.run([sys.executable, "-c", ON_COLAB + head], cwd=folder, text=True,
                          capture_output=True, env=os.environ | {
        "GIT_CONFIG_COUNT": "1", "GIT_CONFIG_VALUE_0": URL,
        "GIT_CONFIG_KEY_0": f"url.{checkout.as_uri()}.insteadOf"})
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout, git(folder / "where", "rev-parse", "HEAD")


def test_the_tagged_page_fetches_its_commit_and_the_committed_one_the_branch(checkout, tmp_path):
    first = book_commit.commit_of(checkout)
    assert first == git(checkout, "rev-parse", "HEAD")
    tag = book_commit.tag_pages(checkout)
    assert tag == f"book-{first}" == git(checkout, "tag", "--list")
    second = commit(checkout, 2)
    assert opened(checkout, tag, tmp_path / "one") == ("1\n", first)
    assert opened(checkout, first, tmp_path / "two") == ("2\n", second)  # of the repository's page


def test_the_tag_differs_from_its_commit_in_the_pages_alone(checkout):
    first = book_commit.commit_of(checkout)
    tag = book_commit.tag_pages(checkout)
    assert git(checkout, "rev-parse", f"{tag}^") == first
    assert git(checkout, "diff", "--name-only", first, tag) == "notebooks/01_sum.py"
    lines = [line for line in git(checkout, "diff", "-U0", first, tag).splitlines()
             if line[0] in "+-" and line[:3] not in ("+++", "---")]
    assert len(lines) == 2 and first in lines[1]
    assert git(checkout, "status", "--porcelain") == ""  # the checkout is as it was
    made = git(checkout, "rev-parse", tag)
    assert book_commit.tag_pages(checkout) == tag and git(checkout, "rev-parse", tag) == made


def test_changed_files_are_of_no_commit(checkout):
    (checkout / "new").write_text("")  # not git's: nothing of the book changes
    assert book_commit.commit_of(checkout) is not None
    (checkout / LIBRARY / "__init__.py").write_text("1\n")
    assert book_commit.commit_of(checkout) is None
    with pytest.raises(UserError, match="is no git checkout, or has changes; commit them first"):
        book_commit.tag_pages(checkout)


def test_a_folder_in_another_repository_is_of_no_commit(checkout):
    inner = checkout / "inner"
    inner.mkdir()
    shutil.copy(checkout / "_config.yml", inner)
    assert book_commit.commit_of(inner) is None
    (checkout.parent / "bare").mkdir()
    shutil.copy(checkout / "_config.yml", checkout.parent / "bare")
    assert book_commit.commit_of(checkout.parent / "bare") is None


def test_a_book_in_a_folder_of_its_repository_has_its_commit(checkout):
    inner = checkout / "inner"
    inner.mkdir()
    (inner / "_config.yml").write_text(f"repository: {{url: '{URL}', path_to_book: inner/}}\n")
    git(checkout, "add", "-A")
    git(checkout, "commit", "-q", "-m", "inner")
    assert book_commit.commit_of(inner) == git(checkout, "rev-parse", "HEAD")
