"""Fast recurrences for PyTorch on a CPU: an LSTM that is a drop-in for `torch.nn.LSTM`, and two elementwise scans."""

from adding_problem_native._library import available_isas, library, selected_isa
from adding_problem_native._lstm import LSTM, lstm
from adding_problem_native._scan import linear_scan, linear_scan_reference, relu_scan, relu_scan_reference

__all__ = [
    "LSTM", "available_isas", "linear_scan", "linear_scan_reference", "lstm", "relu_scan", "relu_scan_reference", "selected_isa",
]
__version__ = "0.1.0"

library()  # a missing or unsupported build is an error now, not in the middle of training
