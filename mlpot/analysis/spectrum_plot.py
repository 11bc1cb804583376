"""A picture of spectra with their error bands."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from ..report.plots import BLUE, GREY, RED
from .spectra import Spectrum


def spectrum_figure(spectra: Sequence[Spectrum]) -> Figure:
    """One panel for each spectrum: the line, and bands of one standard deviation of statistics and model."""
    figure = Figure(figsize=(8, 3.2 * len(spectra)), layout="constrained")
    for panel, one in zip(figure.subplots(len(spectra), 1, squeeze=False)[:, 0], spectra, strict=True):
        for errors, colour, label in ((one.statistical, GREY, "statistics"), (one.model, RED, "model")):
            if errors is not None:
                panel.fill_between(one.wavenumbers, one.values - errors, one.values + errors, color=colour, alpha=0.35, label=label)
        panel.plot(one.wavenumbers, one.values, color=BLUE, linewidth=1.0, label=one.kind)
        panel.set(xlabel="wavenumber / (1/cm)", ylabel=one.unit, xlim=(0, min(4500, one.wavenumbers[-1])))
        panel.legend(fontsize=8)
    return figure
