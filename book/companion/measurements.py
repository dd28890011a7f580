"""What is measured, in which version, and by which code.

Raise a measurement's version when its code finds other numbers, or other columns, for the same
settings. The version is a part of the key of every piece that a runs directory keeps of it, and of
the manifest of the tables made of it, so that `recompute` measures anew and old and new rows never
mix. Version 1 is left out of both: pieces and tables from before there were versions are of version
1. Tables that the repository holds are read whatever their version.

tests/companion/test_measurements.py fails while the code that a measurement rests on is not that on
record.
"""

from typing import NamedTuple


class Versioned(NamedTuple):
    """A version, and where the code begins, as MODULE:NAME. All that it uses counts, wherever it
    lies."""

    version: int
    begins: tuple[str, ...]


MEASUREMENTS = {
    "evaluation": Versioned(1, ("companion.regression:measure_evaluation",)),
    "LLC": Versioned(1, ("companion.regression:measure_llc",)),
    "metrics": Versioned(1, ("companion.regression:measure_behaviour",
                             "companion.regression:measure_structure",
                             "companion.regression:measure_heads")),
    "blocks": Versioned(1, ("companion.regression:measure_blocks",)),
    "path": Versioned(1, ("companion.regression:path_tables",)),
    "Hessian": Versioned(1, ("companion.regression:measure_hessian",
                             "companion.checkpoint_rows:hessian_row",
                             "companion.checkpoint_rows:density_rows")),
    "protocols": Versioned(1, ("companion.protocols:measure_starts",
                               "companion.protocols:measure_long",
                               "companion.protocols:measure_prior",
                               "companion.protocols:measure_small",
                               "companion.protocols:measure_profile")),
    "task sets": Versioned(1, ("companion.pages.task_sets:train_and_measure",)),
    "calibration": Versioned(1, ("companion.pages.calibration:run_job",)),
    "curvature": Versioned(2, ("companion.pages.calibration:curvature",)),
    "proposal": Versioned(2, ("companion.pages.calibration:propose",)),
    "fidelity": Versioned(1, ("companion.pages.fidelity_tables:measure",)),
    "primer": Versioned(1, ("companion.pages.primer:compute",)),
    "language metrics": Versioned(2, ("companion.language:measure_metrics",)),
    "language patterns": Versioned(1, ("companion.language:measure_patterns",)),
    "language LLC": Versioned(1, ("companion.language:measure_llc",)),
    "language protocols": Versioned(1, ("companion.protocols_language:measure_target",
                                        "companion.protocols_language:measure_long",
                                        "companion.protocols_language:measure_profile",
                                        "companion.readings_language:measure_readings")),
    "language path": Versioned(1, ("companion.language:path_tables",)),
    "language changes": Versioned(1, ("companion.language:change_tables",)),
}

_LANGUAGE = ("language metrics", "language patterns", "language LLC", "language path",
             "language changes")
TABLES = {"regression": ("evaluation", "LLC"), "evaluation": ("evaluation",),
          "development": ("metrics", "path"),
          "blocks": ("blocks",), "hessian": ("Hessian",), "check": ("LLC",),
          "protocols": ("protocols",), "task-sets": ("task sets",),
          "calibration": ("calibration", "curvature", "proposal"), "fidelity": ("fidelity",),
          "primer": ("primer",), "language-2layer": _LANGUAGE, "language-1layer": _LANGUAGE,
          "language-protocols": ("language protocols",)}


def version_key(name) -> dict:
    """What a measurement's version adds to the settings in the key of a piece."""
    version = MEASUREMENTS[name].version
    return {} if version == 1 else {"version": version}


def versions(kind) -> dict[str, int]:
    """The versions that the tables of a kind are made by now, those above 1."""
    return {name: MEASUREMENTS[name].version for name in TABLES[kind]
            if MEASUREMENTS[name].version > 1}
