"""LRU, linear recurrent unit: complex diagonal recurrences (Orvieto et al. 2023, arXiv:2303.06349).

    s_t = lambda * s_{t-1} + gamma * (B x_t)         lambda = exp(-exp(nu) + i exp(theta))
    y_t = Re(C s_t) + D * x_t

An input product is followed by blocks x + GLU(GELU(LRU(LayerNorm(x)))) and a linear readout of the
last step. The last block computes only that step. |lambda| is drawn uniformly over the ring from
r_min to r_max and the phase from 0 to max_phase, as in the paper's section 3. gamma is a parameter
that starts at sqrt(1 - |lambda|^2).

With s_t = exp(i t arg lambda) g_t the recurrence is real, so one scan for real numbers computes
both parts of g:

    g_t = |lambda| g_{t-1} + exp(-i t arg lambda) gamma B x_t

The last state is s_T = gamma B (lambda^(T-1) x_1 + ... + x_T) and needs no scan.

Parameters of a block with H inputs and N states: 3 N + 4 N H + H + 2 H (H + 1) + 2 H; of the rest
3 H + H + 1.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from adding_problem.models.layers import last_step
from adding_problem.models.scan import scan_of
from adding_problem.system.device import finest_float

__all__ = ["LRU", "AddingLRU"]

_LEAST_PHASE = 1e-6  # of an eigenvalue at the start: its logarithm must exist


class LRU(nn.Module):
    """One layer of complex diagonal recurrences, (B, T, H) -> (B, steps, H).

    Args:
        hidden: number of inputs and outputs H.
        states: number of complex states N.
        r_min, r_max, max_phase: of the eigenvalues at the start.
        backend: `native` or `torch`, for the scan.
    """

    def __init__(
        self,
        hidden: int,
        states: int,
        *,
        r_min: float,
        r_max: float,
        max_phase: float,
        backend: str,
    ) -> None:
        super().__init__()
        if not (r_min <= r_max <= 1 and max_phase > _LEAST_PHASE):
            raise ValueError(
                f"expected r_min <= r_max <= 1 and a max_phase above {_LEAST_PHASE:g}, "
                f"found {r_min:g}, {r_max:g} and {max_phase:g}"
            )
        squared = torch.empty(states).uniform_(r_min**2, r_max**2)
        self.nu = nn.Parameter((-squared.log() / 2).log())
        self.theta = nn.Parameter(torch.empty(states).uniform_(_LEAST_PHASE, max_phase).log())
        self.gamma = nn.Parameter((1 - squared).log() / 2)  # its logarithm
        # Complex matrices as their real part above (B) or beside (C) their imaginary part.
        self.input = nn.Parameter(torch.randn(2 * states, hidden) / math.sqrt(2 * hidden))
        self.output = nn.Parameter(torch.randn(hidden, 2 * states) / math.sqrt(states))
        self.skip = nn.Parameter(torch.randn(hidden))
        self._scan = scan_of(backend)

    def forward(self, x: Tensor, begin: int) -> Tensor:
        """Outputs of the steps from `begin` on."""
        # There are no complex numbers of half precision.
        with torch.autocast(x.device.type, enabled=False):
            return self._outputs(x.to(self.skip.dtype), begin)

    def _outputs(self, x: Tensor, begin: int) -> Tensor:
        matrix = torch.complex(*self.input.chunk(2)) * self.gamma.exp()[:, None]
        state = self._last_state(x, matrix) if begin == -1 else self._states(x, matrix)[:, begin:]
        real, imaginary = self.output.chunk(2, dim=1)
        matrix = _as_real(torch.complex(real, -imaginary))
        return nn.functional.linear(_as_real(state), matrix) + self.skip * x[:, begin:]

    def _states(self, x: Tensor, matrix: Tensor) -> Tensor:
        """s_1, ..., s_T, (B, T, N), complex."""
        turn = self._turn(torch.arange(1, x.shape[1] + 1, device=x.device))
        drive = _as_complex(nn.functional.linear(x, _as_real(matrix.T).T))
        magnitude = torch.exp(-self.nu.exp()).repeat_interleave(2)
        return _as_complex(self._scan(magnitude, _as_real(drive * turn.conj()))) * turn

    def _last_state(self, x: Tensor, matrix: Tensor) -> Tensor:
        """s_T, (B, 1, N), complex."""
        ago = torch.arange(x.shape[1] - 1, -1, -1, device=x.device)
        weights = torch.exp(-self.nu.exp() * ago[:, None]) * self._turn(ago)
        weighted = _as_complex(x.mT @ _as_real(weights))  # (B, H, N)
        return (weighted * matrix.T).sum(1, keepdim=True)

    def _turn(self, steps: Tensor) -> Tensor:
        """exp(i t arg lambda) for each of the steps t, (T, N), complex."""
        # At a million steps a phase in float32 has too few digits.
        fine = finest_float(steps.device)
        turns = torch.outer(steps.to(fine), self.theta.to(fine).exp())
        phase = turns.remainder(2 * math.pi).to(self.theta.dtype)
        return torch.complex(phase.cos(), phase.sin())


def _as_real(z: Tensor) -> Tensor:
    """(..., N) complex -> (..., 2 N): the real part of each number before its imaginary part."""
    return torch.view_as_real(z).flatten(-2)


def _as_complex(x: Tensor) -> Tensor:
    """The inverse of `_as_real`."""
    return torch.view_as_complex(x.reshape(*x.shape[:-1], x.shape[-1] // 2, 2))


class _Block(nn.Module):
    def __init__(self, layer: LRU, hidden: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(hidden)
        self.layer = layer
        self.gated = nn.Linear(hidden, 2 * hidden)

    def forward(self, x: Tensor, begin: int) -> Tensor:
        h = nn.functional.gelu(self.layer(self.norm(x), begin))
        return x[:, begin:] + nn.functional.glu(self.gated(h), dim=-1)


class AddingLRU(nn.Module):
    """Blocks of linear recurrent units and a linear readout of the last step.

    Args:
        hidden: width H of the blocks.
        states: number of complex states N of a block.
        layers: number of blocks.
        r_min, r_max, max_phase: of the eigenvalues at the start, see `LRU`.
        backend: `native` or `torch`, for the scan.
        input_size: input columns I.
    """

    def __init__(
        self,
        hidden: int,
        *,
        states: int,
        layers: int,
        r_min: float,
        r_max: float,
        max_phase: float,
        backend: str,
        input_size: int = 2,
    ) -> None:
        super().__init__()
        self.hidden, self.states, self.layers, self.backend = hidden, states, layers, backend
        self.r_min, self.r_max, self.max_phase = r_min, r_max, max_phase
        self.input_size = input_size
        self.encoder = nn.Linear(input_size, hidden)
        ring = {"r_min": r_min, "r_max": r_max, "max_phase": max_phase}
        self.blocks = nn.ModuleList(
            _Block(LRU(hidden, states, **ring, backend=backend), hidden) for _ in range(layers)
        )
        self.readout = nn.Linear(hidden, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Predictions (B, 1) of sequences (B, T, I)."""
        return self.readout(last_step(self.blocks, self.encoder(x)))  # type: ignore[no-any-return]
