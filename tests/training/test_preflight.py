"""The preflight check: what is wrong with a model is told before training; right models pass."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from adding_problem import Task, config, models
from adding_problem.config import ModelConfig
from adding_problem.errors import ConfigError, ModelError
from adding_problem.evaluation import consistency, evaluate, validate
from adding_problem.evaluation.lengths import score_at_lengths
from adding_problem.experiments.train import train
from adding_problem.runs.folder import RunFolder
from adding_problem.training import preflight
from tests.helpers.custom_models import AfterOneEpoch, run_of

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
    def forward(self, x):
        y = super().forward(x).squeeze()
        return y.reshape(-1, 1) if len(x) > 1 else y
class Detached(Base):
    def forward(self, x): return super().forward(x).detach()
class Overwritten(Base):
    def forward(self, x):
        h = torch.sigmoid(self.rnn(x)[0][:, -1])
        y = self.out(h)
        h.mul_(2)
        return y
class Endless(Base):
    def forward(self, x):
        bias = self.out.bias
        endless = (0 * bias).abs().sqrt()
        return super().forward(x) + torch.where(torch.zeros_like(bias) > 0, bias, endless)
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
    def forward(self, x):
        return nn.functional.dropout(super().forward(torch.ones_like(x)), 0.5, self.training)
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
class Typed(nn.Module):
    """Its state is of another type than its weights."""
    def __init__(self):
        super().__init__()
        self.rnn, self.out = nn.RNN(2, 3, batch_first=True).double(), nn.Linear(3, 1)
    def forward(self, x):
        return self.out(self.rnn(x)[0][:, -1])
class Asking(Base):
    def forward(self, x, state): return super().forward(x)
class Keeping(Base):
    """The state of the last batch, for as many sequences."""
    def __init__(self):
        super().__init__()
        self.h = None
    def forward(self, x):
        y, h = self.rnn(x, self.h)
        self.h = h.detach()
        return self.out(y[:, -1])
class KeepingInTraining(Keeping):
    def forward(self, x):
        return super().forward(x) if self.training else self.out(self.rnn(x)[0][:, -1])
class KeepingItsGraph(Base):
    h = None
    def forward(self, x):
        y, h = self.rnn(x, self.h if self.training else None)
        self.h = h if self.training else None
        return self.out(y[:, -1])
class BothWays(Base):
    def __init__(self):
        super().__init__(3)
        self.rnn = nn.RNN(2, 3, batch_first=True, bidirectional=True)
        self.out = nn.Linear(6, 1)
def both_ways(): return nn.RNN(2, 3, batch_first=True, bidirectional=True)
def one_unit(): return nn.RNN(2, 1, batch_first=True)

class Carrying(Base):
    """Begins where the last batch of as many sequences ended, as a text model does."""
    def __init__(self):
        super().__init__()
        self.h = None
    def forward(self, x): return self.carried(x)
    def carried(self, x):
        h = self.h if self.h is not None and self.h.shape[1] == len(x) else None
        y, h = self.rnn(x, h)
        self.h = h.detach()
        return self.out(y[:, -1])
class CarryingSequence(Carrying):
    def forward(self, x):
        self.carried(x)
        return self.rnn(x, self.h)[0]
class SameSize(Carrying):
    """Carries on only after a batch of the same shape."""
    def forward(self, x):
        self.h, self.last = self.h if getattr(self, "last", None) == x.shape else None, x.shape
        return self.carried(x)
class Behind(Carrying):
    """Its readout is zero, behind which nothing shows."""
    def __init__(self):
        super().__init__()
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)
class Averaging(Base):
    """A running average of all that it has seen."""
    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(1))
    def forward(self, x):
        y = super().forward(x) + self.mean
        self.mean = 0.9 * self.mean + 0.1 * x.mean()
        return y
class Adapting(Base):
    def forward(self, x):
        with torch.no_grad():
            self.out.bias += 1e-3 * (not self.training)
        return super().forward(x)
class Remembering(Base):
    """Takes the marks of the first batch of a shape for those of all."""
    def __init__(self):
        super().__init__()
        self.cache = {}
    def forward(self, x):
        return super().forward(x * self.cache.setdefault(x.shape, x[..., 1:].clone()))
class Outside(Base):
    past = [0.0]
    def forward(self, x):
        y = super().forward(x) + self.past[0]
        self.past[0] = x.mean().item()
        return y
class Leaking(Base):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.zeros(1))
    def forward(self, x): return super().forward(x) + self.scale * x[..., 0].mean()
class Noisy(Base):
    def forward(self, x): return super().forward(x) + 1e-2 * torch.randn(len(x), 1)
class Dropping(Base):
    def forward(self, x): return nn.functional.dropout(super().forward(x), 0.1)
class NoisyByNumpy(Base):
    def forward(self, x): return super().forward(x) + float(np.random.rand())
class Changing(Base):
    """Changes its input, of a few steps alone."""
    def forward(self, x): return super().forward(x.mul_(0.5) if x.shape[1] < 20 else x)
class Shapeless(Base):
    def __init__(self):
        super().__init__()
        self.extra = nn.LazyLinear(3)

class Late(Carrying):
    """Carries on from the 150th call."""
    def forward(self, x):
        self.calls += 1
        if self.calls < 150:
            self.h = None
        return self.carried(x)
class Grown(Base):
    """Training opens the way to the last batch."""
    def __init__(self):
        super().__init__()
        self.gate, self.past = nn.Parameter(torch.full((1,), 1e-4)), 0.0
    def forward(self, x):
        y = super().forward(x) + self.gate ** 2 * self.past
        self.past = x.detach()[..., 0].mean()
        return y

class Caching(Base):
    def __init__(self):
        super().__init__()
        self.cache = {}
    def forward(self, x):
        if x.shape[1] not in self.cache:
            self.cache[x.shape[1]] = torch.arange(x.shape[1])[:, None] / 100
        return super().forward(x + self.cache[x.shape[1]])
class Spectral(Base):
    def __init__(self):
        super().__init__()
        self.out = nn.utils.parametrizations.spectral_norm(self.out)
class Weighted(Base):
    def __init__(self):
        super().__init__()
        self.out = nn.utils.parametrizations.weight_norm(self.out)
class Regular(Base):
    """Dropout, and statistics of the batches in training."""
    def __init__(self):
        super().__init__()
        self.norm, self.drop = nn.BatchNorm1d(2), nn.Dropout(0.3)
    def forward(self, x):
        return super().forward(self.drop(self.norm(x.transpose(1, 2)).transpose(1, 2)))
class Window(nn.Module):
    """Takes seven steps or more."""
    def __init__(self):
        super().__init__()
        self.conv, self.out = nn.Conv1d(2, 5, 7), nn.Linear(5, 1)
    def forward(self, x): return self.out(self.conv(x.transpose(1, 2)).relu().mean(2))
class Autocast(Base):
    def __init__(self):
        super().__init__()
        self.inputs, self.out = nn.Linear(2, 64), nn.Linear(64, 1)
    def forward(self, x):
        with torch.autocast("cpu", torch.bfloat16):
            return self.out(self.inputs(x).relu().cumsum(1)[:, -1])
class Blown(Base):
    """Weights that no training survives."""
    def forward(self, x): return super().forward(x) * 1e30
def compiled(): return torch.compile(Base(), backend="eager")

class TrainingAlone(Carrying):
    def forward(self, x):
        return self.carried(x) if self.training else super(Carrying, self).forward(x)
class OwnNoise(Base):
    def __init__(self):
        super().__init__()
        self.generator = torch.Generator().manual_seed(0)
    def forward(self, x):
        noise = torch.randn(len(x), 1, generator=self.generator) if self.training else 0
        return super().forward(x) + noise
'''

MISTAKES = {
    "Flat": (
        ModelError,
        r"(?s)expected predictions \(3, 1\) or an output sequence of 22 steps.*"
        r"found shape \(3,\).*return y\[:, None\]",
    ),
    "Wide": (ModelError, r"(?s)found shape \(3, 3\).*end with nn\.Linear\(3, 1\)"),
    "State": (ModelError, r"(?s)found shape \(1, 3, \d+\).*the state \(layers, B, units\)"),
    "WrongSize": (ModelError, r"cannot be multiplied.* in .*broken\.py, line \d+"),
    "Nan": (ModelError, "finite predictions, found NaN"),
    "InPlace": (ModelError, "an input left as it is, found one changed in place"),
    "Blind": (ModelError, "predictions that depend on the input"),
    "BlindDropout": (ModelError, "predictions that depend on the input"),
    "Limited": (
        ModelError,
        r"(?s)\(2, 120, 2\) predictions, as for sequences of 60 steps, found .*line \d+.*"
        r"keep dataset\.t to what it takes",
    ),
    "Unregistered": (
        ModelError,
        r"(?s)given this one's state_dict, found other ones.*nn\.ModuleList",
    ),
    "Counting": (ModelError, r"(?s)given this one's state_dict, found other ones.*register_buffer"),
    "NanBeyond": (
        ModelError,
        r"\(2, 120, 2\) finite predictions, found NaN or infinity, unlike at shorter lengths",
    ),
    "Frozen": (ModelError, "parameters to train, found 6 that all have requires_grad=False"),
    "ComplexOutput": (ModelError, "real numbers, found complex64"),
    "Turned": (ModelError, r"(?s)found shape \(22, 3, 3\).*exchange its first two axes"),
    "Leaky": (ModelError, "do not depend on the others in its batch"),
    "lstm_time_first": (ModelError, r"(?s)do not depend on the others.*model\.layout: tbc"),
    "Stateful": (ModelError, "the same input.*keeps its state between calls, in calls"),
    "Carrying": (
        ModelError,
        r"(?s)keeps its state between calls, in h\..*start from a fresh state",
    ),
    "CarryingSequence": (ModelError, r"keeps its state between calls, in h\."),
    "SameSize": (ModelError, "keeps its state between calls"),
    "Behind": (ModelError, r"keeps its state between calls, in h\."),
    "Averaging": (ModelError, r"keeps its state between calls, in mean\."),
    "Adapting": (ModelError, r"keeps its state between calls, in out\.bias\."),
    "Remembering": (ModelError, "other ones when each is alone"),
    "Outside": (ModelError, r"keeps its state between calls\."),
    "Leaking": (ModelError, "the others in its batch, found other ones among other sequences"),
    "Noisy": (ModelError, r"(?s)draws some in evaluation mode.*F\.dropout\(x, p, self\.training\)"),
    "Dropping": (ModelError, "draws some in evaluation mode"),
    "NoisyByNumpy": (ModelError, "draws some in evaluation mode"),
    "Changing": (ModelError, r"\(5, 2, 2\) an input left as it is, found one changed in place"),
    "Shapeless": (ModelError, r"lazy layers that forward calls.* found inner\.extra\.weight"),
    "Squeezed": (ModelError, r"sequences \(1, 23, 2\) shape \(1, 1\), found shape \(\)"),
    "Detached": (ModelError, "can be differentiated"),
    "Overwritten": (ModelError, "(?s)modified by an inplace operation.*in place"),
    "Endless": (ModelError, "finite gradients, found NaN"),
    "Unseen": (ModelError, "or one named logits or last_hidden_state, found dict of prediction"),
    "Raising": (
        ModelError,
        r"(?s)AttributeError.*missing.*broken\.py, line \d+.*hint: correct the model$",
    ),
    "Typed": (
        ModelError,
        r"(?s)the input is float64, as the first parameter is; the parameters are float32, float64",
    ),
    "Asking": (ModelError, "(?s)'state'.*forward is given only the sequences"),
    "Keeping": (
        ModelError,
        r"(?s)after a batch of 3, found a model that keeps its state between calls, in h: "
        r".*line \d+.*hint: start from a fresh state in every forward",
    ),
    "KeepingInTraining": (
        ModelError,
        "(?s)after a batch of 5, found a model that keeps its state between calls, in h: ",
    ),
    "KeepingItsGraph": (ModelError, "(?s)a second time.*start from a fresh state"),
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
        train(run_of(tmp_path, f"{tmp_path / 'broken.py'}:{name}", dataset__t=120))
    assert "hint: " in str(caught.value)
    assert not (tmp_path / "run").exists()  # no folder that another configuration would find taken


NOTES = {
    "BothWays": ["bidirectional layers, which the built-in models do not have"],
    "both_ways": ["a sequence of 6 units", "the backward direction has seen that step only"],
    "one_unit": ["that of the last step is its prediction"],
}


@pytest.mark.parametrize("name", NOTES)
def test_how_the_prediction_is_taken_is_noted(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "broken.py").write_text(BROKEN)
    caplog.set_level("INFO", "adding_problem")
    preflight.check_model(run_of(tmp_path, f"{tmp_path / 'broken.py'}:{name}"))
    assert len(caplog.messages) == len(NOTES[name])
    for message, expected in zip(caplog.messages, NOTES[name], strict=True):
        assert expected in message


def test_a_last_batch_of_one_sequence(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text(BROKEN)
    name = f"{tmp_path / 'broken.py'}:Normalising"
    preflight.check_model(run_of(tmp_path, name))
    with pytest.raises(
        ModelError,
        match=r"(?s)last batch of an epoch is of one sequence.*leave one of 70 sequences over",
    ):
        preflight.check_model(run_of(tmp_path, name, train__batch=23))
    for stream in (False, True):
        with pytest.raises(
            ModelError, match=r"(?s)every batch is of one sequence.*choose a larger train\.batch"
        ):
            preflight.check_model(run_of(tmp_path, name, train__batch=1, dataset__stream=stream))


RIGHT = [
    "Base",
    "ZeroReadout",
    "Skipping",
    "Drawing",
    "Picking",
    "Caching",
    "Spectral",
    "Weighted",
    "Regular",
    "Window",
    "Autocast",
    "Blown",
    "compiled",
]


@pytest.mark.parametrize("name", RIGHT)
def test_models_that_are_right_pass(
    name: str,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Before training, after it, and when they are scored."""
    (tmp_path / "broken.py").write_text(BROKEN)
    run = run_of(tmp_path, f"{tmp_path / 'broken.py'}:{name}", dataset__t=120)
    train(run)
    validate.validate(run)
    assert "not in its state_dict" not in caplog.text


@pytest.mark.parametrize("name", ["Late", "Grown"])
def test_state_that_shows_only_after_training(name: str, tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text(BROKEN)
    run = run_of(
        tmp_path,
        f"{tmp_path / 'broken.py'}:{name}",
        train__batch=4,
        train__epochs=9,
        train__learning_rate=2e-3,
    )
    preflight.check_model(run)
    with pytest.raises(ModelError, match="keeps its state between calls, in"):
        train(run)
    folder = RunFolder(run.artifacts)
    assert folder.has_checkpoint
    assert not folder.result.exists()


AFTER = {
    "Carrying": "class Mine(Carrying): pass",
    "Noisy": "class Mine(Noisy): pass",
    "while it is scored": """
class Mine(Base):
    def forward(self, x):
        self.calls += 1
        return super().forward(x) + (0.1 if self.calls > 35 else 0)""",
}


@pytest.mark.parametrize("changed", AFTER)
def test_a_finished_run_whose_code_now_keeps_state_gets_no_score(
    changed: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    message = "draws some in" if changed == "Noisy" else "keeps its state between calls"
    file = tmp_path / "broken.py"
    file.write_text(BROKEN + "class Mine(Base): pass\n")
    run = run_of(tmp_path, f"{file}:Mine")
    train(run)
    file.write_text(BROKEN + AFTER[changed])
    monkeypatch.setattr(evaluate, "evaluation_batch", lambda length: 4)  # 25 calls
    attempts: list[Callable[[], object]] = [
        lambda: validate.validate(run),
        lambda: validate.score_once(run),
        lambda: score_at_lengths(run, [30], 100, trust=True),
    ]
    for score in attempts:
        with pytest.raises(ModelError, match=message):
            score()
    assert not RunFolder(run.artifacts).validation.exists()
    assert not RunFolder(run.artifacts).prediction_pickle.exists()


def numpy_state() -> list[int]:
    """The words of NumPy's global generator."""
    words: list[int] = np.random.get_state(legacy=False)["state"]["key"].tolist()
    return words


def test_the_checks_draw_no_global_random_numbers(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text(BROKEN)
    name = f"{tmp_path / 'broken.py'}:Base"
    model = models.build_model(ModelConfig(name), length=30)
    before = torch.get_rng_state(), random.getstate(), numpy_state()
    found = consistency.check_predictions(model, name, length=30, task=Task())
    assert list(found) == [2, 5, 23, 30]
    after = torch.get_rng_state(), random.getstate(), numpy_state()
    assert torch.equal(before[0], after[0])
    assert before[1:] == after[1:]


@pytest.mark.parametrize("name", ["TrainingAlone", "OwnNoise"])
def test_what_a_resumed_run_would_lack_is_noted(
    name: str,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """And true: such a run, cut and resumed, ends with other numbers."""
    (tmp_path / "broken.py").write_text(BROKEN)
    uncut, cut = (
        run_of(
            tmp_path,
            f"{tmp_path / 'broken.py'}:{name}",
            dataset__t=5,
            train__batch=35,
            artifacts=str(tmp_path / folder),
        )
        for folder in ("uncut", "cut")
    )
    expected = train(uncut)
    assert "from one training step to the next that is not in its state_dict" in caplog.text
    with pytest.raises(KeyboardInterrupt):
        train(cut, listener=AfterOneEpoch())
    assert train(cut, resume=True).best_val_loss != expected.best_val_loss


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("Base", {"model.unit": 3}, "did you mean 'units'"),
        ("instance", {"model.units": 3}, "no arguments for an instance"),
    ],
)
def test_wrong_arguments(
    name: str, arguments: dict[str, Any], message: str, tmp_path: Path
) -> None:
    (tmp_path / "broken.py").write_text(BROKEN)
    with pytest.raises(ConfigError, match=message):
        preflight.check_model(
            config.load(None, {"model.name": f"{tmp_path / 'broken.py'}:{name}"} | arguments)
        )


def test_the_note_about_the_readout(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        preflight.check_model(run_of(file.parent, f"{file}:sequence"))
    assert (
        "gives a sequence of 4 units: a linear readout of its last step was added (5 parameters)"
        in caplog.text
    )


@pytest.mark.parametrize("t", [30, 120])
def test_a_model_of_one_length_only(t: int, file: Path) -> None:
    preflight.check_model(run_of(file.parent, f"{file}:Fixed", dataset__t=t))
    with pytest.raises(
        ModelError,
        match=rf"(?s)of 23 steps, for example\), found one that takes {t} steps alone.*"
        r"curriculum\.start to null",
    ):
        preflight.check_model(run_of(file.parent, f"{file}:Fixed", recipe="fast", dataset__t=t))
