"""A report of a hundred runs, and Debian's (or any installed) Chromium to look at it with."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml
from hundred import claims, hundred_runs, other_side, range_test
from rangefinder import collection, comparison, findings, shown_comparison

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
CHROMIUM = os.environ.get("RANGEFINDER_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)


@pytest.fixture(scope="session")
def results(tmp_path_factory) -> Path:
    """A results folder with the report, its tables and figures."""
    return write_report(tmp_path_factory.mktemp("results"), *hundred_runs(), claims())


@pytest.fixture(scope="session")
def one_batch(tmp_path_factory) -> Path:
    """The same of the runs at one batch size, whose figures have one panel."""
    plan, runs = hundred_runs()
    plan["runs"] = [entry for entry in plan["runs"] if "-bs64-" in entry["run"]]
    runs = [run for run in runs if "-bs64-" in run["run"]["run"]]
    return write_report(tmp_path_factory.mktemp("one-batch"), plan, runs)


def write_report(folder: Path, plan: dict, runs: list, answered: Sequence[dict] = ()) -> Path:
    """Report, tables and figures of these records, with findings on these claims."""
    entry, sweeps = range_test()
    found = collection.Collection(plan, [entry], {"sgd": sweeps}, runs)
    if answered:
        (folder / "claims.yaml").write_text(yaml.safe_dump({"claims": list(answered)}))
        found.findings = findings.findings(plan | {"published": "s"}, found.cells, [entry], directory=folder)
    for kind, texts in (("figures", found.figures()), ("tables", found.tables())):
        (folder / kind).mkdir()
        for name, text in texts.items():
            (folder / kind / (name if kind == "figures" else f"{name}.csv")).write_text(text)
    for kind, text in found.report(folder / "figures", ROOT / "report").items():
        (folder / f"report.{kind}").write_text(text)
    return folder


@pytest.fixture(scope="session")
def compared(tmp_path_factory) -> Path:
    """A folder with the page that compares the hundred runs with those of another machine."""
    folder = tmp_path_factory.mktemp("compared")
    plan, runs = hundred_runs()
    entry, _ = range_test()
    entry["per_seed"] = [answer | {"seed": seed} for seed, answer in enumerate(entry["per_seed"])]
    elsewhere, others = other_side(plan, runs)
    there = entry | {"provenance": others[0]["run"]["provenance"]}
    pair = (
        collection.Collection(plan, [entry], {}, runs),
        collection.Collection(elsewhere, [there], {}, others),
    )
    text = comparison.text({"s": pair})
    context = shown_comparison.context({"s": pair}, ["here", "there"], [("A", "another")])
    for kind, page in shown_comparison.pages(context, text, "x", ROOT / "report").items():
        (folder / f"x.{kind}").write_text(page)
    (folder / "x.csv").write_text(text)
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
    """Opens the report, or another page, in a new window; what it asks of a network fails the test."""
    contexts = []

    def open_page(file=results / "report.html", **options):
        context = browser.new_context(**options)
        contexts.append(context)
        asked = []
        context.on("request", lambda request: asked.append(request.url))
        page = context.new_page()
        errors = []
        page.on("pageerror", lambda error: errors.append(error))
        page.goto(file.as_uri())
        assert errors == []
        assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
        return page

    yield open_page
    for context in contexts:
        context.close()
