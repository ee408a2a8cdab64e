"""The report in Debian's Chromium: it renders offline without errors, and its model works.

The model in the page answers as Python's does.

Screenshots are left in `artifacts/browser/`, to be looked at.
"""

from __future__ import annotations

import io
import re
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from adding_problem import config, report, sample_batch
from adding_problem.evaluation.load_model import load_model
from adding_problem.experiments import horizon
from adding_problem.experiments.train import train
from tests.browser.conftest import SCREENSHOTS, needs_chromium, opened
from tests.helpers.report_runs import make_runs

HOSTILE = '<img src=x onerror="window.hacked=1">'

playwright = pytest.importorskip(
    "playwright.sync_api", reason="no Playwright here: pip install -e '.[browser]'"
)
axe = pytest.importorskip(
    "axe_playwright_python.sync_playwright", reason="no axe-core here: make test-browser"
)
pytestmark = needs_chromium

FAMILIES = ("lstm", "gru", "rnn", "irnn", "indrnn", "lem", "mingru", "minlstm", "tcn")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Solved runs at two lengths, three seeds at one of them; a hostile name; a climb."""
    root = tmp_path_factory.mktemp("runs")
    small = {"recipe": "fast", "model.hidden": 16, "dataset.held_out": 200, "threads": 1}
    for name, t, seed in (("a", 100, 0), ("b", 100, 1), ("c", 100, 2), (HOSTILE, 300, 0)):
        train(
            config.load(None, small | {"dataset.t": t, "seed": seed, "artifacts": str(root / name)})
        )
    climb = config.load(None, small | {"validate.dt_length": 100, "artifacts": str(root / "climb")})
    assert list(
        horizon.find_horizon(
            climb, minutes=1, lengths=[10, 20], following=lambda run: nullcontext()
        )
    )
    return root


@pytest.fixture(scope="module")
def address(folder: Path) -> str:
    out = folder.parent / "report.html"
    report.write([folder], out, lengths=[20, 100, 300, 1000], sequences=100, threads=1)
    return out.as_uri()


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The address of a page about nine methods, four seeds each."""
    root = tmp_path_factory.mktemp("many")
    assert make_runs(root / "runs", FAMILIES, [40], 4) == 36
    report.write([root / "runs"], root / "page.html", lengths=[40, 80], sequences=20, threads=1)
    return (root / "page.html").as_uri()


def assert_nothing_is_cut_off(page: Any, width: int) -> None:
    """Neither the page nor a table is wider than its place, and axe-core has no complaint."""
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    cut = "[...document.querySelectorAll('.table')].filter((t) => t.scrollWidth > t.clientWidth)"
    assert page.evaluate(f"{cut}.map((table) => table.innerText.slice(0, 60))") == []
    found = axe.Axe().run(page).response["violations"]
    assert [(one["id"], [node["html"] for node in one["nodes"]]) for one in found] == []


@pytest.mark.parametrize(
    "fault",
    [
        "document.querySelector('main').style.minWidth = '2000px'",
        "document.querySelector('.table').firstElementChild.style.minWidth = '2000px'",
        "document.querySelector('.lead').style.color = '#bbbbbb'",
        "document.querySelector('main').append(document.createElement('img'))",
    ],
    ids=["a wide page", "a wide table", "a faint text", "a picture without words"],
)
def test_what_is_wrong_is_seen(browser: Any, many: str, fault: str) -> None:
    with opened(browser, many, 720, color_scheme="light") as page:
        page.evaluate(fault)
        with pytest.raises(AssertionError):
            assert_nothing_is_cut_off(page, 720)


def luminance(picture: Image.Image, x: int, y: int) -> float:
    pixel = picture.convert("L").getpixel((x, y))
    assert isinstance(pixel, int)
    return pixel / 255


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 720, 1440])
def test_it_renders(browser: Any, address: str, width: int, scheme: str) -> None:
    with opened(browser, address, width, color_scheme=scheme) as page:
        charts = page.locator("[data-plot]").all()
        assert len(charts) == 7
        for chart in charts:
            assert chart.locator("svg path, svg circle, svg rect, svg line").count() > 5, (
                chart.get_attribute("aria-label")
            )
            assert len(chart.get_attribute("aria-label") or "") > 60
        assert_nothing_is_cut_off(page, width)
        picture = Image.open(io.BytesIO(page.screenshot(full_page=True)))
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        picture.save(SCREENSHOTS / f"report-{width}-{scheme}.png")
        assert (luminance(picture, 3, 3) > 0.5) == (scheme == "light")
        colors = picture.convert("RGB").getcolors(1 << 24)
        assert colors is not None
        assert len(colors) > 300


def test_the_switch_and_the_print(browser: Any, address: str) -> None:
    with opened(browser, address, color_scheme="light") as page:
        page.locator("#theme").click()
        assert luminance(Image.open(io.BytesIO(page.screenshot())), 3, 3) < 0.5
        page.emulate_media(media="print")
        assert luminance(Image.open(io.BytesIO(page.screenshot())), 3, 3) > 0.9
        assert not page.locator("nav").is_visible()
        assert page.pdf().startswith(b"%PDF")


def test_charts_answer_to_keyboard_and_controls(browser: Any, address: str) -> None:
    with opened(browser, address) as page:
        curves = page.locator("[data-chart=curves]")
        plot = curves.locator("[data-plot]")
        plot.focus()
        for _ in range(3):
            page.keyboard.press("ArrowLeft")
        assert "sequence-steps" in plot.locator("[aria-label=tip] text").first.text_content()
        page.wait_for_timeout(100)
        assert "sequence-steps" in curves.locator("[aria-live]").text_content()
        before = plot.inner_html()
        curves.get_by_label("seconds", exact=True).check()
        assert "seconds" in plot.inner_html()
        assert plot.inner_html() != before
        lines = plot.locator("[aria-label=line] path").count()
        curves.locator("[data-key] button").first.click()
        assert plot.locator("[aria-label=line] path").count() < lines
        shown = page.locator("[data-chart=memory] [data-plot]").inner_html()
        page.locator("[data-model]").first.select_option(index=1)
        assert page.locator("[data-chart=memory] [data-plot]").inner_html() != shown
        assert page.locator("[data-model]").last.input_value() == "1"


# --- many methods ---------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 720, 1440])
def test_many_methods_fit(browser: Any, many: str, width: int, scheme: str) -> None:
    with opened(browser, many, width, color_scheme=scheme) as page:
        assert_nothing_is_cut_off(page, width)
        page.screenshot(full_page=True, path=SCREENSHOTS / f"many-{width}-{scheme}.png")


def test_lines_are_medians_and_bands_the_lowest_and_highest_seed(browser: Any, many: str) -> None:
    with opened(browser, many) as page:
        runs = page.evaluate("data.runs.filter((run) => run.method === 'GRU, fast')")
        drawn = page.evaluate("(runs) => spread(runs, 'sequence_steps', 'val_loss', true)", runs)
        assert len(runs) == 4
        for point in drawn[:: len(drawn) // 10] + drawn[-1:]:
            seen = [
                loss
                for run in runs
                for loss in [
                    y
                    for x, y in zip(run["sequence_steps"], run["val_loss"], strict=True)
                    if x <= point["x"] * (1 + 1e-9)
                ][-1:]
            ]
            assert point["y"] == pytest.approx(np.median(seen))
            assert (point["low"], point["high"]) == (min(seen), max(seen))
        plot = page.locator("[data-chart=curves] [data-plot]")
        assert plot.locator("[aria-label=line] path").count() == 9
        assert plot.locator("[aria-label=area] path").count() == 9
        page.get_by_label("every seed").check()
        assert plot.locator("[aria-label=line] path").count() == 9 + 36


def test_a_method_that_is_pointed_at_stands_out(browser: Any, many: str) -> None:
    with opened(browser, many) as page:
        curves = page.locator("[data-chart=curves]")
        curves.get_by_role("button", name="GRU, fast", exact=True).hover()
        lit = "(marks) => marks.map((mark) => mark.getAttribute('aria-label'))"
        assert set(curves.locator("path.lit").evaluate_all(lit)) == {"GRU, fast"}
        assert curves.locator("path.dim").count() == 2 * 8
        page.mouse.move(0, 0)
        assert curves.locator(".dim, .lit").count() == 0


def test_a_chart_without_lines_says_so(browser: Any, many: str) -> None:
    with opened(browser, many) as page:
        for name in ("curves", "best", "survival"):
            chart = page.locator(f"[data-chart={name}]")
            for button in chart.locator("[data-key] button").all():
                button.click()
            assert chart.locator("svg").count() == 0
            playwright.expect(chart.locator(".note")).to_contain_text("Nothing to draw")
        assert axe.Axe().run(page).violations_count == 0


def test_tables_are_filtered_and_sorted(browser: Any, many: str) -> None:
    with opened(browser, many) as page:
        table = page.locator("[data-table=runs]")
        rows = table.locator("tbody tr")
        page.get_by_label("Filter runs").fill("mingru s2")
        assert [
            row.locator("th").text_content().strip() for row in rows.all() if row.is_visible()
        ] == ["mingru-t40-s2"]
        page.get_by_label("Filter runs").fill("no such run")
        playwright.expect(
            page.get_by_role("region", name="All runs").get_by_text("No row has these words.")
        ).to_be_visible()
        page.get_by_label("Filter runs").fill("")
        heading = table.get_by_role("columnheader", name="MSE")
        for direction in ("ascending", "descending"):
            heading.get_by_role("button").click()
            assert heading.get_attribute("aria-sort") == direction
            column = [
                float(text) for text in table.locator("tbody td:nth-child(7)").all_text_contents()
            ]
            assert column == sorted(column, reverse=direction == "descending")


# --- the playground -------------------------------------------------------------------------------


def python_estimate(page: Any, folder: Path) -> float:
    """What the model says in Python to the sequence that the page shows."""
    import torch

    name, values, marks = page.evaluate(
        "[playground.model.name, [...playground.values], [...playground.marks]]"
    )
    x = torch.tensor([list(zip(values, marks, strict=True))])
    return float(load_model(str(folder / name))(x).item())


def reading(page: Any, name: str) -> float:
    return float(page.locator(f"#{name}").text_content().replace("−", "-"))


def assert_readings(page: Any, folder: Path) -> None:
    assert reading(page, "estimate") == pytest.approx(python_estimate(page, folder), abs=1e-4)
    right = page.evaluate(
        "playground.places.reduce((sum, place) => sum + playground.values[place], 0)"
    )
    assert reading(page, "right") == pytest.approx(right, abs=1e-4)
    assert reading(page, "error") == pytest.approx(reading(page, "estimate") - right, abs=2e-4)


def test_its_numbers_are_pythons(browser: Any, address: str, folder: Path) -> None:
    with opened(browser, address) as page:
        model = load_model(str(folder / page.evaluate("playground.model.name")))
        for index, length in enumerate(np.geomspace(10, 1000, 20).astype(int).tolist()):
            x, y = sample_batch(1, length, seed=5, start=index)
            found = page.evaluate(
                "([values, marks]) => playground.predict(values, marks)", x[0].T.tolist()
            )
            assert found == pytest.approx(model(x).item(), abs=1e-4)
            assert abs(found - y.item()) < 0.3  # a model that has learned something
        assert_readings(page, folder)
        within = abs(reading(page, "error")) < 0.04
        mark = "✓ within 0.04" if within else "✗ not within 0.04"
        assert page.locator("#verdict").text_content() == mark
        assert set(re.findall("[A-Z]", page.locator("path.estimate").first.get_attribute("d"))) == {
            *"MHV"
        }


@pytest.mark.parametrize(
    ("target", "mix"), [("difference", "none"), ("product", "swap"), ("first", "rotate")]
)
def test_its_right_answer_is_the_tasks(browser: Any, target: str, mix: str, tmp_path: Path) -> None:
    """The page shows plain sequences with the estimate and the right answer of the mixed ones.

    The marks may be set in any order.
    """
    values = {
        "dataset.t": 30,
        "dataset.target": target,
        "dataset.mix": mix,
        "dataset.dt_length": 300,
        "model.hidden": 8,
        "train.epochs": 2,
    }
    run = config.load(None, values | {"threads": 1, "artifacts": str(tmp_path / "run")})
    train(run)
    report.write(
        [tmp_path / "run"], tmp_path / "report.html", lengths=[30], sequences=50, threads=1
    )
    model = load_model(str(tmp_path / "run"))
    with opened(browser, (tmp_path / "report.html").as_uri()) as page:
        for index in range(4):
            x, y = sample_batch(1, 30, seed=5, start=index, task=run.task)
            plain = sample_batch(1, 30, seed=5, start=index)[0][0].numpy()
            places = np.flatnonzero(plain[:, 1] == 1).tolist()[:: -1 if index % 2 else 1]
            page.evaluate(
                "([values, places]) => {"
                " playground.length = 30; playground.values = Float32Array.from(values);"
                " playground.places = places; playground.changed(30); }",
                [plain[:, 0].tolist(), places],
            )
            assert reading(page, "estimate") == pytest.approx(model(x).item(), abs=1e-4)
            assert reading(page, "right") == pytest.approx(y.item(), abs=1e-4)
            assert reading(page, "error") == pytest.approx(model(x).item() - y.item(), abs=2e-4)
        assert (
            page.locator("[data-chart=memory] [data-plot] svg circle").count() >= 4
        )  # dots and rings at two marks


def test_a_drag_moves_a_mark(browser: Any, address: str, folder: Path) -> None:
    with opened(browser, address) as page:
        mark = page.locator(".mark").first
        place, estimate = mark.get_attribute("aria-valuenow"), reading(page, "estimate")
        page.locator("#play").scroll_into_view_if_needed()
        box = mark.locator(".head").bounding_box()
        page.mouse.move(box["x"] + 5, box["y"] + 5)
        page.mouse.down()
        page.mouse.move(box["x"] + 140, box["y"], steps=4)
        page.mouse.up()
        assert mark.get_attribute("aria-valuenow") != place
        assert reading(page, "estimate") != estimate
        assert_readings(page, folder)


def test_a_finger_drags_too(browser: Any, address: str, folder: Path) -> None:
    with opened(browser, address, 390, has_touch=True) as page:
        mark = page.locator(".mark").first
        place = mark.get_attribute("aria-valuenow")
        page.locator("#sequence").scroll_into_view_if_needed()
        box = mark.locator(".head").bounding_box()
        touch = page.context.new_cdp_session(page)
        x, y = box["x"] + 8, box["y"] + 8
        touch.send(
            "Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [{"x": x, "y": y}]}
        )
        for step in range(1, 6):
            touch.send(
                "Input.dispatchTouchEvent",
                {"type": "touchMove", "touchPoints": [{"x": x + 15 * step, "y": y}]},
            )
        touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
        assert mark.get_attribute("aria-valuenow") != place
        assert_readings(page, folder)


def test_keys_move_marks_and_change_values(browser: Any, address: str, folder: Path) -> None:
    with opened(browser, address) as page:
        mark = page.locator(".mark").first
        mark.focus()
        place = int(mark.get_attribute("aria-valuenow"))
        page.keyboard.press("ArrowRight")
        assert int(mark.get_attribute("aria-valuenow")) == place + 1
        page.keyboard.press("Home")
        assert mark.get_attribute("aria-valuenow") == "1"
        page.keyboard.press("End")
        assert int(mark.get_attribute("aria-valuenow")) == page.evaluate("playground.length")
        assert_labels(page)
        page.keyboard.press("Home")
        assert_labels(page)
        value = float(page.locator("#first-value").text_content())
        page.keyboard.press("ArrowDown")
        assert float(page.locator("#first-value").text_content()) == pytest.approx(
            max(0, value - 0.01), abs=1.1e-3
        )
        assert_readings(page, folder)


def assert_labels(page: Any) -> None:
    """The mark of the earlier step is the first, in the picture, in words and at its slider."""
    marks = page.locator(".mark").all()
    marks.sort(key=lambda mark: int(mark.get_attribute("aria-valuenow")))
    for mark, number, name, slider in zip(
        marks, "12", ("First", "Second"), ("first", "second"), strict=True
    ):
        assert mark.locator("text").text_content() == number
        assert mark.get_attribute("aria-label") == f"{name} mark"
        value = page.locator(f"#{slider}-value").text_content()
        assert mark.get_attribute("aria-valuetext").endswith(f"value {value}")


def test_sliders_and_play(browser: Any, address: str, folder: Path) -> None:
    with opened(browser, address) as page:
        page.locator("#length").fill("1")
        trained = page.evaluate("playground.model.trained")
        assert page.evaluate("playground.length") == 10 * trained
        mark, width = page.locator("#sequence .trained"), page.evaluate("playground.width")
        assert float(mark.get_attribute("x1")) == pytest.approx(width / 10)
        playwright.expect(page.locator("#sequence")).to_contain_text("trained up to here")
        page.locator("#second").fill("0.25")
        assert page.locator("#second-value").text_content() == "0.250"
        assert_readings(page, folder)
        page.locator("#length").fill("0")
        assert page.evaluate("playground.length") == 10
        assert page.locator(".trained").count() == 0
        page.locator("#scrub").fill("7")
        assert page.locator("#step").text_content() == "7 / 10"
        assert page.locator("#verdict").text_content() == "not asked yet"
        prefix = page.evaluate(
            "playground.predict(playground.values.slice(0, 7), playground.marks.slice(0, 7))"
        )
        assert reading(page, "estimate") == pytest.approx(prefix, abs=1e-4)
        page.locator("#run").click()
        playwright.expect(page.locator("#run")).to_contain_text("Pause")
        playwright.expect(page.locator("#step")).to_have_text("10 / 10", timeout=10_000)
        playwright.expect(page.locator("#run")).to_contain_text("Play")
        assert_readings(page, folder)
