"""Made-up tables that hold the paper's and the released numbers, for the tests of the ledger."""

import numpy as np
import pandas as pd

from companion.claims import measures_development, seeds
from companion.results import save
from companion.runs import LAYERS, OF_REGRESSION, RunKey
from devlib.settings import as_dict


def through(nodes, steps):
    """A curve through {step: value}, straight between them in log(step + 1)."""
    return np.interp(np.log1p(steps), np.log1p(list(nodes)), list(nodes.values()))


def steps_to(last, *special):
    """Steps spread over log(step + 1), the special ones among them."""
    spread = np.geomspace(1, last + 1, 40).round() - 1
    return np.array(sorted({*spread.astype(int), *special, last}))


ENDS = (0, 984, 40_292, 126_262, 318_181, 499_999)
LR_STEPS = steps_to(499_999, *ENDS, 1_673, 2_500, 10_101, 12_000, 14_000, 23_737, 101_010, 116_000,
                    172_000)


def of_seeds(curve):
    """The released seeds' mean curve at the steps of the made-up tables."""
    found = seeds.curve(curve)
    return through(dict(zip(found.step, found["mean"], strict=True)), LR_STEPS)


def estimates(steps, level, error):
    """A healthy table of LLCs: three chains, each with the same deviation at every checkpoint."""
    return pd.DataFrame({"step": steps, "llc": level, "mcse": error, "rhat": 1.01, "diverged": 0,
                         "escaping": 0, "ess": 500.0, "draws": 8_000, "burn_in": 3_000,
                         "init_loss": 4.0, **{
                             f"chain_{i}": level + off + 0.01 * i * np.log1p(steps)
                             for i, off in enumerate((-1, 0, 1))}})


def regression():
    """Tables of a regression run that holds the released seeds' means."""
    msp = {0: 0.3, 984: 0.03, 1_673: 0.0125, 40_292: 2.0, 499_999: 2.2}
    return {"evaluation": pd.DataFrame({
                "step": LR_STEPS, "loss": of_seeds("loss"), "loss_se": 1e-4, "msp_se": 1e-4,
                "msp": through(msp, LR_STEPS), "weight_norm": of_seeds("weight_norm")}),
            "llc": estimates(LR_STEPS, of_seeds("llc"), 0.05)}


def development():
    """Tables of Appendix D with the released numbers."""
    behaviour = {"step": LR_STEPS}
    for half in ("early", "late"):
        behaviour[f"icl_{half}"] = behaviour[f"icl_{half}_slip"] = of_seeds(f"icl_{half}")
    for family in ("input", "task"):
        for gain in (3, 5, 10, 100):  # with the noise of our own evaluation
            behaviour[f"ood_{family}_{gain}"] = of_seeds(f"ood_{family}_{gain}") + (
                measures_development.LOW_NOISE / gain**2)
    behaviour |= {f"{name}_se": 1e-4 for name in [*behaviour][1:]}
    fifth = through({0: 0.134, 40_292: 0.031, 101_010: 0.029, 499_999: 0.015}, LR_STEPS)
    rise = through({0: 0.3, 984: 0.3, 499_999: 0.8}, LR_STEPS)
    biases = through({0: 0, 984: 0, 101_010: 0.14, 499_999: 0.01}, LR_STEPS)
    structure = {"step": LR_STEPS, "embed_5": fifth,
                 **{f"embed_{i}": (1 - fifth) / 4 for i in range(1, 5)},
                 **{f"cosine_{i}": rise for i in range(1, 6)},
                 **{f"position_{i}": rise / 5 for i in range(1, 6)},
                 "unembed_ln_collapsed": through({0: 0, 80_808: 0.02, 126_262: 0.48,
                                                  318_181: 0.92, 499_999: 0.94}, LR_STEPS),
                 "unembed_ln_bias_mean": 0.0, "unembed_ln_bias_sd": biases,
                 "effective_mean": 0.0, "effective_sd": 0.1 + biases}
    for norm, share in zip(measures_development.NORMS.values(), (0.52, 0.16, 0.2, 0.02),
                           strict=True):
        structure |= {f"{norm}_collapsed": through({0: 0, 984: 0, 499_999: share}, LR_STEPS),
                      f"{norm}_bias_mean": 0.0, f"{norm}_bias_sd": biases}
    heads = pd.DataFrame({"step": 499_999, "self": 0.0, "previous": [0.95, 0, 0, 0.5],
                          "x": [1, 0.95, 0.05, 0.5], "y": [0, 0.05, 0.95, 0.5],
                          "variability": [0.01, 0.01, 0.01, 0.5]})
    turns = through(dict(zip(ENDS, (0, 1, -1, 1, -1, 0), strict=True)), LR_STEPS)
    path = pd.DataFrame({"step": LR_STEPS, "pc_1": turns, "pc_2": 0.0, "pc_3": 0.0})
    return {"behaviour": pd.DataFrame(behaviour), "structure": pd.DataFrame(structure),
            "heads": heads, "path": path}


def hessian():
    return {"statistics": pd.DataFrame({
        "step": LR_STEPS, "trace": of_seeds("trace"), "trace_se": 1.0, "eig_1": of_seeds("eig_1"),
        "residual_1": 0.1})}


def task_sets():
    return {"distances": pd.DataFrame([
        {"tasks": 2**k, "step": step, "zero": 0.1, "prior": 0.05, "zero_se": 1e-4,
         "prior_se": 1e-4} for k in (0, 2, 4, 6, 8, 10, 20) for step in (0, 1_000, 2_999)])}


LM_STEPS = steps_to(49_999, 0, 400, 700, 900, 2_000, 6_400, 6_500, 8_500, 17_000, 25_000)


def language(layers=2):
    """Tables of a language run with the released numbers."""
    def curve(nodes):
        return through(nodes, LM_STEPS)

    behaviour = {
        "loss": curve({0: 7.94, 900: 4.35, 6_500: 3.63, 8_500: 3.56, 17_000: 3.30, 49_999: 3.22}
                      if layers == 2 else
                      {0: 8.02, 900: 4.29, 2_000: 3.95, 2_500: 3.958, 49_999: 3.52}),
        "bigram": curve({0: 8, 700 if layers == 2 else 900: 4.618, 6_500: 5.32, 49_999: 5.92}),
        "ablation": curve({0: 0, 700: 0.009, 900: 0.031, 2_000: 0.35, 6_500: 0.80, 17_000: 1.41,
                           49_999: 1.62}),
        "ngram_2": curve({0: 1, 900: 1.09, 6_500: 1.34, 49_999: 1.46}),
        "ngram_3": curve({0: 1, 900: 1.07, 6_500: 2.84, 49_999: 4.05}),
        "ngram_4": curve({0: 1, 900: 0.99, 6_500: 2.29, 49_999: 3.97}),
        "icl": curve({0: 0, 6_500: -0.049, 8_500: -0.062, 12_000: -0.125, 17_000: -0.211,
                      49_999: -0.218})}
    behaviour["bigram_excess"] = behaviour["bigram"] - 4.288
    behaviour |= {f"{name}_se": 1e-3 for name in behaviour} | {"step": LM_STEPS}
    level = ({0: 42, 900: 105.3, 6_500: 135.2, 8_500: 134.3, 17_000: 145.7, 49_999: 148.2}
             if layers == 2 else {0: 10, 400: 72.67, 900: 71.8, 6_500: 90, 49_999: 100})
    previous = curve({0: 0.029, 6_500: 0.039, 12_000: 0.15, 17_000: 0.288, 49_999: 0.288})
    prefix = curve({0: 0.0104, 6_500: 0.008, 8_500: 0.01, 17_000: 0.074, 49_999: 0.074})
    heads = pd.concat([pd.DataFrame({
        "step": LM_STEPS, "layer": layer, "head": head,
        "previous": previous if (layer, head) == (1, 2) else 0.029,
        "prefix": prefix if (layer, head) == (2, 7) else 0.0104, "previous_se": 1e-4,
        "prefix_se": 1e-4}) for layer in (1, 2) for head in (2, 7)])
    # the mean of all pairs is that of these two, of which one is the circuit's
    ratio = curve({0: 1, 900: 1, 3_000: 1.5, 6_500: 1.8, 49_999: 1.9})
    pairs = pd.concat([pd.DataFrame({"step": LM_STEPS, "earlier_head": 2, "later_head": later,
                                     "k": 0.06 * (ratio if later == 7 else 2 - ratio)})
                       for later in (2, 7)])
    return {"behaviour": pd.DataFrame(behaviour),
            "llc": estimates(LM_STEPS, curve(level), 0.02),
            "structure": pd.DataFrame({"step": LM_STEPS, "position_pc_1": curve(
                {0: 0.05, 6_400: 0.943, 49_999: 0.9})}),
            "heads": heads, "composition": pairs,
            "corpus": pd.DataFrame({"source": ["all"], "bigram_loss": [4.288]})}


def calibration():
    steps = [118, 341, 862, 1_465, 2_490, 3_707, 6_299]
    table = pd.DataFrame({"step": steps, "llc": [0, 5, 19.0, 24, 40, 90, 150], "mcse": 1.0})
    return {"runs": pd.concat([table.assign(part="seeded"), table.assign(part="unseeded"),
                               table.assign(part="likelihood", llc=table.llc + 3)])}


def primer():
    """The exact examples, estimates one standard error off."""
    rows = [("A.2", "three quadratic directions", 1.5), ("A.2", "one of three unused", 1),
            ("A.2", "one quadratic, two quartic", 1), ("Fig. 2", "quadratic", 1),
            ("Fig. 2", "quartic", 0.5), ("Fig. 2", "crossing lines", 0.25),
            ("Fig. 2", "flat point beside a line", 0.25)]
    table = pd.DataFrame(rows, columns=["group", "potential", "llc"])
    return {"estimates": table.assign(limit=table.llc, reference=table.llc, mcse=0.01, ess=500,
                                      estimate=table.llc + 0.01)}


TABLES = {"development": development, "hessian": hessian, "regression": regression,
          "calibration": calibration, "primer": primer, "task-sets": task_sets,
          "language-2layer": language, "language-1layer": lambda: language(1)}


def put(root, preset, kind, seed, tables, about="regression", **settings):
    """Files tables as a finished run."""
    key = RunKey.of(kind, preset, seed)
    chains = {"eps": 3e-4, "gamma": 20 / 3, "nbeta": 200 / 3}
    model = (as_dict(key.settings) if kind in (*LAYERS, *OF_REGRESSION)
             else {"llc": {}})
    settings = {"toys": {"burn_in": 1_000, "eps": 1e-3, "gamma": 4.0}, **model,
                "llc": model["llc"] | chains} | settings
    save(key.own(root), tables,
         {"preset": preset, "seed": seed, "settings": settings, "seconds": {},
          "about": "language" if kind in LAYERS else about})
