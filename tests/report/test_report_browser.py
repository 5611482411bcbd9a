"""The report in headless Chromium: nothing fails, every figure is there, the mouse is answered.

Skipped without chromium and chromedriver (Debian: `apt-get install chromium chromium-driver`).
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from synthetic_run import N_TASKS, record

from snn_artsy import plots
from snn_artsy.config import RunConfig
from snn_artsy.recording import open_run
from snn_artsy.report import write_report
from snn_artsy.runs.run import execute

BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
DRIVER = shutil.which("chromedriver")

pytestmark = pytest.mark.skipif(
    BROWSER is None or DRIVER is None, reason="no chromium with chromedriver here"
)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folders = [tmp_path_factory.mktemp("runs") / name for name in ("one", "two")]
    for folder in folders:
        folder.mkdir()
        record(folder)
    runs = [open_run(folder) for folder in folders]
    return write_report(runs, folders[0] / "report.html")


@pytest.fixture(scope="module")
def driver(page: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    webdriver = pytest.importorskip("selenium.webdriver")
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    profile = tmp_path_factory.mktemp("profile")
    for flag in ("headless=new", "no-sandbox", "disable-gpu", "disable-dev-shm-usage",
                 "window-size=1200,900", f"user-data-dir={profile}"):  # fmt: skip
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    started = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    started.get(page.as_uri())
    yield started
    started.quit()


def test_nothing_is_said_on_the_console(driver: Any) -> None:
    assert driver.get_log("browser") == []
    driver.execute_script("console.error('seen')")
    assert len(driver.get_log("browser")) == 1  # what would have been seen


def test_every_panel_is_drawn(driver: Any) -> None:
    widths = driver.execute_script(
        "return [...document.images].map(i => i.complete ? i.naturalWidth : 0)"
    )
    assert len(widths) == 2 * len(plots.FIGURES) + 1 and min(widths) > 300
    # drawn, not blank: each image has many colours
    colours = driver.execute_script("""
        return [...document.images].map(image => {
          const canvas = document.createElement("canvas");
          [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
          const context = canvas.getContext("2d");
          context.drawImage(image, 0, 0);
          const pixels = context.getImageData(0, 0, canvas.width, canvas.height).data;
          return new Set(new Uint32Array(pixels.buffer)).size;
        })""")
    assert min(colours) > 20


def test_the_page_loads_nothing_else(driver: Any) -> None:
    loaded = driver.execute_script(
        "return performance.getEntriesByType('resource').map(r => r.name)"
    )
    assert all(name.startswith("data:") for name in loaded)


def hover(driver: Any, title: str, mark: int) -> tuple[str, str]:
    """Move the mouse onto a mark of a figure: what is said, and what should be."""
    from selenium.webdriver import ActionChains

    image = driver.find_element("css selector", f'img[alt="{title}"]')
    driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", image)
    figure = image.find_element("xpath", "..")
    x, y, text = driver.execute_script(
        "return JSON.parse(arguments[0].dataset.marks)[arguments[1]]", figure, mark
    )
    width, height = image.rect["width"], image.rect["height"]
    across, down = round((x - 0.5) * width), round((y - 0.5) * height)
    ActionChains(driver).move_to_element_with_offset(image, across, down).perform()
    return driver.find_element("id", "said").text, text


@pytest.mark.parametrize("title", ["accuracy per step", "gate matrix", "conversion counts"])
def test_what_is_under_the_mouse_is_said(driver: Any, title: str) -> None:
    said, expected = hover(driver, title, 2)
    assert said == expected and any(c.isdigit() for c in said)


def test_a_matrix_says_its_values(driver: Any, page: Path) -> None:
    with open_run(page.parent) as run:
        matrix = run.summary("artsy_ann")["gate_matrix"]
    said, _ = hover(driver, "gate matrix", N_TASKS + 1)
    assert said == f"row 2, column 2: {matrix[1, 1]:.3g}"


def test_click_enlarges_wheel_zooms_and_escape_closes(driver: Any) -> None:
    from selenium.webdriver import ActionChains, Keys
    from selenium.webdriver.common.actions.wheel_input import ScrollOrigin

    image = driver.find_element("css selector", 'img[alt="gate matrix"]')
    driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", image)
    small = image.rect["width"]
    image.click()
    large = image.rect["width"]
    assert large > 1.2 * small
    ActionChains(driver).scroll_from_origin(ScrollOrigin.from_element(image), 0, -100).perform()
    assert image.rect["width"] == pytest.approx(1.25 * large, rel=0.01)
    ActionChains(driver).send_keys(Keys.ESCAPE).perform()
    assert image.rect["width"] == pytest.approx(small)


def test_a_heading_sorts_the_table(driver: Any) -> None:
    heading = driver.find_element("css selector", "th[data-sort]")
    driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", heading)
    heading.click()
    column = driver.execute_script("return arguments[0].cellIndex", heading)
    shown = driver.execute_script(
        "return [...arguments[0].closest('table').tBodies[0].rows]"
        ".map(r => parseFloat(r.cells[arguments[1]].textContent))",
        heading,
        column,
    )
    assert len(shown) == 6 and shown == sorted(shown, reverse=True)


def test_the_default_run_s_report(driver: Any, tmp_path: Path) -> None:
    """Every figure, under 5 MB, silent console: what a new user opens first."""
    execute(RunConfig(out=str(tmp_path / "default")))
    with open_run(tmp_path / "default") as run:
        written = write_report([run], tmp_path / "report.html")
    assert written.stat().st_size < 5e6
    driver.get_log("browser")  # what earlier tests said
    driver.get(written.as_uri())
    assert driver.get_log("browser") == []
    drawn = driver.execute_script("return [...document.images].map(i => i.alt)")
    assert drawn[0] == "accuracy per step" and len(drawn) >= len(plots.FIGURES) - 3
    assert set(drawn) <= {name.replace("_", " ") for name in plots.FIGURES}
    # no membranes are recorded by default, no contact fails, and nothing sleeps
    assert len(driver.find_elements("css selector", ".absent")) <= 3
    assert driver.find_elements("css selector", ".warning") == []
