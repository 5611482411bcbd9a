"""The site in headless Chromium, without a network: equations are drawn, wide ones scroll.

Skipped without chromium, chromedriver, selenium or the packages of the extra `docs`.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
DRIVER = shutil.which("chromedriver")
NEEDED = ("selenium", "sphinx", "furo", "myst_parser", "sphinx-mathjax-offline")

pytestmark = pytest.mark.skipif(
    BROWSER is None or DRIVER is None or not all(map(find_spec, NEEDED)),
    reason="no chromium with chromedriver, or not all that builds the site",
)
PAGE = """# The model

$$
\\frac{a}{b} + WIDE = c \\tag{1}
$$

As (1) says.
""".replace("WIDE", " + ".join(f"x_{{{k}}}" for k in range(60)))
LOOK = """
const block = document.querySelector('.math-wrapper'), page = document.documentElement;
return {drawn: document.querySelectorAll('mjx-container').length,
        page: [page.scrollWidth, page.clientWidth],
        across: [block.scrollWidth, block.clientWidth, getComputedStyle(block).overflowX],
        along: getComputedStyle(block).overflowY};
"""


def test_wide_equations_scroll_in_their_block(tmp_path: Path) -> None:
    source, site = tmp_path / "source", tmp_path / "site"
    source.mkdir()
    (source / "model.md").write_text(PAGE)
    (source / "index.md").write_text("# Here\n\n```{toctree}\nmodel\n```\n")
    build = [sys.executable, "-m", "sphinx", "-q", "-b", "html", "-c", str(ROOT / "docs")]
    done = subprocess.run([*build, str(source), str(site)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr

    from selenium import webdriver
    from selenium.webdriver.support.ui import WebDriverWait

    options = webdriver.ChromeOptions()
    options.binary_location = str(BROWSER)
    for flag in ("headless=new", "no-sandbox", "disable-gpu", "disable-dev-shm-usage",
                 "host-resolver-rules=MAP * ~NOTFOUND", f"user-data-dir={tmp_path}"):  # fmt: skip
        options.add_argument(f"--{flag}")
    driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    try:
        for width in (400, 1280):
            size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
            driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
            driver.get((site / "model.html").as_uri())
            WebDriverWait(driver, 30).until(lambda d: d.execute_script(LOOK)["drawn"] == 1)
            found = driver.execute_script(LOOK)
            assert found["page"][0] <= found["page"][1], width
            assert found["across"][0] > found["across"][1] and found["across"][2] == "auto"
            assert found["along"] == "hidden"  # no bar beside equations that fit
    finally:
        driver.quit()
