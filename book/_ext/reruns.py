"""Every run that there is beside every other: the directive of the page of reruns.

    ```{reruns} runs
    ```

`runs` lists them, `claims` shows the verdicts, claims by runs, and `numbers` what they rest on. A
reader's own runs come first, then those of the book. A metrics.json that is damaged is named and
left out: it breaks no build.
"""

from docutils import nodes
from docutils.parsers.rst import directives
from preset_tables import table, written
from sphinx.util.docutils import SphinxDirective

NOTHING = "\u2013"  # where a run did not measure
OWN, BOOK, SHIPPED = "yours", "the book's tables", "in the repository"


def parts(argument):
    return directives.choice(argument, ("runs", "claims", "numbers"))


class Reruns(SphinxDirective):
    required_arguments = 1

    def run(self):
        self.env.note_reread()  # a new run makes no file of the book newer
        found = everything()
        return {"runs": list_runs, "claims": list_claims, "numbers": list_numbers}[
            parts(self.arguments[0])](*found)


def everything():
    """(run, whose) of every run, and the words on damaged ones."""
    from companion.places import runs_directory
    from companion.site import reruns

    own, shipped = reruns.collect(runs_directory()), reruns.collect(reruns.COMMITTED)
    return ([*((run, OWN) for run in own.runs), *((run, BOOK) for run in reruns.of_the_book()),
             *((run, SHIPPED) for run in shipped.runs)], own.damaged + shipped.damaged)


def list_runs(runs, damaged):
    """The runs with their numbers, and a line on each that could not be read."""
    rows = [[str(number), nodes.literal(text=run.name), whose, *facts(run)]
            for number, (run, whose) in enumerate(runs, 1)]
    return [table(["no.", "run", "whose", "pages", "when", "commit", "seconds"], rows),
            *(nodes.paragraph(text=f"Left out: {line}.") for line in damaged)]


def facts(run):
    """Pages, when, commit and seconds of a run, each with a dash where nothing was noted."""
    pages = [nodes.Text(f"{name.split('_')[0]}{' (failed)' if page['failed'] else ''}")
             for name, page in sorted(run.pages.items())]
    last = max(run.pages.values(), key=lambda page: page["when"], default={})
    seconds = sum(page["seconds"] for page in run.pages.values())
    return [", ".join(map(str, pages)) or NOTHING, last.get("when", NOTHING)[:10],
            nodes.literal(text=last["commit"]) if last.get("commit") else NOTHING,
            written(round(seconds)) if run.pages else NOTHING]


def list_claims(runs, damaged):
    """Claims by runs: the verdict on each whole claim."""
    return compare([run for run, _ in runs], lambda number: number["id"],
                   lambda number: [nodes.literal(text=number["id"]),
                                   nodes.Text(f" {number['claim']}")],
                   lambda number: [number["claim_verdict"]], "claim_verdict")


def list_numbers(runs, damaged):
    """Numbers by runs: what was measured, its standard error, and the verdict on it."""
    return compare([run for run, _ in runs], lambda number: (number["id"], number["what"]),
                   lambda number: [nodes.literal(text=number["id"]), nodes.Text(
                       f" {number['what']}: {number['wanted']}; effect "
                       f"{written(number['effect'])}")],
                   lambda number: [measured(number), number["verdict"]], "verdict")


def compare(runs, key, head, cell, verdict):
    """A sentence on what flips, and the table, a column for each run."""
    from companion.site.reruns import flips

    flipped = flips(runs, key, verdict)
    heads = {key(number): head(number) for run in runs for number in run.claims}
    columns = [{key(number): number for number in run.claims} for run in runs]
    rows = []
    for name, title in heads.items():
        first = nodes.inline("", "", *title)
        if name in flipped:
            first += [nodes.Text(" "), nodes.strong(text=f"\u21c4 {flipped[name]}")]
        rows.append([first, *(verdict_cell(column.get(name), cell, name in flipped)
                              for column in columns)])
    if not rows:
        return [nodes.paragraph(text="No run has measured a claim yet.")]
    ids = sorted({name if isinstance(name, str) else name[0] for name in flipped})
    said = (f"Verdicts that are not the same in every run: {', '.join(ids)}." if ids else
            "No verdict flips between these runs.")
    shown = table(["claim", *(f"run {number}" for number in range(1, len(runs) + 1))], rows)
    shown["classes"].append("claims-by-runs")
    return [nodes.paragraph(text=said), shown]


def verdict_cell(number, cell, bold):
    if number is None:
        return NOTHING
    text = nodes.Text("; ".join(filter(None, cell(number))))
    return nodes.strong("", "", text) if bold else text


def measured(number):
    """0.131 +- 0.004, or nothing where a run could not tell."""
    if number["measured"] is None:
        return ""
    error = "" if number["error"] is None else f" \u00b1 {number['error']:.2g}"
    return f"{written(number['measured'])}{error}"


def setup(app):
    app.add_directive("reruns", Reruns)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
