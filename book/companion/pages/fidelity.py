"""Where the paper, its released code and results, and this book differ: the page's tables.

What needs a model is computed once (`fidelity`, companion.pages.fidelity_tables); the rest is read
off the tables of the runs, and off the few released numbers of data/released.json.
"""

import functools
import html
import json

import numpy as np
import pandas as pd

from companion import presets, results
from companion.artefact import predicted_shift
from companion.claims.ledger import on_tables
from companion.claims.text import number, wanted
from companion.measurements import version_key
from companion.places import project_root
from companion.runs import RunKey, seeds_of
from companion.seeds import at_steps, spread
from devlib.boundaries import Rule
from devlib.process import LEAST_NOISE
from devlib.settings import as_dict, replace
from devlib.steps import nearest_each, schedule, thin

RELEASED = project_root() / "data" / "released.json"
STEPS = (984, 4_232, 126_262, 499_999)  # of the paper's run; the nearest kept ones are measured
TOLERANCES = (0.25, 2.0, 4.0, 8.0, 16.0)  # the language model's, in code and in a comment; ours


def fidelity(preset: str, seed: int, recompute=False, reuse=False) -> results.Results:
    """Tables "burn_in", "order", "gamma" (one row a step, or a reading and step), "traces" (every
    draw) and "probes" of a few checkpoints of the regression run, with its own LLC settings (see
    `results.load_or_compute`). They are among the checkpoints that the repository keeps, so that
    with `reuse` the committed ones are measured and nothing is trained."""
    key = RunKey.of("fidelity", preset, seed)
    settings, chosen = key.settings, presets.get(preset)

    def compute(place, timed):
        # torch, only where something is computed
        from companion import curve
        from companion.pages.fidelity_tables import measure

        store = results.packed(key) if reuse else results.checkpoints(key, timed)
        steps = nearest_each(thin(store.steps, chosen.kept), STEPS)
        facts = {"task": as_dict(settings.task), "llc": as_dict(settings.llc),
                 "hessian": as_dict(chosen.hessian), "seed": seed,
                 **version_key("fidelity")}
        one = functools.partial(measure, settings, chosen.hessian, seed)
        return timed("fidelity", lambda: curve.tables(one, store, steps, place / "rows", facts,
                                                      "fidelity of checkpoints"))

    return results.load_or_compute(key, {
        "regression": as_dict(settings), "hessian": as_dict(chosen.hessian), "steps": STEPS},
        recompute, compute, page="13_fidelity")


def largest(stem, preset, seed, recompute=False) -> tuple[str, int]:
    """Preset and seed of the tables of this stem (companion.runs) to take evidence from: the
    largest preset, from `preset` on, of which the repository holds any; of it `seed` itself, or
    else the lowest. The two given ones if there is none, or with `recompute`."""
    names = list(presets.PRESETS)
    if recompute or preset not in names:
        return preset, seed
    for name in reversed(names[names.index(preset):]):
        if found := seeds_of(name, stem):
            return name, seed if seed in found else found[0]
    return preset, seed


@functools.cache
def released() -> dict:
    """The released numbers that the page quotes, each group with its source in words."""
    return json.loads(RELEASED.read_text())


# --------------------------------------------------------------------- the language models' LLC


def artefact_table(llc: pd.DataFrame, nbeta, chains, draws) -> pd.DataFrame:
    """What the authors' running estimator makes of our own draws (companion.artefact): step, the
    estimate from all draws against the true init loss, the running one, their difference, the
    predicted one, and the spread between chains over the predicted. One row a row of an LLC
    table."""
    shift, spread = predicted_shift(nbeta, chains, draws, 1.0)
    return pd.DataFrame({
        "step": llc.step, "true": llc.llc_plain, "mcse": llc.mcse_whole_set,
        "running": llc.llc_running, "added": llc.llc_running - llc.llc_plain,
        "predicted": shift * llc.init_loss,
        "spread_ratio": llc.sd_running / (spread * llc.init_loss)})


def artefact_removed(nbeta, chains, draws) -> pd.DataFrame:
    """The released LLC of the two-layer model at the stage ends less the predicted shift, beside
    what removing the artefact gave when the released files were recomputed."""
    given = released()["llc_language_2layer"]
    table = pd.DataFrame({name: given[name] for name in ("step", "loss", "llc", "corrected")})
    shift, _ = predicted_shift(nbeta, chains, draws, 1.0)
    return table.assign(removed=table.llc - shift * table.loss).rename(columns={"llc": "released"})


# ----------------------------------------------------------------------------------- boundaries


def authors_rule(settings) -> Rule:
    """The authors' rule: the same kernel and bounds, no noise term."""
    return Rule(settings, noise="none")


def one_early(found, steps) -> list[int]:
    """Boundaries as the released code prints them, by the checkpoint before each."""
    steps = sorted(int(step) for step in steps)
    return [steps[max(0, steps.index(step) - 1)] for step in found]


def paper_schedule() -> list[int]:
    """The steps of the paper's regression checkpoints."""
    training = presets.PAPER.regression.training
    return schedule(training.steps, training.log_checkpoints, training.linear_checkpoints)


def slip_table(llc: pd.DataFrame, settings) -> pd.DataFrame:
    """Boundaries of a curve by the authors' rule, as found and as printed by their code."""
    rule = authors_rule(settings)
    found = rule.boundaries(rule.curve(llc))
    printed = one_early(found, llc.step)
    return pd.DataFrame({"found": found, "printed": printed,
                         "factor": [(a + 1) / (b + 1) for a, b in zip(printed, found,
                                                                      strict=True)]})


def condition_number(llc: pd.DataFrame, settings) -> float:
    """Of the system that the authors' rule solves on a curve's checkpoints: the greatest eigenvalue
    of the process's covariance over the least noise, which bounds the smallest from below."""
    kernel, x = authors_rule(settings).curve(llc).kernel, np.log1p(llc.step.to_numpy())
    covariance = kernel.amplitude * np.exp(-((x[:, None] - x) / kernel.length) ** 2 / 2)
    return float(np.linalg.norm(covariance, 2) / LEAST_NOISE)


def kernel_table(llc: pd.DataFrame, settings) -> pd.DataFrame:
    """The fitted kernel of each choice of noise: amplitude, length scale, and which of them lies
    on a bound."""
    bounds = {"amplitude": (settings.amplitude_low, settings.amplitude_high),
              "length": (settings.length_low, settings.length_high)}
    rows = []
    for noise in ("none", "errors"):
        kernel = Rule(settings, noise=noise).curve(llc).kernel
        values = {"amplitude": kernel.amplitude, "length": kernel.length}
        on = [name for name, value in values.items()
              if np.isclose(value, bounds[name], rtol=1e-3).any()]
        rows.append({"noise": noise, **values, "on a bound": ", ".join(on) or "none"})
    return pd.DataFrame(rows)


def tolerance_table(llc: pd.DataFrame, settings, tolerances=TOLERANCES) -> pd.DataFrame:
    """The boundaries at each tolerance, by the authors' rule and with the estimates' own errors
    as noise: tolerance, noise, count, boundaries."""
    rows = []
    for noise in ("none", "errors"):
        curve = Rule(settings, noise=noise).curve(llc)
        for tolerance in tolerances:
            found = Rule(replace(settings, tolerance=tolerance), noise).boundaries(curve)
            rows.append({"noise": noise, "tolerance": tolerance, "count": len(found),
                         "boundaries": " ".join(map(str, found))})
    return pd.DataFrame(rows)


# --------------------------------------------------------------------------- residual, baseline


def residual_table(runs: dict, short: dict) -> pd.DataFrame:
    """Loss, weight norm and LLC of every regression run beside the released ones and the pilot's,
    at the released steps within each run. `runs`: (residual, seed) -> results; `short`: the same
    of runs that are shown together, least and greatest over the seeds (of the LLC mean and sd)."""
    rows = []
    for group, name in (("residual_regression", "released"), ("residual_pilot", "pilot")):
        rows += [{"who": name, "residual": row.get("residual", "?"), "step": row["step"],
                  "loss": _range(row.get("loss")), "weight norm": _range(row.get("weight_norm")),
                  "LLC": _with_error(row.get("llc"), row.get("llc_sd"))}
                 for row in released()[group]["rows"]]
    steps = sorted({row["step"] for row in rows})
    if short:
        rows += [{"who": f"ours, {row.seeds} seeds", "residual": row.residual, "step": row.step,
                  "loss": _range((round(row.loss_least, 2), round(row.loss_greatest, 2))),
                  "weight norm": _range((round(row.weight_norm_least, 1),
                                         round(row.weight_norm_greatest, 1))),
                  "LLC": _with_error(round(row.llc_mean, 1), round(row.llc_sd, 1))}
                 for row in spread(at_steps(short, steps)).itertuples()]
    rows += [{"who": f"ours, seed {row.seed}", "residual": row.residual, "step": row.step,
              "loss": f"{row.loss:.3f} +- {row.loss_se:.3f}",
              "weight norm": f"{row.weight_norm:.1f}",
              "LLC": "" if np.isnan(row.llc) else f"{row.llc:.1f} +- {row.mcse:.1f}"}
             for row in at_steps(runs, steps).itertuples()]
    return pd.DataFrame(rows)


def verdict_table(runs: dict, *ids) -> pd.DataFrame:
    """Claims with their numbers, one row each, measured on several runs: claim, what, wanted, and
    of each run a column with the value, its error, and the verdict. What is wanted has the first
    run's own error in it. `runs`: name -> tables as for `claims.on_tables`."""
    rows = {}
    for name, tables in runs.items():
        for key, judged in on_tables(*ids, **tables).items():
            for m in judged.rows:
                row = rows.setdefault((key, m.row.what), {
                    "claim": key, "what": m.row.what, "wanted": wanted(m)})
                row[name] = m.verdict if m.value is None else (
                    f"{number(m.value, m.error)}: {m.verdict}")
    return pd.DataFrame(list(rows.values()))


def _range(values):
    if values is None:
        return ""
    low, high = values
    return f"{low}" if low == high else f"{low} to {high}"


def _with_error(value, sd):
    return "" if pd.isna(value) else f"{value}" if pd.isna(sd) else f"{value}, sd {sd}"


def baseline_gain(llc: pd.DataFrame) -> pd.Series:
    """How many times fewer draws give the same error with the loss of w0 on the draw's own batch,
    instead of on the whole set: the squared ratio of the errors, one a step."""
    return (llc.mcse_whole_set / llc.mcse) ** 2


# ------------------------------------------------------------------------------ the table on top


def summary(rows: list[dict]) -> str:
    """The page's first table as HTML: "what" leads to its section; the other columns are where
    the difference lies, what this book does, and how large it is. Each row has keys what, anchor,
    where, here, size."""
    heads = {"what": "what", "where": "where", "here": "here", "size": "size"}

    def cell(row, key):
        text = html.escape(str(row[key]))
        if key == "what":
            text = f'<a href="#{html.escape(row["anchor"])}">{text}</a>'
        return f'<td data-label="{heads[key]}">{text}</td>'

    body = "\n".join(f"<tr>{''.join(cell(row, key) for key in heads)}</tr>" for row in rows)
    head = "".join(f'<th scope="col">{title}</th>' for title in heads.values())
    return (f'<table class="fidelity-table"><thead><tr>{head}</tr></thead>\n'
            f"<tbody>\n{body}\n</tbody></table>")


def best_heads(prefix: pd.DataFrame) -> pd.DataFrame:
    """A row a checkpoint of the prefix-matching scores by both readings: the head that scores most
    by each, with its score and error."""
    rows = []
    for step, part in prefix.groupby("step"):
        row = {"step": step}
        for name, words in (("after", "code: token after A"), ("itself", "text: A itself")):
            best = part.loc[part[name].idxmax()]
            row[words] = f"{best[name]:.3f} ± {best[f'{name}_se']:.3f}"
            row[f"head, {name}"] = f"{best.layer:.0f}:{best['head']:.0f}"
        rows.append(row)
    return pd.DataFrame(rows)
