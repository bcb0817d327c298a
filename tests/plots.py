# pyright: reportMissingImports=false
"""Draws shares of a limit as a picture."""

from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib import pyplot


def write(path: Path, figures: list[Any]) -> None:
    mpl.use("Agg")
    picture, axes = pyplot.subplots(figsize=(8, 0.6 * len(figures) + 1), layout="constrained")
    for place, figure in enumerate(reversed(figures)):
        axes.barh(place, figure.median, color="#4063d8")
        axes.plot([min(figure.values), max(figure.values)], [place, place], color="black", marker="|")
    axes.set_yticks(range(len(figures)), [figure.name for figure in reversed(figures)])
    axes.set_xlabel("percent of the limit; the line is the spread of the rounds")
    axes.spines[["top", "right"]].set_visible(False)
    picture.savefig(path, dpi=110, metadata={"Software": None})
