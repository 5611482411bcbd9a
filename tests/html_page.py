"""What a page of HTML shows, for the tests of those that the package writes."""

from __future__ import annotations

from html.parser import HTMLParser


class Page(HTMLParser):
    """Collects what matters: images, links, cells, text of headings."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.images: list[str] = []
        self.links: list[str] = []
        self.cells: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        found = dict(attributes)
        if tag == "img":
            self.images.append(str(found["src"]))
        elif tag != "meta":
            self.open.append(tag)
        self.links += [str(found[k]) for k in ("href", "action") if k in found]
        if tag == "script" and "src" in found:
            self.links.append(str(found["src"]))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes something else"

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("td", "th"):
            self.cells.append(data)
