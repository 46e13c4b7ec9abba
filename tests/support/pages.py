"""HTML pages as tests read them."""

from html.parser import HTMLParser


class Page(HTMLParser):
    """The tags, attributes and text of a page, and the nesting depth of its `details` elements."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.deepest = 0
        self._depth = 0
        self.feed(html)
        self.close()
        assert self._depth == 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes.extend(attrs)
        if tag == "details":
            self._depth += 1
            self.deepest = max(self._depth, self.deepest)

    def handle_endtag(self, tag: str) -> None:
        if tag == "details":
            self._depth -= 1

    def handle_data(self, data: str) -> None:
        self.text += data
