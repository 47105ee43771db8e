"""The pages of the documentation against the files they speak of."""

import re
from functools import cache

import pytest
from workplace import ROOT

ENGINE = ROOT / "workflow/scripts/rangefinder"
PAGES = sorted(
    path.relative_to(ROOT)
    for pattern in ("*.md", "docs/**/*.md", "config/**/*.md", "results/*.md")
    for path in ROOT.glob(pattern)
)
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)|(?:href|src)=\"([^\"]+)\"")


@cache
def prose(path):
    """A page without its code: what looks like a link there is none."""
    text = re.sub(r"^```.*?^```", "", (ROOT / path).read_text(), flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"`[^`\n]*`", "", re.sub(r"^ {4}.*$", "", text, flags=re.MULTILINE))


def anchors(path):
    """The names that GitHub gives a page's headings."""
    headings = re.findall(
        r"^#+ (.+)$", re.sub(r"^```.*?^```", "", (ROOT / path).read_text(), flags=re.M | re.S), re.M
    )
    return {re.sub(r"[^\w\- ]", "", text.lower()).strip().replace(" ", "-") for text in headings}


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_every_relative_link_leads_somewhere(page):
    for target in (one or other for one, other in LINK.findall(prose(page))):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        path = (ROOT / page).parent / file if file else ROOT / page
        assert path.exists(), f"{page}: {target}"
        if anchor and path.suffix == ".md":
            assert anchor in anchors(path.resolve().relative_to(ROOT)), f"{page}: {target}"


def test_there_are_links_to_hold():
    found = [target for page in PAGES for target in LINK.findall(prose(page))]
    assert len(PAGES) >= 8 and len(found) >= 5


def table_of_modules():
    page = (ROOT / "docs/architecture.md").read_text()
    table = page.split("## Engine")[1].split("\n## ")[0]
    return [name for row in re.findall(r"^\| (`.*?) \|", table, re.M) for name in re.findall(r"`(\w+)`", row)]


def test_every_engine_module_is_in_the_architecture_table_once():
    modules = {
        path.stem for path in ENGINE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    listed = table_of_modules()
    assert sorted(listed) == sorted(modules - {"__init__"})


def test_the_architecture_page_names_the_rules_files_and_tests_folders():
    page = (ROOT / "docs/architecture.md").read_text()
    line = re.search(r"^    rules/ +(.*) \(\.smk\)$", page, re.M)[1]
    assert set(line.split(", ")) == {path.stem for path in (ROOT / "rules").glob("*.smk")}
    line = re.search(r"^    tests/ +(.*)$", page, re.M)[1]
    folders = {path.name for path in (ROOT / "tests").iterdir() if path.is_dir() and any(path.glob("*.py"))}
    assert set(line.replace("/", "").split(", ")) == folders
