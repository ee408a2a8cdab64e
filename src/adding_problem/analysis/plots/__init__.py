"""Pictures, drawn from records. matplotlib is loaded when a picture is drawn.

style.py        colours, axes, and the figure that is written when its block ends
one_run.py      losses of a run, its predictions, its losses over those of the original
comparison.py   runs by method and length
horizon.py      what each length of a horizon run cost
lengths.py      errors by run and tested length
"""

from adding_problem.analysis.plots.comparison import draw_comparison, draw_costs
from adding_problem.analysis.plots.horizon import draw_horizon
from adding_problem.analysis.plots.lengths import draw_lengths
from adding_problem.analysis.plots.one_run import draw_curves, draw_loss, draw_predictions

__all__ = [
    "draw_comparison",
    "draw_costs",
    "draw_curves",
    "draw_horizon",
    "draw_lengths",
    "draw_loss",
    "draw_predictions",
]
