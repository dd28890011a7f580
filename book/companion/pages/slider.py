"""Sliders through training: curves, stage, attention and a prediction of a model at each step.

One piece of HTML with its own data, style and script (slider.html), which asks nothing of the
network, so that it works in the book, from disk, in a rerun and in Colab.
"""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from companion.figures import BAND_ALPHA, BLUE, VERMILLION, stage_colour
from companion.figures_development import pattern
from devlib.regression.model import build_model
from devlib.steps import nearest

TEMPLATE = Path(__file__).with_name("slider.html")
DIGITS = {"loss": 3, "llc": 1}  # that a reader is shown


def mean_patterns(store, steps, settings, xs, ys) -> np.ndarray:
    """Mean attention over the contexts xs (B, K, D), ys (B, K) at the checkpoints of these
    steps, by block and head, rows are queries: (S, L, H, T, T)."""
    model, found = build_model(settings, seed=0), []
    with torch.no_grad():
        for step in steps:
            model.load_state_dict(store.load(step))
            found.append(model.attention(xs, ys).mean(1))
    return torch.stack(found).numpy()


def predictions(store, steps, settings, xs, ys) -> np.ndarray:
    """What the checkpoints of these steps predict for each y of one context xs (K, D), ys (K):
    (S, K)."""
    model, found = build_model(settings, seed=0), []
    with torch.no_grad():
        for step in steps:
            model.load_state_dict(store.load(step))
            found.append(model(xs[None], ys[None])[0])
    return torch.stack(found).numpy()


def slider_data(evaluation: pd.DataFrame, llc: pd.DataFrame, stages: pd.DataFrame, pattern_steps,
                patterns, targets=(), predicted=()) -> dict:
    """What the regression model's slider shows, at each step that has an LLC.

    Test loss and LLC with their standard errors; the stages, each with its colour; the mean
    attention (S, L, H, T, T) of `pattern_steps`, in per cent below the diagonal, and which of
    those is nearest to each step in log(step + 1); of one context the `targets` (K) and what those
    checkpoints have `predicted` (S, K). The slider starts where the first stage ends.
    """
    names = [f"block {block + 1}, head {head + 1}"
             for block in range(patterns.shape[1]) for head in range(patterns.shape[2])]
    flat = patterns.reshape(len(patterns), -1, *patterns.shape[-2:])
    return _curves(evaluation, llc, stages) | _patterns(
        pattern_steps, names, flat, llc.step, columns=patterns.shape[2]) | {
        "targets": np.round(targets, 2).tolist(), "predicted": np.round(predicted, 2).tolist()}


def language_data(behaviour: pd.DataFrame, llc: pd.DataFrame, stages: pd.DataFrame,
                  heads: pd.DataFrame, texts: dict, patterns: pd.DataFrame | None) -> dict:
    """What the language model's slider shows: curves and stages as in `slider_data`; of each head
    the previous-token and the prefix-matching score at the nearest step that has them; of each
    stage a text as HTML; and the attention of two heads, where the run has the table."""
    steps = sorted(heads.step.unique())
    names = {"previous": "previous token", "prefix": "prefix matching"}
    ordered = heads.sort_values(["step", "layer", "head"])
    first = ordered[ordered.step == steps[0]]
    attention = {}
    if patterns is not None:
        shown = sorted(patterns.step.unique())
        pairs = sorted({*zip(patterns.layer, patterns["head"], strict=True)})
        attention = _patterns(shown, [f"head {layer}:{head}" for layer, head in pairs],
                              np.array([[pattern(patterns, step, *pair) for pair in pairs]
                                        for step in shown]), llc.step, columns=len(pairs))
    return _curves(behaviour, llc, stages) | attention | {
        "score_heads": [f"{row.layer}:{row.head}" for row in first.itertuples()],
        "score_at": _nearest(steps, llc.step), "score_steps": [int(step) for step in steps],
        "scores": {title: ordered[name].to_numpy().reshape(len(steps), -1).round(2).tolist()
                   for name, title in names.items()},
        "texts": texts}


def _curves(loss: pd.DataFrame, llc: pd.DataFrame, stages: pd.DataFrame) -> dict:
    """Curves and stages, which both sliders show."""
    loss = loss.set_index("step").loc[llc.step]
    steps = llc.step.to_numpy()
    return {
        "steps": steps.tolist(), "start": int(np.searchsorted(steps, stages.end.iloc[0])),
        "curves": [_curve("test loss", loss.loss, loss.loss_se, BLUE, DIGITS["loss"]),
                   _curve("LLC", llc.llc, llc.mcse, VERMILLION, DIGITS["llc"])],
        "stages": [{"name": row.stage, "start": row.start, "end": row.end,
                    "colour": stage_colour(row.stage)} for row in stages.itertuples()],
        "band": BAND_ALPHA}


def _patterns(steps, names, attention, at, columns) -> dict:
    """Attention (S, P, T, T) of the named heads, in per cent below the diagonal, so many beside
    one another; and which of its steps is nearest to each of those of the slider."""
    rows, keys = np.tril_indices(attention.shape[-1])
    return {"columns": columns, "tokens": attention.shape[-1], "pattern_names": names,
            "pattern_steps": [int(step) for step in steps], "pattern_at": _nearest(steps, at),
            "patterns": np.rint(100 * attention[..., rows, keys]).astype(int).tolist()}


def _nearest(known, steps) -> list[int]:
    """Which of the known steps is nearest to each, in log(step + 1)."""
    known = list(known)
    return [known.index(nearest(known, step, log=True)) for step in steps]


def slider(data: dict):
    """The slider as something a notebook displays."""
    text = json.dumps(data, separators=(",", ":")).replace("</", "<\\/")  # ends no script
    return _Slider(TEMPLATE.read_text(encoding="utf-8").replace("__DATA__", text))


class _Slider:
    """HTML to display, with a text form that is the same every time."""

    def __init__(self, html):
        self._html = html

    def _repr_html_(self):
        return self._html

    def __repr__(self):
        return "<slider>"


def _curve(name, values, errors, colour, digits):
    return {"name": name, "values": values.round(digits).tolist(),
            "errors": errors.round(digits).tolist(), "colour": colour, "digits": digits}
