"""The released runs drawn behind our own curves: the mean and range of the five regression seeds,
or the one run of a language model (data/released)."""

from companion.claims import seeds

GREY = "0.45"  # no colour of ours
LABEL = "released, five seeds: mean and range"
ONE = "released, one run of other text and batches"


def behind(ax, *curves, last=None, of="regression", named=True):
    """Draws released curves (names of our tables' columns) behind what an axis shows, up to the
    step `last` (default: as far as the axis goes). `of` names the model: that of the regression, or
    the kind of a language model's tables. A legend that is there names them once, unless `named` is
    off, where it has no room. Raises UserError for a curve that was not released."""
    low, high = ax.get_xlim()
    for number, name in enumerate(curves):
        known = seeds.curve(name, high if last is None else last, of)
        several = "least" in known
        label = None if number or not named else LABEL if several else ONE
        if several:
            ax.fill_between(known.step, known.least, known.greatest, color=GREY, alpha=0.3, lw=0,
                            zorder=1, label=label)
        ax.plot(known.step, known["mean"], color=GREY, lw=0.9, zorder=1,
                label=None if several else label)
    ax.set_xlim(low, high)
    if named and (legend := ax.get_legend()) is not None:
        handles, labels = ax.get_legend_handles_labels()
        ax.legend(handles, labels, fontsize=legend.get_texts()[0].get_fontsize(),
                  ncols=legend._ncols, loc=legend._loc, frameon=legend.get_frame_on())
