"""Fast recurrences for PyTorch on a CPU.

They are drop-ins for `torch.nn.LSTM`, `GRU` and `RNN`, layers that PyTorch has not, and two
elementwise scans.
"""

from adding_problem_native._cells import cornn, lem, modrelu_rnn, slstm
from adding_problem_native._library import available_isas, library, selected_isa
from adding_problem_native._recurrent import GRU, LSTM, RNN, lstm
from adding_problem_native._scan import (
    linear_scan,
    linear_scan_reference,
    relu_scan,
    relu_scan_reference,
)
from adding_problem_native._tensors import served

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "available_isas",
    "cornn",
    "lem",
    "linear_scan",
    "linear_scan_reference",
    "lstm",
    "modrelu_rnn",
    "relu_scan",
    "relu_scan_reference",
    "selected_isa",
    "served",
    "slstm",
]
__version__ = "0.1.0"

library()  # a missing or unsupported build is an error now, not in the middle of training
