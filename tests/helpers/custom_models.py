"""A file of custom models that a run can train, and a small configuration of one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from adding_problem import config
from adding_problem.config import RunConfig

MODELS = '''
from collections import OrderedDict
from dataclasses import dataclass, field
from types import SimpleNamespace

import torch
from torch import nn

class Last(nn.Module):
    """(B, T, 2) -> (B, 1)"""
    def __init__(self, units=3, act="tanh"):
        super().__init__()
        self.rnn = nn.RNN(2, units, nonlinearity=act, batch_first=True)
        self.out = nn.Linear(units, 1)
    def forward(self, x):
        return self.out(self.rnn(x)[0][:, -1])

def sequence(units=4):
    return Taken(nn.GRU(2, units, batch_first=True))

class Taken(nn.Module):
    def __init__(self, rnn):
        super().__init__()
        self.rnn = rnn
    def forward(self, x):
        return self.rnn(x)[0]

def time_first():
    return nn.LSTM(2, 4)

def batch_first():
    return nn.LSTM(2, 4, batch_first=True)

class Convolution(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv1d(2, 5, 3, padding=1)
    def forward(self, x):
        assert x.shape[1] == 2
        return self.conv(x)

class Restored(Convolution):
    def forward(self, x):
        return super().forward(x).transpose(1, 2)

class Dropout(Last):
    def forward(self, x):
        return nn.functional.dropout(super().forward(x), 0.2, self.training)

class Limited(nn.Module):
    """The answer itself, up to 50 steps."""
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))
    def forward(self, x):
        assert x.shape[1] <= 50
        return self.scale * x.prod(2).sum(1, keepdim=True)

class Hungry(Limited):
    def forward(self, x):
        torch.empty(1 if x.shape[1] <= 50 else 1 << 50)
        return self.scale * x.prod(2).sum(1, keepdim=True)

def lazy():
    return nn.Sequential(nn.LazyLinear(6), nn.ReLU(), nn.LazyLinear(3))

def tied():
    first = nn.Linear(2, 2)
    second = nn.Linear(2, 2)
    second.weight = first.weight
    return nn.Sequential(first, nn.Tanh(), second)

class Fixed(nn.Module):
    def __init__(self, length):
        super().__init__()
        self.line = nn.Linear(2 * length, 1)
    def forward(self, x):
        return self.line(x.flatten(1))

class Complex(nn.Module):
    """A diagonal recurrence of complex numbers."""
    def __init__(self):
        super().__init__()
        self.rates = nn.Parameter(torch.randn(4, dtype=torch.complex64) / 4)
        self.input = nn.Linear(2, 4)
        self.out = nn.Linear(4, 1)
    def forward(self, x):
        state = torch.zeros(len(x), 4, dtype=torch.complex64)
        for step in self.input(x).unbind(1):
            state = self.rates * state + step
        return self.out(state.real)

class Half(Last):
    def forward(self, x):
        return super().forward(x).bfloat16()

def half_sequence():
    return HalfSequence(2, 4, batch_first=True)

class HalfSequence(nn.GRU):
    def forward(self, x):
        return super().forward(x)[0].bfloat16()

class Masked(nn.Module):
    """A causal average by a mask of 36 MB, which is no weight."""
    def __init__(self):
        super().__init__()
        self.inputs = nn.Linear(2, 3)
        self.register_buffer("mask", torch.ones(3000, 3000).tril(), persistent=False)
        self.register_buffer("other", torch.ones(3000, 3000), persistent=False)
    def forward(self, x):
        mask = self.mask[: x.shape[1], : x.shape[1]]
        return (mask / mask.sum(1, keepdim=True)) @ self.inputs(x)

class Logits(Last):
    """As a Hugging Face model with a head: a mapping whose first item is something else."""
    def forward(self, x):
        return OrderedDict(loss=None, logits=super().forward(x), hidden_states=(x,))

class Hidden(nn.Module):
    """As one without a head."""
    def __init__(self):
        super().__init__()
        self.rnn = nn.GRU(2, 4, batch_first=True)
    def forward(self, x):
        states, state = self.rnn(x)
        return SimpleNamespace(pooler_output=None, last_hidden_state=states, state=state)

class Head(nn.Module):
    """A number for every step, with its state."""
    def __init__(self):
        super().__init__()
        self.rnn, self.head = nn.GRU(2, 4, batch_first=True), nn.Linear(4, 1)
    def forward(self, x):
        states, state = self.rnn(x)
        return self.head(states), state

class HeadTimeFirst(Head):
    def __init__(self):
        super().__init__()
        self.rnn = nn.GRU(2, 4)

def brain16():
    return Last().bfloat16()

def brain16_sequence():
    return nn.LSTM(2, 4, batch_first=True, dtype=torch.bfloat16)

def double():
    return nn.GRU(2, 4, batch_first=True, dtype=torch.float64)

def both_ways():
    return nn.GRU(2, 4, batch_first=True, bidirectional=True)

@dataclass
class Rates:
    slow: float = 0.1
    fast: float = 0.9

@dataclass
class Config:
    width: int
    rates: Rates = field(default_factory=Rates)

class Configured(Last):
    def __init__(self, config: "Config"):
        self.config = config
        super().__init__(config.width)
        self.config = config

class Optional(Last):
    def __init__(self, rates: Rates, config: "Config | None" = None, plain: dict | None = None):
        super().__init__()
        self.given = rates, config, plain

instance = batch_first()
'''


def run_of(folder: Path, name: str, **changes: Any) -> RunConfig:
    values = {
        "dataset.dt_length": 100,
        "dataset.t": 30,
        "train.batch": 32,
        "train.epochs": 2,
        "threads": 1,
        "model.name": name,
        "artifacts": str(folder / "run"),
    }
    return config.load(
        None, values | {key.replace("__", "."): value for key, value in changes.items()}
    )


class AfterOneEpoch:
    def on_step(self, event: object) -> None:
        pass

    def on_epoch(self, row: object) -> None:
        raise KeyboardInterrupt
