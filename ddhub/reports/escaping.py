"""Escaping of strangers' text for the terminal, Markdown, HTML and the card's Python script."""

import re

# Characters with a meaning in Markdown, HTML or formulas. An underscore inside a word has none.
MARKUP = re.compile(r"[<>&|`*\[\]{}#\\~$@]|(?<![^\W_])_|_(?![^\W_])|:(?=//)|(?<=www)\.", re.IGNORECASE)


def oneline(text: str) -> str:
    """A text on one line, without characters that move the cursor or reverse the text."""
    return "".join(letter if letter.isprintable() else " " for letter in text)


def plain(text: str) -> str:
    """A text on one line, escaped for Markdown and HTML: no markup, links or formulas."""
    return MARKUP.sub(lambda found: "".join(f"&#{ord(letter)};" for letter in found[0]), oneline(text))


def code(text: str) -> str:
    """A name, id or path as inline code of Markdown, or as plain words if code cannot hold it."""
    return f"`{text}`" if re.fullmatch(r"[\w./:@+=, -]+", text, re.ASCII) else plain(text)


def literal(value: str | list[str]) -> str:
    """Strings as Python literals, on one line."""
    if isinstance(value, list):
        return f"[{', '.join(map(literal, value))}]"
    return f'"{value}"' if value.isprintable() and not {'"', "\\"} & set(value) else repr(value)
