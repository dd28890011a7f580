"""Which run: the one identity of a run's tables, its folder and its settings.

Tables lie in PRESET/FOLDER below data/results, or below a runs directory; a run's checkpoints
beside its tables, and the few that the repository keeps in data/checkpoints. FOLDER is, for

    one regression run          KIND-RESIDUAL[-reused][-eps=VALUE][-gamma=VALUE][-nbeta=VALUE]-seedN
    one language run            language-LAYERSlayer[-CORPUS]-seedN
    its LLC by other samplers   language-protocols[-CORPUS]-seedN
    all else, one a preset      KIND-seedN

No other file spells a folder. Nothing here loads torch.
"""

import re
from dataclasses import dataclass, replace
from pathlib import Path

from companion import presets
from companion.places import project_root, runs_directory
from devlib.checks import as_number, check_seed
from devlib.errors import UserError
from devlib.files import sha256
from devlib.settings import LanguageSettings, RegressionSettings

MANIFEST = "manifest.json"
COMMITTED = project_root() / "data" / "results"
CHECKPOINTS = project_root() / "data" / "checkpoints"
RESIDUALS = ("doubled", "standard")
SAMPLER = ("eps", "gamma", "nbeta")
OF_REGRESSION = ("regression", "evaluation", "development", "blocks", "hessian", "check",
                 "protocols")  # of either residual
LAYERS = {"language-2layer": 2, "language-1layer": 1}
OF_LANGUAGE = LAYERS | {"language-protocols": 2}  # the last without a run of its own
PLAIN = ("calibration", "fidelity", "task-sets", "primer")
KINDS = (*OF_REGRESSION, *OF_LANGUAGE, *PLAIN)
REUSING = ("regression", "development", "blocks", "hessian",
           "protocols")  # can measure the repository's
LONGEST = 40  # letters of a value in the name of a rerun's folder

_FOLDER = re.compile(
    rf"(?P<kind>{'|'.join(KINDS)})"
    rf"(?:-(?P<residual>{'|'.join(RESIDUALS)}))?(?P<reuse>-reused)?"
    rf"(?P<sampler>(?:-(?:{'|'.join(SAMPLER)})=[^=]+?)*)"
    rf"(?:-(?P<corpus>{'|'.join(presets.CORPORA)}))?-seed(?P<seed>\d+)", re.ASCII)


@dataclass(frozen=True)
class RunKey:
    """One folder of tables. Make one by `of` or `parse`, which fill in what the preset says, so
    that equal keys are equal folders."""

    kind: str
    preset: str
    seed: int
    residual: str | None = None  # of the kinds in OF_REGRESSION
    reuse: bool = False  # the repository's checkpoints are measured, and nothing is trained
    sampler: tuple[tuple[str, float], ...] = ()  # what of the LLC's sampler is not the preset's
    corpus: str | None = None  # of language runs

    @classmethod
    def of(cls, kind, preset, seed, *, residual=None, reuse=False, corpus=None, eps=None,
           nbeta=None, gamma=None) -> "RunKey":
        """The key of a kind of tables; None is what the preset says, and what is no part of the
        kind is left out. A number of the sampler may come as its text, as plain papermill hands
        on YAML's 1e-4. Raises UserError for an unknown kind, preset, residual or corpus, and for
        what is no seed or no number."""
        scale = presets.get(preset)
        residual = scale.regression.model.residual if residual is None else residual
        corpus = corpus or scale.language.training.corpus
        sampler = {"eps": eps, "gamma": gamma, "nbeta": nbeta}  # in the order of a folder's name
        for name, value, known in (("kind", kind, KINDS), ("corpus", corpus, presets.CORPORA)):
            if value not in known:
                raise UserError(f"{name} must be one of {', '.join(known)}, not {value!r}")
        if residual not in RESIDUALS:
            raise UserError(f"residual must be 'doubled' or 'standard', not {residual!r}")
        given = tuple((name, as_number(name, value)) for name, value in sampler.items()
                      if value is not None)
        return cls(kind, preset, check_seed(seed),
                   residual=residual if kind in OF_REGRESSION else None,
                   reuse=bool(reuse) and kind in REUSING,
                   sampler=given if kind == "regression" else (),
                   corpus=corpus if kind in OF_LANGUAGE else None)

    @classmethod
    def of_page(cls, kind, preset, seed, parameters) -> "RunKey":
        """The key of the tables that a page with these parameters reads; those that name no
        tables, such as a tolerance, are left out."""
        known = ("residual", "reuse", "corpus", *SAMPLER)
        return cls.of(kind, preset, seed, **{name: value for name, value in parameters.items()
                                             if name in known})

    @classmethod
    def parse(cls, preset, folder) -> "RunKey":
        """The inverse of `folder`. Raises UserError for a name that is none."""
        presets.get(preset)
        found = cls._read(preset, folder)
        if found is None:
            raise UserError(f"{str(folder)!r} is no folder of tables: their names are like "
                            "regression-doubled-seed0 or language-2layer-seed0")
        return found

    @classmethod
    def _read(cls, preset, folder):
        match = _FOLDER.fullmatch(str(folder))
        try:
            parts = dict(re.findall(rf"-({'|'.join(SAMPLER)})=([^=]+?)(?=-[a-z]+=|$)",
                                    match["sampler"])) if match else {}
            key = match and cls.of(match["kind"], preset, int(match["seed"]),
                                   residual=match["residual"], reuse=match["reuse"],
                                   corpus=match["corpus"], **parts)
        except ValueError:  # a value that is no number
            return None
        return key if key and key.folder == folder else None  # one key, one spelling

    @property
    def stem(self) -> str:
        """The folder's name before its seed."""
        usual = presets.get(self.preset).language.training.corpus
        changes = [f"{name}={value}" for name, value in self.sampler]
        return "-".join(filter(None, [self.kind, self.residual, "reused" * self.reuse, *changes,
                                      "" if self.corpus == usual else self.corpus]))

    @property
    def folder(self) -> str:
        """The folder's name."""
        return f"{self.stem}-seed{self.seed}"

    @property
    def settings(self) -> RegressionSettings | LanguageSettings:
        """The settings of the model that the tables are about, and of its measurements. Raises
        UserError for a sampler out of its range."""
        preset = presets.get(self.preset)
        if self.kind in OF_LANGUAGE:
            found = preset.language if OF_LANGUAGE[self.kind] == 2 else preset.one_layer
            return replace(found, training=replace(found.training, corpus=self.corpus))
        found = preset.regression
        if self.residual:
            found = replace(found, model=replace(found.model, residual=self.residual))
        if self.sampler:
            from devlib.sampling.sgld import SGLD  # torch, only where something is changed

            llc = replace(found.llc, **dict(self.sampler))
            SGLD(llc.eps, llc.nbeta, llc.gamma)  # checks them
            found = replace(found, llc=llc)
        return found

    @property
    def trained(self) -> "RunKey":
        """The run whose checkpoints the tables are about. The primer has none, and task sets have
        their own."""
        kind = ("regression" if self.kind not in OF_LANGUAGE else
                self.kind if self.kind in LAYERS else "language-2layer")
        return RunKey.of(kind, self.preset, self.seed, residual=self.residual, corpus=self.corpus)

    @property
    def evaluated(self) -> "RunKey":
        """The same tables with the preset's sampler: all samplers share their evaluation."""
        return replace(self, sampler=())

    def own(self, runs=None) -> Path:
        """Where its tables lie in a runs directory."""
        return Path(runs or runs_directory()) / self.preset / self.folder

    @property
    def committed(self) -> Path:
        """Where its tables lie in the repository, if they do."""
        return COMMITTED / self.preset / self.folder

    def checkpoints(self, runs=None) -> Path:
        """Where its model's checkpoints lie in a runs directory."""
        return self.trained.own(runs) / "checkpoints"

    @property
    def packed(self) -> Path:
        """The few checkpoints of its model that the repository keeps, if it does."""
        return CHECKPOINTS / self.preset / f"{self.trained.folder}.safetensors"


def finished(preset, runs=None) -> list[RunKey]:
    """The finished tables of a preset in a runs directory (default: the committed ones). Folders
    of other names are no tables."""
    places = (Path(runs or COMMITTED) / preset).glob(f"*/{MANIFEST}")
    found = [RunKey._read(preset, place.parent.name) for place in places]
    return sorted(filter(None, found), key=lambda key: (key.stem, key.seed))


def seeds_of(preset, stem, runs=None) -> list[int]:
    """The seeds of which tables with this stem are finished (see `finished`)."""
    return [key.seed for key in finished(preset, runs) if key.stem == stem]


# ------------------------------------------------------------------------------- reruns of pages


def rerun_folder(preset, seed, settings=()) -> str:
    """The folder of a page run anew: preset, seed, and the parameters that are not the page's own
    in the order of their names. Values that do not make a file name are shortened, with eight
    digits of their hash."""
    parts = [f"{key}={_slug(value)}" for key, value in sorted(dict(settings).items())]
    return "-".join([f"{preset}-seed{check_seed(seed)}", *parts])


def parse_rerun(folder) -> tuple[str, int, dict[str, str]]:
    """Preset, seed and parameters, as text, of such a folder. Raises UserError for a name that is
    none."""
    match = re.fullmatch(rf"({'|'.join(presets.PRESETS)})-seed([0-9]+)((?:-\w+=[\w.+-]+?)*)",
                         str(folder))
    if not match:
        raise UserError(f"{str(folder)!r} is no folder of a rerun: their names are like "
                        "laptop-seed0 or laptop-seed0-eps=0.0001")
    return match[1], int(match[2]), dict(re.findall(r"-(\w+)=(.+?)(?=-\w+=|$)", match[3]))


def _slug(value) -> str:
    text = str(value)
    plain = re.sub(r"[^\w.+-]", "_", text)[:LONGEST]
    return plain if plain == text else f"{plain}.{sha256(text.encode())[:8]}"
