"""The page in which two LSTMs learn, in Debian's Chromium.

Its training is PyTorch's, and it learns within a minute.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from adding_problem import config, sample_batch
from adding_problem.models.lstm import AddingLSTM
from adding_problem.report import live
from adding_problem.task.variants import Target, Task
from adding_problem.training import optim, schedule
from tests.browser.conftest import SCREENSHOTS, needs_chromium, opened

playwright = pytest.importorskip(
    "playwright.sync_api", reason="no Playwright here: pip install -e '.[browser]'"
)
pytestmark = needs_chromium

HIDDEN = 8


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    out = tmp_path_factory.mktemp("live") / "demo.html"
    live.write(out)
    return out.as_uri()


@pytest.fixture(scope="module")
def paused(browser: Any, address: str) -> Iterator[Any]:
    """The page, its own trainings stopped, so that they take no time from what a test computes."""
    with opened(browser, address) as page:
        page.locator("#pause").click()
        yield page


def ran(page: Any, body: str, given: Any = None) -> Any:
    """What a function body returns for `given`, after the code that the page's workers run."""
    # That code listens for messages: inside a function, onmessage is set on a variable of its own.
    trainer = page.locator("#trainer").text_content()
    return page.evaluate(f"(given) => {{ let onmessage; {trainer}\n{body} }}", given)


def double_lstm(init: str, seed: int = 0) -> AddingLSTM:
    return AddingLSTM(HIDDEN, init=init, memory=1000, seed=seed).double()  # type: ignore[arg-type]


def flat(tensors: list[torch.Tensor]) -> np.ndarray[Any, Any]:
    """In the page's order, from kernel, recurrent kernel, bias, readout and offset."""
    kernel, recurrent, bias, readout, offset = (tensor.detach().numpy() for tensor in tensors)
    rows = np.concatenate([recurrent, kernel, bias[:, None]], axis=1)
    return np.concatenate([rows.ravel(), readout.ravel(), offset])


def trained_parameters(model: AddingLSTM) -> list[torch.Tensor]:
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def for_the_page(x: torch.Tensor, y: torch.Tensor) -> dict[str, Any]:
    marks = [np.flatnonzero(row == 1).tolist() for row in x[..., 1].numpy()]
    return {
        "n": len(x),
        "T": x.shape[1],
        "values": x[..., 0].double().ravel().tolist(),
        "marks": np.ravel(marks).tolist(),
        "answers": y.double().ravel().tolist(),
    }


@pytest.mark.parametrize("init", ["keras", "keyed"])
@pytest.mark.parametrize("target", ["sum", "difference"])
def test_its_gradients_are_pytorchs(paused: Any, init: str, target: Target) -> None:
    model = double_lstm(init)
    x, y = sample_batch(12, 40, seed=3, task=Task(target=target))
    loss = torch.nn.functional.mse_loss(model(x.double()), y.double())
    loss.backward()  # type: ignore[no-untyped-call]
    parameters = trained_parameters(model)
    expected = flat([parameter.grad for parameter in parameters if parameter.grad is not None])
    found = ran(
        paused,
        """
        const lstm = new LSTM(given.hidden);
        lstm.weights.set(given.weights);
        lstm.forward(given.data);
        const loss = lstm.backward(given.data);
        const error = lstm.error(given.data, 0, given.data.n);
        return { loss, gradients: [...lstm.gradients], error };
    """,
        {"hidden": HIDDEN, "weights": flat(parameters).tolist(), "data": for_the_page(x, y)},
    )
    assert found["loss"] == pytest.approx(loss.item(), rel=1e-12)
    assert found["error"] == pytest.approx(loss.item(), rel=1e-12)
    gradients = np.array(found["gradients"])
    assert np.linalg.norm(expected) > 1e-3
    assert np.linalg.norm(gradients - expected) < 1e-9 * np.linalg.norm(expected)
    assert np.abs(gradients - expected).max() < 1e-9 * np.abs(expected).max()


def test_its_steps_are_pythons(paused: Any) -> None:
    """Adam, the clipped norm and the warm-up: the weights after six steps."""
    run = config.load(None, {"recipe": "fast"})
    model = double_lstm("keras")
    start = flat(trained_parameters(model))
    optimizer, state = optim.optimizer_for(run.train, model), schedule.Schedule.first(run)
    batches = [sample_batch(8, 20, seed=step) for step in range(6)]
    for x, y in batches:
        optimizer.learning_rate = state.learning_rate(run)
        # Ten times the answer: a gradient whose norm is above 1, so that it is clipped.
        state = schedule.advance(
            state, optim.step(run.train, model, optimizer, x.double(), 10 * y.double()), run
        )
    found = ran(
        paused,
        """
        const lstm = new LSTM(given.hidden), adam = new Adam(lstm.size);
        const schedule = new Schedule(150, true);
        lstm.weights.set(given.weights);
        for (const data of given.batches) {
          lstm.forward(data);
          const loss = lstm.backward(data);
          adam.step(lstm.weights, lstm.gradients, schedule.learningRate);
          schedule.advance(loss);
        }
        return [...lstm.weights];
    """,
        {
            "hidden": HIDDEN,
            "weights": start.tolist(),
            "batches": [for_the_page(x, 10 * y) for x, y in batches],
        },
    )
    expected = flat(trained_parameters(model))
    assert np.abs(expected - start).max() > 1e-3
    assert np.abs(np.array(found) - expected).max() < 1e-9


@pytest.mark.parametrize("seed", range(4))
def test_its_schedule_is_pythons(paused: Any, seed: int) -> None:
    """Length and rate of 3,000 steps.

    The losses have another level every 150 steps. Now and then a validation begins an ending.
    """
    run = config.load(None, {"recipe": "fast", "dataset.t": 100})
    random = np.random.default_rng(seed)
    losses = np.repeat(random.choice([0.1, 0.008, 0.002], 20), 150) * random.lognormal(0, 0.2, 3000)
    losses[:150] = 0.1
    ending = random.random(3000) < 0.01
    state, expected = schedule.Schedule.first(run), []
    for loss, begins in zip(losses.tolist(), ending.tolist(), strict=True):
        expected.append([state.length, state.learning_rate(run), state.decayed])
        state = schedule.advance(state, loss, run)
        if begins:
            state = schedule.begin_ending(state, run)
    found = ran(
        paused,
        """
        const schedule = new Schedule(100, true);
        return given.losses.map((loss, step) => {
          const seen = [schedule.length, schedule.learningRate, schedule.decayed];
          schedule.advance(loss);
          if (given.ending[step]) schedule.beginEnding();
          return seen;
        });
    """,
        {"losses": losses.tolist(), "ending": ending.tolist()},
    )
    assert len({length for length, _, _ in expected}) > 3  # an ending's lengths
    assert state.endings or state.rate < run.train.learning_rate
    for at, (ours, theirs) in enumerate(zip(found, expected, strict=True)):
        assert ours == pytest.approx(theirs, rel=1e-12), at


def test_its_recipe_is_fast(paused: Any) -> None:
    found = ran(paused, "return RECIPE;")
    fast = config.load(None, {"recipe": "fast"})
    keys = {
        "batch": "train.batch",
        "epochSteps": "train.epoch_steps",
        "heldOut": "dataset.held_out",
        "learningRate": "train.learning_rate",
        "warmupSteps": "train.warmup_steps",
        "clipNorm": "train.clip_norm",
        "start": "curriculum.start",
        "factor": "curriculum.factor",
        "shortest": "curriculum.shortest",
        "threshold": "curriculum.threshold",
        "smoothing": "curriculum.smoothing",
        "decayBelow": "train.decay_below",
        "decaySteps": "train.decay_steps",
        "endingBelow": "train.ending_below",
        "endingSteps": "train.ending_steps",
        "endingLength": "train.ending_length",
        "stopBelow": "train.stop_val_loss",
    }
    assert found.keys() == keys.keys() | {"val_subset"}
    assert {name: found[name] for name in keys} == {
        name: fast.get(key) for name, key in keys.items()
    }
    assert ran(paused, "return MEMORY;") == fast.model.memory


@pytest.mark.parametrize("init", ["keras", "chrono", "long", "keyed", "oracle"])
def test_it_starts_as_python_does(paused: Any, init: str) -> None:
    """The random numbers are others; what they are drawn from is not."""
    hidden, memory = 64, 1_000_000_000
    model = AddingLSTM(hidden, init=init, memory=memory)  # type: ignore[arg-type]
    found = np.array(
        ran(
            paused,
            """
        const lstm = new LSTM(given.hidden);
        initialise(lstm, given.init, stream(0, "weights"));
        return [...lstm.weights];
    """,
            {"hidden": hidden, "init": init},
        )
    )
    split = 4 * hidden * (hidden + 3)
    for name, weights in (
        ("page", found),
        ("python", flat(trained_parameters(model)).astype(np.float64)),
    ):
        rows, readout = weights[:split].reshape(4, hidden, hidden + 3), weights[split:]
        recurrent, kernel, bias = (
            rows[..., :hidden].reshape(-1, hidden),
            rows[..., hidden:-1],
            rows[..., -1],
        )
        glorot = init in ("keras", "chrono")
        size = 1 if glorot else 0.3
        assert recurrent.T @ recurrent == pytest.approx(size**2 * np.eye(hidden), abs=1e-5), name
        limit = math.sqrt(6 / (2 + 4 * hidden)) if glorot else 0.1
        assert 0.9 * limit < np.abs(kernel[1:]).max() <= limit + 1e-7, name
        limit = math.sqrt(6 / (hidden + 1)) if glorot else 1 / math.sqrt(hidden)
        assert 0.8 * limit < np.abs(readout[:-1]).max() <= limit + 1e-7, name
        assert not bias[2:].any(), name
        if init == "keras":
            assert (bias[1] == 1).all(), name
        else:  # log U(1, M): a mean of log M - 1, a standard deviation of 1
            assert bias[1].mean() == pytest.approx(math.log(memory) - 1, abs=0.6), name
            assert 0.3 < bias[1].std() < 2, name
        scale = math.log(memory)
        if init == "chrono":
            assert bias[0] == pytest.approx(-bias[1]), name
        elif init in ("keyed", "oracle"):
            assert bias[0] == pytest.approx(-scale), name
        else:
            assert not bias[0].any(), name
        if init == "keyed":
            assert np.abs(kernel[0]).sum(axis=1) == pytest.approx(2 * scale), name
            keys = {
                (column, sign)
                for column, sign in zip(
                    np.abs(kernel[0]).argmax(axis=1), np.sign(kernel[0].sum(axis=1)), strict=True
                )
            }
            assert len(keys) == 4, name
        elif init == "oracle":
            assert 1.6 * scale < np.abs(kernel[0, :, 1]).max() <= 2 * scale, name
            assert np.abs(kernel[0, :, 0]).max() <= 0.1 + 1e-7, name


@pytest.mark.parametrize("target", ["sum", "difference"])
def test_its_sequences_are_the_tasks(paused: Any, target: str) -> None:
    n, length = 4000, 5
    found = ran(
        paused,
        """
        const random = stream(1, "training", 7);
        const { values, marks, answers } = sample(random, given.n, given.length, given.target);
        return [[...values], [...marks], [...answers]];
    """,
        {"n": n, "length": length, "target": target},
    )
    values, marks = np.array(found[0]).reshape(n, length), np.array(found[1]).reshape(n, 2)
    first, second = (np.take_along_axis(values, marks[:, [side]], axis=1)[:, 0] for side in (0, 1))
    assert np.array(found[2]) == pytest.approx(
        first + second if target == "sum" else first - second
    )
    assert (marks[:, 0] < marks[:, 1]).all()
    pairs = np.unique(marks, axis=0, return_counts=True)[1]
    assert len(pairs) == 10
    assert np.abs(pairs - n / 10).max() < 5 * math.sqrt(n / 10)
    assert values.mean() == pytest.approx(0.5, abs=5 * math.sqrt(1 / 12 / values.size))
    assert np.var(found[2]) == pytest.approx(1 / 6, rel=0.1)


def until(page: Any, condition: str, seconds: int) -> None:
    """Wait; Playwright's own way evaluates text inside the page, which its policy forbids."""
    end = time.monotonic() + seconds
    while not page.evaluate(condition):
        assert time.monotonic() < end, f"not within {seconds} s: {condition}"
        page.wait_for_timeout(200)


# --- the page -------------------------------------------------------------------------------------


def test_one_learns_and_the_other_stays_on_the_plateau(browser: Any, address: str) -> None:
    with opened(browser, address) as page:
        until(page, "live.sides[1].solvedAfter", seconds=60)
        plateau, learned = page.locator(".standing .card").all()
        assert "on the plateau" in plateau.text_content()
        playwright.expect(learned.locator("[data-state]")).to_have_text("solved")
        until(page, "live.sides[1].last.finished === 'solved'", seconds=120)
        playwright.expect(learned).to_contain_text("training ended")
        errors = page.evaluate("live.sides.map((side) => side.last.error)")
        assert errors[0] > 0.1
        assert errors[1] < 1e-3
        beyond = page.evaluate(
            "[...live.sides[1].beyond.values()].map(({ times, error }) => [times, error])"
        )
        assert {times for times, _ in beyond} == {1, 2, 10, 100}
        assert max(error for _, error in beyond) < 0.02
        shown = page.evaluate("[live.sides[1].last.shown.estimate, live.sides[1].last.shown.right]")
        assert shown[0] == pytest.approx(shown[1], abs=0.15)
        opening = page.evaluate("""(() => {
            const { input, cells, marks } = live.sides[1].last.shown;
            return marks.map((t) => Math.max(...input.slice(t * cells, (t + 1) * cells)));
        })()""")
        assert min(opening) > 0.9
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=SCREENSHOTS / "live-solved.png", full_page=True)


def test_the_reader_chooses(browser: Any, address: str) -> None:
    with opened(browser, address) as page:
        page.locator("#pause").click()
        playwright.expect(page.locator("#pause")).to_have_text("Continue")
        page.get_by_label("Question").select_option("difference")
        page.get_by_label("Steps T").select_option("50")
        page.get_by_label("Training sequences").select_option("short ones first")
        page.get_by_label("Initialisation A").select_option("oracle")
        playwright.expect(page.locator("#pause")).to_have_text("Pause")  # a choice starts again
        playwright.expect(page.locator(".lead")).to_contain_text("50 random values")
        playwright.expect(page.locator(".lead")).to_contain_text(
            "the first marked value minus the second"
        )
        until(page, "live.sides.every((side) => side.last?.step >= 20)", seconds=30)
        assert page.evaluate(
            "live.sides.map((side) => [side.choices.init, side.choices.T, side.choices.target])"
        ) == [["oracle", 50, "difference"], ["keyed", 50, "difference"]]
        assert page.evaluate("live.sides[1].last.length") < 50
        page.locator("#pause").focus()
        page.keyboard.press("Enter")
        page.wait_for_timeout(1500)  # an epoch under way ends
        steps = page.evaluate("live.sides.map((side) => side.last.step)")
        page.wait_for_timeout(1500)
        assert page.evaluate("live.sides.map((side) => side.last.step)") == steps
        page.locator("#pause").click()
        until(page, f"live.sides[1].last.step > {steps[1]}", seconds=30)


def test_the_same_seed_gives_the_same_numbers(browser: Any, address: str) -> None:
    def first_errors(page: Any, seed: int) -> Any:
        page.get_by_label("Seed").fill(str(seed))
        page.get_by_role("button", name="Start again").click()
        until(page, "live.sides.every((side) => side.points.length > 1)", seconds=30)
        return page.evaluate("live.sides.map((side) => side.points.slice(0, 2))")

    with opened(browser, address) as page:
        page.get_by_label("Steps T").select_option("50")
        first = first_errors(page, 5)
        assert first_errors(page, 6) != first
        assert first_errors(page, 5) == first


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_it_fits(browser: Any, address: str, width: int, scheme: str) -> None:
    with opened(browser, address, width, color_scheme=scheme) as page:
        until(page, "live.sides.every((side) => side.points.length > 1)", seconds=30)
        page.locator("#pause").click()
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        for chart in ("#curves", "#beyond"):
            assert "Keras" in page.locator(chart).get_attribute("aria-label")
        assert page.locator("#curves path.line").count() == 2
        edges = page.evaluate("""[...document.querySelectorAll("#curves text")].map((words) => {
            const { left, right } = words.getBoundingClientRect();
            return [left, right];
        })""")
        assert len(edges) > 6
        assert min(left for left, _ in edges) >= 0
        assert max(right for _, right in edges) <= width
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=SCREENSHOTS / f"live-{width}-{scheme}.png", full_page=True)


def test_its_policy_forbids_the_network(browser: Any, address: str) -> None:
    """Asked of the page, and of a worker made as the page makes its own."""
    asked = """
        addEventListener('securitypolicyviolation', (event) => tell(event.effectiveDirective));
        fetch('http://127.0.0.1:9/').catch(() => {});
    """
    context = browser.new_context()
    page = context.new_page()
    page.goto(address)
    assert page.evaluate(f"new Promise((tell) => {{ {asked} }})") == "connect-src"
    program = f"const tell = postMessage; {asked}"
    assert (
        page.evaluate(
            """(program) => new Promise((tell) => {
        const worker = new Worker(URL.createObjectURL(new Blob([program])));
        worker.onmessage = ({ data }) => tell(data);
    })""",
            program,
        )
        == "connect-src"
    )
    context.close()
