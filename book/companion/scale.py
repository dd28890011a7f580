"""How far a run is from the paper's scale, in words, from its settings and the paper's."""

from companion import presets
from devlib.settings import as_dict

MODELS = {"regression": "regression", 2: "language", 1: "one_layer"}  # fields of a Preset


def model_of(settings: dict) -> str | None:
    """Which of a preset's models a manifest's settings belong to: "regression", "language" (two
    layers) or "one_layer"; None if nothing was trained."""
    settings = of_model(settings)
    if "training" not in settings:
        return None
    return MODELS[settings["model"]["layers"] if "context" in settings["model"] else "regression"]


def of_model(settings: dict) -> dict:
    """The part of a manifest's settings that is about the model and its training."""
    return settings.get("regression") or settings.get("language") or settings


def steps_are_the_papers(settings: dict) -> bool:
    """Whether a step of a language run, by a manifest's settings, is one of the paper's run: the
    same model but for layers and context, by the same optimiser at the same rate. What the paper
    says *when* can then be held against it; what owes to the text or to the number of tokens in
    a batch cannot."""
    paper = as_dict(presets.PAPER.language)
    return all(settings[part][name] == paper[part][name] for part, names in {
        "training": ("lr", "warmup", "weight_decay", "beta1", "beta2"),
        "model": ("heads", "embed_dim", "head_dim", "vocabulary", "init_sd")}.items()
        for name in names)


def share(ours, paper) -> str:
    """A number beside the paper's: "all", or "1/79"."""
    if ours >= paper:
        return "all"
    ratio = paper / ours
    return f"1/{ratio:,.0f}" if ratio < 1000 else f"1/{float(f'{ratio:.3g}'):,.0f}"


def scale(settings: dict, tables=()) -> list[str]:
    """The shares of the paper's training tokens and, if `tables` holds "llc", of its samples in
    one LLC estimate, that tables made with these settings rest on; empty if nothing was trained."""
    model = model_of(settings)
    if model is None:
        return []
    paper = as_dict(getattr(presets.PAPER, model))
    ours = of_model(settings)
    if "task_sets" in settings:
        stop = settings["task_sets"]["stop"]
        part = share(_tokens(ours, stop), _tokens(paper))
        return [f"{part} of the paper's training tokens on each finite task set"]
    found = [f"{share(_tokens(ours), _tokens(paper))} of the paper's training tokens"]
    if "llc" in tables:
        most = "at most " if ours["llc"]["precision"] else ""
        part = share(_samples(ours["llc"]), _samples(paper["llc"]))
        found.append(f"{most}{part} of its samples in an LLC estimate")
    return found


def _tokens(settings, stop=None):
    """Tokens read in training: two for each example of a regression context."""
    training, model = settings["training"], settings["model"]
    context = model.get("context") or 2 * settings["task"]["examples"]
    return (stop or training["stop"]) * training["batch"] * context


def _samples(llc):
    return llc["chains"] * llc["draws"] * llc["batch"]
