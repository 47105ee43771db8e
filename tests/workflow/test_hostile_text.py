"""A study whose every free text is an attack: the report's pages show it, and do nothing that it asks."""

from html.parser import HTMLParser

import pytest
from markdown_it import MarkdownIt

NASTY = (
    "<script>alert(1)</script> <img src=x onerror=alert(2)> </title></style> [a](javascript:b) ![c](http://d) | e "
    r"**f** `g` $\frac{h$ {{ 7*7 }} {% raw %} &lt;i&gt; \ \" # ~j~ k"
)
PAGES = ("results/small/report", "results/index")


class Page(HTMLParser):
    """What a browser would make of a page: its elements that can act, where they point, and its visible text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.acting: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        if tag in (
            "script",
            "style",
            "iframe",
            "object",
            "embed",
            "img",
            "title",
            "strong",
            "em",
            "code",
            "del",
        ):
            self.acting.append(tag)
        for name, value in attributes:
            if name.startswith("on") or (name in ("href", "src") and ":" in (value or "").partition("/")[0]):
                self.acting.append(f"{tag} {name}={value}")

    def handle_data(self, data):
        self.text += data


def quoted(text):
    return "'" + text.replace("'", "''") + "'"


@pytest.fixture
def hostile(copy):
    """The finished study, with every text replaced, and its pages made again."""
    copy.edit("title: A small study", f"title: {quoted(NASTY)}")
    copy.edit(
        "description: Two schedules, two seeds.", f"description: {quoted(NASTY)}\nnotes: [{quoted(NASTY)}]"
    )
    for sweep in ("schedules", "fixed"):
        copy.edit(f"  {sweep}:\n", f"  {sweep}:\n    title: {quoted(NASTY)}\n")
    copy.snakemake()
    return copy


def test_pages_show_it_and_do_nothing_that_it_asks(hostile, finished):
    for name in PAGES:
        page = Page((hostile.folder / f"{name}.html").read_text())
        assert page.acting == Page((finished.folder / f"{name}.html").read_text()).acting
        assert NASTY in page.text

        markdown = MarkdownIt("commonmark").enable(["table", "strikethrough"])
        page = Page(markdown.render((hostile.folder / f"{name}.md").read_text()))
        expected = Page(markdown.render((finished.folder / f"{name}.md").read_text()))
        assert page.acting == expected.acting
        assert NASTY in page.text
