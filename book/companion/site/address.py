"""Where the project lives: everything that follows from `repository` in _config.yml.

That is the only place where the address stands. Pages, links and commands derive it from there, so
that a fork edits one line.
"""

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from companion.places import project_root
from devlib.errors import UserError

COLAB = "https://colab.research.google.com"


@dataclass(frozen=True)
class Repository:
    """A public repository and the folder that cloning it makes."""

    url: str  # without a slash at its end
    branch: str = "main"
    path: str = ""  # of the book, in the repository
    colab: str = COLAB

    @property
    def folder(self) -> str:
        return self.url.rsplit("/", 1)[-1].removesuffix(".git")

    @property
    def clone(self) -> str:
        return f"git clone {self.url}"

    def in_colab(self, notebook) -> str | None:
        """The link that opens a notebook, named by its path in the book, in Colab; None if the
        repository is not on GitHub, the only place that Colab reads."""
        parts = urlsplit(self.url)
        if parts.hostname != "github.com":
            return None
        place = "/".join(filter(None, [self.path.strip("/"), str(notebook)]))
        name = parts.path.strip("/").removesuffix(".git")
        return f"{self.colab}/github/{name}/blob/{self.branch}/{place}"


def repository(root=None) -> Repository:
    """The repository that _config.yml names. Raises UserError if it names none."""
    import yaml

    path = Path(root or project_root()) / "_config.yml"
    try:
        config = yaml.safe_load(path.read_text())
        facts = config["repository"]
        return Repository(facts["url"].rstrip("/"), facts.get("branch", "main"),
                          facts.get("path_to_book", ""),
                          config.get("launch_buttons", {}).get("colab_url", COLAB).rstrip("/"))
    except (OSError, KeyError, TypeError, AttributeError, yaml.YAMLError) as error:
        raise UserError(f"{path} names no repository ({error!r}); write repository: with url: and "
                        "the address below it") from error
