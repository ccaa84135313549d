"""What stands in a page."""

from html.parser import HTMLParser


class Page(HTMLParser):
    """Tags with attributes, and the words outside of styles."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.words, self.inside = [], [], None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.inside = tag

    def handle_data(self, data):
        if self.inside != "style":
            self.words.append(data)

    def of(self, tag, kind=None):
        return [a for found, a in self.tags if found == tag and (kind is None or a.get("class") == kind)]
