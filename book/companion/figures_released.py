"""The released five seeds drawn behind our own curves: their mean and range (data/released)."""

from companion.claims import seeds

GREY = "0.45"  # no colour of ours
LABEL = "released, five seeds: mean and range"


def behind(ax, *curves, last=None):
    """Draws released curves (names of our tables' columns) behind what an axis shows, up to the
    step `last` (default: as far as the axis goes). A legend that is there names them once. Raises
    UserError for a curve that was not released."""
    low, high = ax.get_xlim()
    for number, name in enumerate(curves):
        known = seeds.curve(name, high if last is None else last)
        ax.fill_between(known.step, known.least, known.greatest, color=GREY, alpha=0.3, lw=0,
                        zorder=1, label=None if number else LABEL)
        ax.plot(known.step, known["mean"], color=GREY, lw=0.9, zorder=1)
    ax.set_xlim(low, high)
    if (legend := ax.get_legend()) is not None:
        handles, labels = ax.get_legend_handles_labels()
        ax.legend(handles, labels, fontsize=legend.get_texts()[0].get_fontsize(),
                  ncols=legend._ncols, loc=legend._loc, frameon=legend.get_frame_on())
