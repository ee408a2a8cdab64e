"""The rehearsal: every way to get a model wrong is told before training, and models that are right pass."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from adding_problem import config, rehearsal, train
from adding_problem.errors import ConfigError, ModelError
from tests.test_own_model import file, run_of

__all__ = ["file"]  # a fixture

BROKEN = '''
import numpy as np
import torch
from torch import nn

class Base(nn.Module):
    def __init__(self, units=3):
        super().__init__()
        self.rnn, self.out = nn.RNN(2, units, batch_first=True), nn.Linear(units, 1)
        self.made, self.calls = units, 0
    def forward(self, x):
        return self.out(self.rnn(x)[0][:, -1])

class Flat(Base):
    def forward(self, x): return super().forward(x)[:, 0]
class Wide(Base):
    def forward(self, x): return self.rnn(x)[0][:, -1]
class Nan(Base):
    def forward(self, x): return super().forward(x) * float("nan")
class InPlace(Base):
    def forward(self, x): return super().forward(x.mul_(0.5))
class Blind(Base):
    def forward(self, x): return super().forward(torch.ones_like(x))
class Limited(Base):
    def __init__(self):
        super().__init__()
        self.positions = nn.Embedding(64, 2)
    def forward(self, x): return super().forward(x + self.positions(torch.arange(x.shape[1])))
class Leaky(Base):
    def forward(self, x): return super().forward(x - x.mean(0))
class Stateful(Base):
    def forward(self, x):
        self.calls += 1
        return super().forward(x) + self.calls
class Squeezed(Base):
    def forward(self, x): return super().forward(x).squeeze().reshape(-1, 1) if len(x) > 1 else super().forward(x).squeeze()
class Detached(Base):
    def forward(self, x): return super().forward(x).detach()
class Overwritten(Base):
    def forward(self, x):
        h = torch.sigmoid(self.rnn(x)[0][:, -1])
        y = self.out(h)
        h.mul_(2)
        return y
class Endless(Base):
    def forward(self, x): return super().forward(x) + torch.where(torch.zeros_like(self.out.bias) > 0, self.out.bias, (0 * self.out.bias).abs().sqrt())
class Unseen(Base):
    def forward(self, x): return {"prediction": super().forward(x)}
class Raising(Base):
    def forward(self, x): return self.missing(x)
class Empty(nn.Module):
    def forward(self, x): return x.sum((1, 2))[:, None]
class FailsToBuild(Base):
    def __init__(self): raise ZeroDivisionError("no units")
class Required(Base):
    def __init__(self, units): super().__init__(units)
class ZeroReadout(Base):
    def __init__(self):
        super().__init__()
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)
class Skipping(Base):
    """A layer that is left out in some steps of training, at random."""
    def __init__(self):
        super().__init__()
        self.more = nn.Linear(2, 2)
    def forward(self, x):
        return super().forward(x if self.training and torch.rand(()) < 0.5 else self.more(x))
class BlindDropout(Base):
    def forward(self, x): return nn.functional.dropout(super().forward(torch.ones_like(x)), 0.5, self.training)
class Sparse(Base):
    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(3, 2, sparse=True)
    def forward(self, x): return super().forward(x + self.table(x[..., 1].long()))
class ExtraState(Base):
    def get_extra_state(self): return {"calls": 1}
    def set_extra_state(self, state): pass
class Unregistered(Base):
    """Its layers are found by nobody: not by the optimizer, nor by state_dict()."""
    def __init__(self):
        super().__init__()
        self.layers = [nn.Linear(2, 2)]
    def forward(self, x): return super().forward(self.layers[0](x))
class Counting(Base):
    """What training changes is a number in Python."""
    def forward(self, x):
        self.calls += self.training
        return super().forward(x) * (1 + self.calls)
class NanBeyond(Base):
    def forward(self, x): return super().forward(x) * (float("nan") if x.shape[1] > 100 else 1)
class Frozen(Base):
    def __init__(self):
        super().__init__()
        self.requires_grad_(False)
class ComplexOutput(Base):
    def forward(self, x): return super().forward(x) * 1j
class Turned(Base):
    def forward(self, x): return self.rnn(x)[0].transpose(0, 1)
class Normalising(Base):
    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(2)
    def forward(self, x): return super().forward(x) + self.norm(x[:, -1]).sum(1, keepdim=True)
class Drawing(Base):
    def __init__(self, seed):
        super().__init__()
        np.random.RandomState(seed)
class Picking(Base):
    """Looks at the two marked steps alone, and there must be two."""
    def forward(self, x): return super().forward(x[x[..., 1] == 1].view(len(x), 2, 2))
def number(): return 3
def lstm_time_first(): return nn.LSTM(2, 4)
constant = 5
class State(Base):
    def forward(self, x): return self.rnn(x)[1]
class WrongSize(Base):
    def forward(self, x): return nn.functional.linear(x, torch.ones(4, 5))
instance = Base()
'''

MISTAKES = {
    "Flat": (ModelError, r"(?s)expected predictions \(3, 1\) or an output sequence of 22 steps.*found shape \(3,\).*return y\[:, None\]"),
    "Wide": (ModelError, r"(?s)found shape \(3, 3\).*end with nn\.Linear\(3, 1\)"),
    "State": (ModelError, r"(?s)found shape \(1, 3, \d+\).*the state \(layers, B, units\)"),
    "WrongSize": (ModelError, r"cannot be multiplied.* in .*broken\.py, line \d+"),
    "Nan": (ModelError, "finite predictions, found NaN"),
    "InPlace": (ModelError, "an input left as it is, found one changed in place"),
    "Blind": (ModelError, "predictions that depend on the input"),
    "BlindDropout": (ModelError, "predictions that depend on the input"),
    "Limited": (ModelError, r"(?s)\(2, 120, 2\) predictions, as for sequences of 60 steps, found .*line \d+.*keep dataset\.t to what it takes"),
    "Unregistered": (ModelError, r"(?s)given this one's state_dict, found other ones.*nn\.ModuleList"),
    "Counting": (ModelError, r"(?s)given this one's state_dict, found other ones.*register_buffer"),
    "NanBeyond": (ModelError, r"\(2, 120, 2\) finite predictions, found NaN or infinity, unlike at shorter lengths"),
    "Frozen": (ModelError, "parameters to train, found 6 that all have requires_grad=False"),
    "ComplexOutput": (ModelError, "real numbers, found complex64"),
    "Turned": (ModelError, r"(?s)found shape \(22, 3, 3\).*turn its first two axes round"),
    "Leaky": (ModelError, "do not depend on the others in its batch"),
    "lstm_time_first": (ModelError, r"(?s)do not depend on the others.*model\.layout: tbc"),
    "Stateful": (ModelError, "the same predictions for the same input"),
    "Squeezed": (ModelError, r"sequences \(1, 23, 2\) shape \(1, 1\), found shape \(\)"),
    "Detached": (ModelError, "can be differentiated"),
    "Overwritten": (ModelError, "(?s)modified by an inplace operation.*in place"),
    "Endless": (ModelError, "finite gradients, found NaN"),
    "Unseen": (ModelError, "a tuple that begins with one, found dict"),
    "Raising": (ModelError, r"AttributeError.*missing.*broken\.py, line \d+"),
    "Empty": (ModelError, "expected parameters to train, found none"),
    "FailsToBuild": (ModelError, "ZeroDivisionError: no units"),
    "Required": (ConfigError, r"model\.units: expected a value"),
    "Sparse": (ModelError, r"(?s)a step of training.*sparse ones are not taken"),
    "ExtraState": (ModelError, "(?s)a state_dict of tensors to keep, found AttributeError"),
    "number": (ModelError, r"a torch\.nn\.Module, found int"),
    "constant": (ConfigError, "a class, a factory or an instance"),
    "Bsae": (ConfigError, "did you mean 'Base'"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_told_before_training(name: str, tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text(BROKEN)
    kind, message = MISTAKES[name]
    with pytest.raises(kind, match=message) as caught:
        train.run(run_of(tmp_path, f"{tmp_path / 'broken.py'}:{name}", dataset__t=120))
    assert "remedy: " in str(caught.value)
    assert not (tmp_path / "run").exists()  # no folder that another configuration would find taken


def test_a_last_batch_of_one_sequence(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text(BROKEN)
    name = f"{tmp_path / 'broken.py'}:Normalising"
    rehearsal.check_model(run_of(tmp_path, name))
    with pytest.raises(ModelError, match=r"(?s)last batch of an epoch is of one sequence.*does not leave one of 70 sequences over"):
        rehearsal.check_model(run_of(tmp_path, name, train__batch=23))
    for stream in (False, True):
        with pytest.raises(ModelError, match=r"(?s)every batch is of one sequence.*choose a larger train\.batch"):
            rehearsal.check_model(run_of(tmp_path, name, train__batch=1, dataset__stream=stream))


@pytest.mark.parametrize("name", ["Base", "ZeroReadout", "Skipping", "Drawing", "Picking"])
def test_models_that_are_right_pass(name: str, tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text(BROKEN)
    rehearsal.check_model(run_of(tmp_path, f"{tmp_path / 'broken.py'}:{name}", dataset__t=120))


@pytest.mark.parametrize(("name", "arguments", "message"), [
    ("Base", {"model.unit": 3}, "did you mean 'units'"),
    ("instance", {"model.units": 3}, "no arguments for an instance"),
])
def test_wrong_arguments(name: str, arguments: dict[str, Any], message: str, tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text(BROKEN)
    with pytest.raises(ConfigError, match=message):
        rehearsal.check_model(config.load(None, {"model.name": f"{tmp_path / 'broken.py'}:{name}"} | arguments))


def test_the_note_about_the_readout(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        rehearsal.check_model(run_of(file.parent, f"{file}:sequence"))
    assert "gives a sequence of 4 units: a linear readout of its last step was added (5 parameters)" in caplog.text


@pytest.mark.parametrize("t", [30, 120])
def test_a_model_of_one_length_only(t: int, file: Path) -> None:
    rehearsal.check_model(run_of(file.parent, f"{file}:Fixed", dataset__t=t))
    with pytest.raises(ModelError, match=rf"(?s)of 23 steps, for example\), found one that takes {t} steps alone.*curriculum\.start to null"):
        rehearsal.check_model(run_of(file.parent, f"{file}:Fixed", recipe="fast", dataset__t=t))
