"""A page as its reader meets it."""

from html.parser import HTMLParser


class Read(HTMLParser):
    """Tags with their attributes, text without styles, rows of the tables, and whether every tag closes."""

    VOID = {"meta", "img"}

    def __init__(self, page: str):
        super().__init__()
        self.open, self.text, self.rows, self.tags = [], "", [], []
        self.feed(page)
        self.text = " ".join(self.text.split())

    def attributes_of(self, tag: str) -> list[dict]:
        return [attributes for name, attributes in self.tags if name == tag]

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" in self.open:
            return
        self.text += data
        if "td" in self.open or "th" in self.open:
            self.rows[-1][-1] += " ".join(data.split())
