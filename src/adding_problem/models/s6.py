"""S6, selective state space: Mamba's recurrence (Gu & Dao 2023, arXiv:2312.00752, algorithm 2).

    D_t      = softplus(P x_t + p)                       a time step for each of the H channels
    B_t, C_t = V x_t, U x_t                              shared by the channels, N numbers each
    s_t      = exp(D_t A) * s_{t-1} + D_t x_t B_t        A < 0, (H, N)
    y_t      = s_t C_t + E * x_t

An input product is followed by blocks x + W (S6(z) * silu(g)), where z and g are products of
RMSNorm(x), and by a linear readout of the last step. After the scan, the last block computes only
that step.

A starts at -1, ..., -N and the time steps at log-uniform 0.001 to 0.1, as in Mamba; `_keyed_init`
is another start. Mamba's short convolution and its low-rank P are left out, so that only the
recurrence carries memory.

Parameters of a block: 2 H^2 + (H^2 + H) + 2 N H + N H + H + H^2 + H; of the rest 3 H + H + 1.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import cast

import torch
from torch import Tensor, nn

from adding_problem.models.initialisation import column_keys_, levels
from adding_problem.models.layers import last_step
from adding_problem.models.scan import scan_of

__all__ = ["S6", "AddingS6"]

_SHORTEST, _LONGEST = 1e-3, 1e-1  # time steps at the start


def _inverse_softplus(y: Tensor) -> Tensor:
    return y.expm1().log()


class S6(nn.Module):
    """One selective state-space layer, (B, T, H) -> (B, steps, H).

    Args:
        hidden: number of channels H.
        states: states N of a channel.
        backend: `native` or `torch`, for the scan.
    """

    def __init__(self, hidden: int, states: int, *, backend: str) -> None:
        super().__init__()
        self.log_decay = nn.Parameter(torch.arange(1.0, states + 1).log().repeat(hidden, 1))
        self.time_step = nn.Linear(hidden, hidden)
        self.select = nn.Linear(hidden, 2 * states, bias=False)
        self.skip = nn.Parameter(torch.ones(hidden))
        self._scan = scan_of(backend)
        with torch.no_grad():
            start = torch.empty(hidden).uniform_(math.log(_SHORTEST), math.log(_LONGEST)).exp()
            self.time_step.bias.copy_(_inverse_softplus(start))

    def forward(self, x: Tensor, begin: int) -> Tensor:
        """Outputs of the steps from `begin` on."""
        step = nn.functional.softplus(self.time_step(x))[..., None]
        to_write, to_read = self.select.weight.chunk(2)
        write, read = nn.functional.linear(x, to_write), nn.functional.linear(x[:, begin:], to_read)
        decay = torch.exp(-step * self.log_decay.exp())
        drive = step * x[..., None] * write[:, :, None]
        state = self._scan(decay.flatten(2), drive.flatten(2)).view_as(drive)[:, begin:]
        return torch.einsum("bthn,btn->bth", state, read) + self.skip * x[:, begin:]


class _Block(nn.Module):
    def __init__(self, hidden: int, states: int, backend: str) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(hidden)
        self.inputs = nn.Linear(hidden, 2 * hidden, bias=False)
        self.layer = S6(hidden, states, backend=backend)
        self.output = nn.Linear(hidden, hidden, bias=False)

    def forward(self, x: Tensor, begin: int) -> Tensor:
        h = self.norm(x)
        to_layer, to_gate = self.inputs.weight.chunk(2)
        z, gate = nn.functional.linear(h, to_layer), nn.functional.linear(h[:, begin:], to_gate)
        update = self.output(self.layer(z, begin) * nn.functional.silu(gate))
        return x[:, begin:] + update  # type: ignore[no-any-return]


class AddingS6(nn.Module):
    """Blocks of selective state-space layers and a linear readout of the last step.

    Args:
        hidden: number of channels H.
        states: states N of a channel.
        layers: number of blocks.
        init: `mamba`; or `keyed`, an experiment, see `_keyed_init`.
        memory: the longest time scale that `keyed` prepares for, in steps; None is `length`.
        length: T.
        backend: `native` or `torch`, for the scan.
        input_size: input columns I.

    Raises:
        ValueError: when `keyed` has fewer channels than it needs.
    """

    def __init__(
        self,
        hidden: int,
        *,
        states: int,
        layers: int,
        init: str,
        memory: int | None,
        length: int,
        backend: str,
        input_size: int = 2,
    ) -> None:
        super().__init__()
        self.hidden, self.states, self.layers, self.backend = hidden, states, layers, backend
        self.init, self.memory = init, memory
        self.input_size = input_size
        self.encoder = nn.Linear(input_size, hidden)
        self.blocks = nn.ModuleList(_Block(hidden, states, backend) for _ in range(layers))
        self.readout = nn.Linear(hidden, 1)
        if init == "keyed":
            _keyed_init(self, memory or length)

    def forward(self, x: Tensor) -> Tensor:
        """Predictions (B, 1) of sequences (B, T, I)."""
        return self.readout(last_step(self.blocks, self.encoder(x)))  # type: ignore[no-any-return]


# What an input of 1 adds to a constant of size 1: RMSNorm hardly changes with the inputs.
_INPUT_SCALE = 0.3


@torch.no_grad()
def _keyed_init(model: AddingS6, longest: int) -> None:
    """Time steps of 1/M, M the longest time scale, and a key with a long one for each channel.

    The key is one input column and a sign, drawn uniformly. With that column at the sign and all
    other inputs at 0, the time step D overwrites a share 1 - exp(-D) of the slowest state. The
    share is drawn from U(0, 1). Exchanging the input columns exchanges the keys. A channel forgets
    as it writes: choose M far above T.

    The encoder's bias e and its columns E are orthogonal, with root mean squares 1 and s. Before P,
    a block has W (e + E x) / r with r^2 = 1 + s^2 |x|^2. Its output product starts at 0, so that
    the next block has the same. P is the smallest matrix with P W e = a and P W E = b k, k the key
    of each channel. So D is softplus((a + b k x) / r).

    Raises:
        ValueError: unless there are more channels than input columns.
    """
    hidden, columns = model.hidden, model.input_size
    if hidden <= columns:
        raise ValueError(
            f"init keyed of s6 needs more hidden channels than the {columns} input columns, "
            f"found {hidden}"
        )
    encoded = nn.init.orthogonal_(torch.empty(hidden, 1 + columns), gain=math.sqrt(hidden))
    encoded[:, 1:] *= _INPUT_SCALE
    model.encoder.bias.copy_(encoded[:, 0])
    model.encoder.weight.copy_(encoded[:, 1:])
    shut = math.log(math.expm1(1 / longest))
    for block in cast("Iterable[_Block]", model.blocks):
        keys = column_keys_(torch.empty(hidden, columns, dtype=torch.float64))
        opened = _inverse_softplus(-torch.log1p(-levels(hidden)))
        by_key = opened * math.sqrt(1 + _INPUT_SCALE**2) - shut
        constant = torch.full((hidden, 1), shut, dtype=torch.float64)
        wanted = torch.cat([constant, by_key[:, None] * keys], dim=1)
        seen = block.inputs.weight[:hidden] @ encoded
        block.layer.time_step.weight.copy_(wanted @ torch.linalg.pinv(seen.double()))
        block.layer.time_step.bias.zero_()
        block.output.weight.zero_()
