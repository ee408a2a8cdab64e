"""minGRU and minLSTM (Feng et al. 2024, arXiv:2410.01201).

    minGRU   z_t = sigmoid(W x_t + b),  h~_t = V x_t + c,  h_t = (1 - z_t) h_{t-1} + z_t h~_t
    minLSTM  f_t, i_t = sigmoid(W x_t + b),  f'_t = f_t / (f_t + i_t),  i'_t = i_t / (f_t + i_t)
             h_t = f'_t h_{t-1} + i'_t h~_t
    y        = v . h_T + d

Gates see only the input, so the recurrence is linear. This is the plain version (the paper's
appendix A), whose h~ may be negative. The input of each layer is the state of the one before.

Parameters: minGRU 2 H (2 + 1) + (L - 1) 2 H (H + 1) + H + 1; minLSTM has 3 products instead of 2.
"""

from __future__ import annotations

from torch import Tensor, nn

from adding_problem.models.initialisation import time_scales_
from adding_problem.models.scan import scan_of

__all__ = ["AddingMinGRU", "AddingMinLSTM"]


class _Minimal(nn.Module):
    """What both share: layers of input products, a scan, a linear readout of the last state."""

    products: int

    def __init__(
        self,
        hidden: int,
        *,
        layers: int,
        init: str,
        memory: int | None,
        length: int,
        backend: str,
        input_size: int = 2,
    ) -> None:
        super().__init__()
        self.hidden, self.layers, self.backend = hidden, layers, backend
        self.init, self.memory, self.input_size = init, memory, input_size
        self.inputs = nn.ModuleList(
            nn.Linear(hidden if layer else input_size, self.products * hidden)
            for layer in range(layers)
        )
        self.readout = nn.Linear(hidden, 1)
        self._scan = scan_of(backend)
        if init == "chrono":
            for linear in self.inputs:
                bias = linear.get_parameter("bias").detach()[:hidden]
                # The first gate writes: its bias is the negative of one that keeps.
                time_scales_(bias, memory or length).neg_()

    def forward(self, x: Tensor) -> Tensor:
        """Predictions (B, 1) of sequences (B, T, I)."""
        for linear in self.inputs:
            x = self._scan(*self._coefficients(linear(x)))
        return self.readout(x[:, -1])  # type: ignore[no-any-return]

    def _coefficients(self, drive: Tensor) -> tuple[Tensor, Tensor]:
        """a and b of h_t = a_t h_{t-1} + b_t from the input products, (B, T, products * H)."""
        raise NotImplementedError


class AddingMinGRU(_Minimal):
    """minGRU and a linear readout of its last state.

    Args:
        hidden: number of units H of a layer.
        layers: number of layers L.
        init: `torch`, PyTorch's default; or `chrono`, gates for every time scale up to `memory` (of
            minLSTM, whose other gate starts half open, up to half of it).
        memory: in steps; None is `length`.
        length: T.
        backend: `native` or `torch`, for the scan.
        input_size: input columns I.
    """

    products = 2

    def _coefficients(self, drive: Tensor) -> tuple[Tensor, Tensor]:
        gate, candidate = drive.chunk(2, dim=-1)
        return (-gate).sigmoid(), gate.sigmoid() * candidate


class AddingMinLSTM(_Minimal):
    """minLSTM and a linear readout of its last state; arguments as of `AddingMinGRU`."""

    products = 3

    def _coefficients(self, drive: Tensor) -> tuple[Tensor, Tensor]:
        write, keep, candidate = drive.chunk(3, dim=-1)
        # f' and i' are sigmoids of log f - log i and its negative: both gates may be too close to
        # zero to divide by their sum.
        kept = nn.functional.logsigmoid(keep) - nn.functional.logsigmoid(write)
        return kept.sigmoid(), (-kept).sigmoid() * candidate
