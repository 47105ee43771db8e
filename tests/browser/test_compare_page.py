"""The page of two folders of results in a real browser: what it says of each side, sorting, phone, screen reader."""

import pytest
from axe_playwright_python.sync_playwright import Axe
from hundred import BATCHES, SCHEDULES
from test_page import PHONE, column, heading

CELLS = len(SCHEDULES) * len(BATCHES) - 1  # one is on one side only


def row(page, schedule, batch):
    """The texts of a cell's row by heading."""
    table = page.locator("#table-s-cells")
    names = [text.strip() for text in table.locator("thead th").all_inner_texts()]
    for line in table.locator("tbody tr").all():
        texts = dict(zip(names, line.locator("th, td").all_inner_texts(), strict=True))
        if (texts["schedule"], texts["batch size"]) == (schedule, str(batch)):
            return texts
    raise AssertionError(f"no row of {schedule} at {batch}")


def test_each_row_says_how_its_difference_was_made_and_what_happened(opened, compared):
    page = opened(compared / "x.html")
    assert page.locator("#table-s-cells tbody tr").count() == CELLS
    # The same values under other seeds: unrelated runs, so Welch's interval, whose middle is zero.
    other_seeds = row(page, "none", 128)
    assert other_seeds["made"] == "unpaired, 5 and 5 seeds" and other_seeds["same bits"] == "–"
    assert other_seeds["A − B (points)"].startswith("+0.00 ±") and other_seeds["told apart"] == "no"
    same = row(page, "multistep", 128)
    assert (same["made"], same["same bits"], same["A − B (points)"]) == (
        "paired, 5 seeds",
        "5/5",
        "+0.00 ± 0.00",
    )
    diverged = row(page, "exponential", 64)
    assert diverged["what happened"] == "B: 1/5 diverged at step 99"
    assert (diverged["made"], diverged["same bits"]) == ("paired, 4 seeds", "5/5")
    assert row(page, "onecycle", 32)["same bits"] == "4/5"
    # What is the same everywhere is said once.
    caption = page.locator("#caption-s-cells").inner_text()
    assert "Everywhere: optimizer sgd, lr suggested." in caption and "parameters are all the same" in caption
    assert "On one side only: optimizer sgd, schedule step, batch_size 32, lr suggested (A)" in " ".join(
        page.locator("#s .banner").inner_text().split()
    )


def test_what_the_sides_were_computed_by_is_told_apart(opened, compared):
    page = opened(compared / "x.html")
    same = dict(zip(column(page, "s-provenance", "what"), column(page, "s-provenance", "same"), strict=True))
    assert same == {"version": "no", "engine": "no", "data": "yes", "devices": "no", "software": "yes"}
    assert column(page, "s-provenance", "B")[1] == "f" * 12


def test_its_tables_sort_and_filter(opened, compared):
    page = opened(compared / "x.html")
    heading(page, "s-cells", "A (%)").get_by_role("button").click()
    values = [float(text.split(" ")[0]) for text in column(page, "s-cells", "A (%)")]
    assert len(values) == CELLS and values == sorted(values)
    page.locator('input[data-filter="s-cells"]').fill("onecycle 256")
    assert column(page, "s-cells", "schedule") == ["onecycle"]


def test_a_phone_shows_a_cell_and_its_difference_without_scrolling_sideways(opened, compared):
    page = opened(compared / "x.html", **PHONE)
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    box = page.locator(".scroll", has=page.locator("#table-s-cells"))
    assert box.evaluate("box => box.tabIndex === 0")  # the rest is reached by the keyboard too
    right = heading(page, "s-cells", "A − B (points)").evaluate(
        "title => title.getBoundingClientRect().right"
    )
    assert right <= 390


@pytest.mark.parametrize(
    "options", [{}, {"color_scheme": "dark"}, PHONE], ids=["desktop", "desktop-dark", "phone"]
)
def test_axe_finds_nothing_serious_there_either(opened, compared, options):
    found = Axe().run(opened(compared / "x.html", **options), options={}).response
    serious = {
        issue["id"]: [node["html"][:200] for node in issue["nodes"][:3]]
        for issue in found["violations"]
        if issue["impact"] in ("serious", "critical")
    }
    assert serious == {} and len(found["passes"]) > 20


def test_every_table_of_it_has_a_caption_and_names_its_rows(opened, compared):
    page = opened(compared / "x.html")
    assert page.locator("table").count() == 3
    for table in page.locator("table").all():
        assert table.locator("caption").inner_text()
        assert table.locator("tbody tr").count() == table.locator("tbody tr:has(th[scope=row])").count()
