"""The report page in a real browser: sorting, filtering, downloads, themes, phone, paper, screen reader, weight."""

import csv
import re

import pytest
from axe_playwright_python.sync_playwright import Axe
from hundred import BATCHES, DIVERGED, MISSING, SCHEDULES

PHONE = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}
CELLS = len(SCHEDULES) * len(BATCHES)


def column(page, table, heading):
    """Texts of a column's cells in rows that are shown, in the order on the page."""
    headings = page.locator(f"#table-{table} thead th").all_inner_texts()
    place = next(index for index, text in enumerate(headings) if text.strip().startswith(heading))
    rows = page.locator(f"#table-{table} tbody tr:visible")
    return [row.locator("th, td").nth(place).inner_text().split("\u00b7")[0].strip() for row in rows.all()]


def heading(page, table, text):
    return page.locator(f"#table-{table} thead th", has=page.get_by_role("button", name=text, exact=True))


def test_a_heading_sorts_up_then_down_then_as_written(opened):
    page = opened()
    written = column(page, "accuracy", "final test loss")
    batches = column(page, "accuracy", "batch")
    title = heading(page, "accuracy", "batch")
    assert title.get_attribute("aria-sort") is None
    title.get_by_role("button").click()
    assert title.get_attribute("aria-sort") == "ascending"
    # As numbers: as text, 128 would come before 32.
    assert column(page, "accuracy", "batch") == sorted(batches, key=int)
    title.get_by_role("button").click()
    assert title.get_attribute("aria-sort") == "descending"
    assert column(page, "accuracy", "batch") == sorted(batches, key=int, reverse=True)
    title.get_by_role("button").click()
    assert title.get_attribute("aria-sort") is None
    assert (column(page, "accuracy", "batch"), column(page, "accuracy", "final test loss")) == (
        batches,
        written,
    )


def test_sorting_by_accuracy_is_by_its_value_and_keeps_missing_ones_last(opened):
    page = opened()
    title = heading(page, "runs", "final test (%)")
    for order, sign in (("ascending", 1), ("descending", -1)):
        title.get_by_role("button").click()
        assert title.get_attribute("aria-sort") == order
        texts = column(page, "runs", "final test (%)")
        assert texts[-2:] == ["–", "–"]  # the diverged run and the missing one
        values = [sign * float(text) for text in texts[:-2]]
        assert len(values) == 98 and values == sorted(values)


def test_sorting_works_from_the_keyboard_alone(opened):
    page = opened()
    button = heading(page, "accuracy", "batch").get_by_role("button")
    button.focus()
    page.keyboard.press("Enter")
    assert heading(page, "accuracy", "batch").get_attribute("aria-sort") == "ascending"
    page.keyboard.press("Tab")
    page.keyboard.press("Space")
    assert heading(page, "accuracy", "batch").get_attribute("aria-sort") is None
    assert heading(page, "accuracy", "learning rate").get_attribute("aria-sort") == "ascending"


def test_the_findings_sort_too(opened):
    page = opened()
    assert page.locator("#findings table").count() == 2
    verdicts = column(page, "claim-1", "verdict")
    assert verdicts == ["holds", "does not hold"]
    heading(page, "claim-1", "verdict").get_by_role("button").click()
    assert column(page, "claim-1", "verdict") == sorted(verdicts)


def test_a_filter_keeps_rows_that_hold_every_word_and_says_how_many(opened):
    page = opened()
    field = page.locator('input[data-filter="runs"]')
    field.fill("onecycle BS256")
    shown = column(page, "runs", "run")
    assert shown == [f"sgd-onecycle-bs256-seed{seed}" for seed in range(5)]
    assert page.locator('output[data-count="runs"]').inner_text() == "5 of 100 rows"
    field.fill("onecycle bs256 missing")
    assert column(page, "runs", "run") == [MISSING]
    heading(page, "runs", "run").get_by_role("button").click()  # sorting brings no hidden row back
    assert column(page, "runs", "run") == [MISSING]
    field.fill("")
    assert len(column(page, "runs", "run")) == 100


def test_a_table_downloads_as_the_csv_on_disk(opened, results):
    page = opened()
    with page.expect_download() as waiting:
        page.get_by_role("link", name="Download CSV of Accuracy").click()
    download = waiting.value
    assert download.suggested_filename == "s-accuracy.csv"
    text = (results / "tables/accuracy.csv").read_bytes()
    with open(download.path(), "rb") as file:
        assert file.read() == text
    assert len(list(csv.DictReader(text.decode().splitlines()))) == CELLS


def test_links_lead_to_records_tables_and_rows(opened, results):
    page = opened()
    targets = page.eval_on_selector_all("a[href]", "links => links.map((link) => link.getAttribute('href'))")
    inside = {target for target in targets if target.startswith("#")}
    assert {target for target in inside if page.locator(f'[id="{target[1:]}"]').count() != 1} == set()
    outside = {target for target in targets if not target.startswith(("#", "data:"))}
    unknown = {
        target
        for target in outside
        if not re.fullmatch(r"runs/[\w-]+/(run|machine)\.json|lr_range/sgd/range\.json", target)
        and not (results / target).is_file()
    }
    assert unknown == set()
    records = {target.split("/")[1] for target in outside if target.startswith("runs/")}
    assert len(records) == 99 and DIVERGED in records and MISSING not in records


def luminance(page, selector, which):
    colour = page.eval_on_selector(selector, f"element => getComputedStyle(element).{which}")
    parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(page, selector, which="color"):
    """WCAG 2.2's ratio between an element's colour and the page."""
    pair = sorted([luminance(page, selector, which), luminance(page, "body", "backgroundColor")])
    return (pair[1] + 0.05) / (pair[0] + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_and_its_figures_follow_the_readers_colours(opened, scheme):
    page = opened(color_scheme=scheme)
    assert (luminance(page, "body", "backgroundColor") < 0.1) == (scheme == "dark")
    assert page.locator("#theme").get_attribute("aria-pressed") == str(scheme == "dark").lower()
    for selector in ("p", ".caption", "nav a", "figure svg"):
        assert contrast(page, selector) >= 4.5, selector
    line = "figure svg path[style*='stroke: var(--series-0)']"
    assert contrast(page, line, "stroke") >= 3


def test_the_button_turns_the_colours_and_says_so(opened):
    page = opened(color_scheme="dark")
    button = page.get_by_role("button", name="Dark", exact=True)
    button.click()
    assert button.get_attribute("aria-pressed") == "false"
    assert luminance(page, "body", "backgroundColor") > 0.9 and contrast(page, "figure svg") >= 4.5
    button.click()
    assert luminance(page, "body", "backgroundColor") < 0.1


def test_a_phone_scrolls_the_page_in_one_direction_only(opened):
    page = opened(**PHONE)
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    # What is wider scrolls in a box of its own, which the keyboard reaches.
    box = page.locator(".scroll", has=page.locator("#table-accuracy"))
    assert box.evaluate("box => box.scrollWidth > box.clientWidth && box.tabIndex === 0")
    page.locator("h1").evaluate("element => element.textContent = 'A'.repeat(20) + ' long title'.repeat(9)")
    assert page.evaluate("document.documentElement.scrollWidth") == 390


def test_a_shade_is_at_the_edge_behind_which_there_is_more(opened):
    page = opened(**PHONE)
    box = page.locator(".scroll", has=page.locator("#table-accuracy"))
    assert box.get_attribute("data-more") == "right"
    box.evaluate("box => { box.scrollLeft = 20; }")
    page.wait_for_function("box => box.dataset.more === 'left right'", arg=box.element_handle())
    box.evaluate("box => { box.scrollLeft = box.scrollWidth; }")
    page.wait_for_function("box => box.dataset.more === 'left'", arg=box.element_handle())
    page = opened()
    tall = page.locator(".scroll", has=page.locator("#table-runs"))
    assert tall.get_attribute("data-more") == "below"


def test_a_phone_shows_the_lr_range_in_its_figure_first(opened):
    page = opened(**PHONE)
    band = page.locator("#range .scroll svg [id$='-lr-range']").first.bounding_box()
    assert band["x"] > 0 and band["x"] + band["width"] < 390
    wide = opened(viewport={"width": 1280, "height": 900}).locator("#range .scroll").first
    assert wide.evaluate("box => box.scrollLeft") == 0


def test_the_words_of_all_figures_have_one_size(opened, one_batch):
    scale = "svgs => svgs.map((svg) => svg.getBoundingClientRect().width / svg.viewBox.baseVal.width)"
    for options in ({"viewport": {"width": 1280, "height": 900}}, PHONE):
        scales = opened(one_batch / "report.html", **options).eval_on_selector_all("figure svg", scale)
        assert len(scales) == 4 and max(scales) < 1.02 * min(scales)


def test_boxes_that_do_not_scroll_are_no_stops_of_the_tab_key(opened):
    page = opened(viewport={"width": 1280, "height": 900})
    box = page.locator(".scroll", has=page.locator("#table-largest_batch"))
    assert box.evaluate("box => box.scrollWidth <= box.clientWidth")
    assert box.get_attribute("tabindex") is None


def test_paper_is_white_whole_and_without_buttons(opened, tmp_path):
    page = opened(color_scheme="dark")
    assert page.pdf(path=tmp_path / "report.pdf", format="A4").startswith(b"%PDF")
    page.emulate_media(media="print", color_scheme="dark")
    for gone in ("nav", "#theme", ".filter", ".download"):
        assert not page.locator(gone).first.is_visible()
    assert luminance(page, "h1", "color") < 0.05 and luminance(page, "figure svg", "color") < 0.05
    page.set_viewport_size({"width": 700, "height": 1000})  # the width of A4 less its margins
    cut = page.eval_on_selector_all(
        "table",
        "tables => tables.filter((t) => t.offsetWidth > t.parentElement.clientWidth + 1).map((t) => t.id)",
    )
    assert cut == []
    tall = page.locator(".scroll", has=page.locator("#table-runs"))
    assert tall.evaluate("box => box.scrollHeight <= box.clientHeight + 1")  # all hundred rows


@pytest.mark.parametrize(
    "options", [{}, {"color_scheme": "dark"}, PHONE], ids=["desktop", "desktop-dark", "phone"]
)
def test_axe_finds_nothing_serious(opened, options):
    found = Axe().run(opened(**options), options={}).response
    serious = {
        issue["id"]: [node["html"][:200] for node in issue["nodes"][:3]]
        for issue in found["violations"]
        if issue["impact"] in ("serious", "critical")
    }
    assert serious == {}
    assert len(found["passes"]) > 20  # it did look


def test_a_screen_reader_is_told_figures_tables_and_what_a_row_is(opened):
    page = opened()
    for image in page.get_by_role("img").all():
        assert len(image.get_attribute("aria-label")) > 40
    assert page.get_by_role("img").count() == page.locator("figure").count() >= 4
    for table in page.locator("table").all():
        assert table.locator("caption").inner_text()
        assert table.locator("thead th:not([scope=col])").count() == 0
        assert table.locator("tbody tr").count() == table.locator("tbody tr:has(th[scope=row])").count()


def test_the_page_works_without_script(browser, results):
    page = browser.new_context(java_script_enabled=False).new_page()
    page.goto((results / "report.html").as_uri())
    assert page.locator("#table-runs tbody tr").count() == 100
    assert page.get_by_role("link", name="Download CSV of Accuracy").is_visible()


def test_a_hundred_runs_weigh_less_than_five_megabytes(results):
    page = (results / "report.html").stat().st_size
    print(f"report.html of 100 runs: {page / 1e6:.2f} MB")
    assert page < 5_000_000
