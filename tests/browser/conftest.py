"""A report of a hundred runs, and Debian's (or any installed) Chromium to look at it with."""

import os
import shutil
from pathlib import Path

import pytest
from hundred import hundred_runs, range_test
from rangefinder import collection

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
CHROMIUM = os.environ.get("RANGEFINDER_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)


@pytest.fixture(scope="session")
def results(tmp_path_factory) -> Path:
    """A results folder with the report, its tables and figures."""
    folder = tmp_path_factory.mktemp("results")
    plan, runs = hundred_runs()
    entry, sweeps = range_test()
    found = collection.Collection(plan, [entry], {"sgd": sweeps}, runs)
    for kind, texts in (("figures", found.figures()), ("tables", found.tables())):
        (folder / kind).mkdir()
        for name, text in texts.items():
            (folder / kind / (name if kind == "figures" else f"{name}.csv")).write_text(text)
    for kind, text in found.report(folder / "figures", ROOT / "report").items():
        (folder / f"report.{kind}").write_text(text)
    return folder


@pytest.fixture(scope="session")
def browser():
    """A real Chromium."""
    if CHROMIUM is None:
        pytest.skip(f"no Chromium: install one ({', '.join(NAMES)}) or name it in RANGEFINDER_CHROMIUM")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        # Chromium's own sandbox does not work for root, as whom containers run.
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def opened(browser, results):
    """Opens the report in a new window; anything that the page asks of a network fails the test."""
    contexts = []

    def open_page(**options):
        context = browser.new_context(**options)
        contexts.append(context)
        asked = []
        context.on("request", lambda request: asked.append(request.url))
        page = context.new_page()
        errors = []
        page.on("pageerror", lambda error: errors.append(error))
        page.goto((results / "report.html").as_uri())
        assert errors == []
        assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
        return page

    yield open_page
    for context in contexts:
        context.close()
