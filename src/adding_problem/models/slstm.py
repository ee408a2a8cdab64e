"""sLSTM of the xLSTM, with exponential gates (Beck et al. 2024, arXiv:2405.04517, section 2.2).

    i~, f~, o~, z~ = W x_t + R h_{t-1} + b                 R has a block for each head
    m_t = max(log sigmoid(f~) + m_{t-1}, i~)
    i   = exp(i~ - m_t),  f = exp(log sigmoid(f~) + m_{t-1} - m_t)
    c_t = f c_{t-1} + i tanh(z~),  n_t = f n_{t-1} + i
    h_t = sigmoid(o~) c_t / n_t
    y   = v . h_T + d

n is a normaliser and m a stabiliser. Only the cell, without the xLSTM's blocks around it. Forget
biases start evenly spaced from 3 to 6, the others at 0. The authors' library (xlstm 2.0.6,
`vanilla` backend) gives the same numbers on a CPU, three times slower, and installs GPU compilers.

Parameters: 4 H (2 + H / heads + 1) + H + 1.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor, nn

from adding_problem.models.layers import Recurrence, recurrence_of

__all__ = ["AddingSLSTM"]

# The native kernel has no heads and multiplies zeros around each head's block: h heads cost h times
# the arithmetic and memory of their own.
_MOST_NATIVE_HEADS = 4


class AddingSLSTM(nn.Module):
    """An sLSTM and a linear readout of its last output.

    Args:
        hidden: number of cells H.
        heads: groups of cells that see each other; a divisor of H.
        backend: `torch` or `native`, see `layers`.
        input_size: input columns I.

    Raises:
        ValueError: when `hidden` is not a multiple of `heads`.
    """

    def __init__(self, hidden: int, *, heads: int, backend: str, input_size: int = 2) -> None:
        super().__init__()
        if hidden % heads:
            raise ValueError(f"{heads} heads do not divide hidden {hidden}")
        self.hidden, self.heads, self.input_size = hidden, heads, input_size
        self.backend = backend if heads <= _MOST_NATIVE_HEADS else "torch"
        self.input = nn.Linear(input_size, 4 * hidden)  # rows: i, f, o, z, within each head
        self.recurrent = nn.Parameter(torch.empty(heads, hidden // heads, 4 * hidden // heads))
        self.readout = nn.Linear(hidden, 1)
        self._last_output: Recurrence = _last_output
        if self.backend == "native":
            layer = recurrence_of(backend, "slstm", _last_output)
            self._last_output = functools.partial(_last_output_without_heads, layer)
        limit = (hidden // heads) ** -0.5
        nn.init.uniform_(self.recurrent, -limit, limit)
        with torch.no_grad():
            bias = self.input.bias.zero_().view(heads, 4, hidden // heads)
            bias[:, 1] = torch.linspace(3, 6, hidden).view(heads, -1)

    def forward(self, x: Tensor) -> Tensor:
        """Predictions (B, 1) of sequences (B, T, I)."""
        output = self._last_output(x, self.input.weight, self.input.bias, self.recurrent)
        return self.readout(output)  # type: ignore[no-any-return]


def _last_output(x: Tensor, w_ih: Tensor, bias: Tensor, recurrent: Tensor) -> Tensor:
    """h_T, (B, H).

    Args:
        x: (B, T, I).
        w_ih, bias: (4 H, I) and (4 H), the four gates of a head together.
        recurrent: (heads, H / heads, 4 H / heads).
    """
    heads, width, _ = recurrent.shape
    h = c = n = x.new_zeros(heads, len(x), width)
    m = torch.full_like(h, -torch.inf)
    drives = nn.functional.linear(x, w_ih, bias).view(len(x), x.shape[1], heads, 4 * width)
    for drive in drives.permute(1, 2, 0, 3).unbind(0):
        i, f, o, z = torch.baddbmm(drive, h, recurrent).chunk(4, dim=-1)
        kept = nn.functional.logsigmoid(f) + m
        m = torch.maximum(kept, i)
        f, i = (kept - m).exp(), (i - m).exp()
        c = torch.addcmul(i * z.tanh(), f, c)
        n = torch.addcmul(i, f, n)
        h = o.sigmoid() * c / n
    return h.transpose(0, 1).flatten(1)


def _last_output_without_heads(
    layer: Recurrence, x: Tensor, w_ih: Tensor, bias: Tensor, recurrent: Tensor
) -> Tensor:
    """`_last_output` by a layer without heads: one gate after the other, blocks among zeros."""
    heads, width, _ = recurrent.shape
    w_ih, bias = (
        rows.view(heads, 4, width, -1).transpose(0, 1).reshape(rows.shape) for rows in (w_ih, bias)
    )
    blocks = recurrent.transpose(1, 2).chunk(4, dim=1)  # a gate: (heads, H / heads, H / heads)
    w_hh = torch.cat([torch.block_diag(*block) for block in blocks])  # type: ignore[no-untyped-call]
    return layer(x, w_ih, w_hh, bias)
