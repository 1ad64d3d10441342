"""The page benchmarks/faults.md. Every script writes its own section."""

from pathlib import Path

PAGE = Path(__file__).parent / "faults.md"


def put(section: str) -> None:
    """Replace the section with the same heading. A new section goes to the end.

    Args:
        section: Markdown that begins with an empty line and a heading of the first level.
    """
    text, heading = PAGE.read_text(), section.strip().partition("\n")[0]
    start = text.find(f"\n{heading}\n")
    if start < 0:
        PAGE.write_text(text + section)
        return
    end = text.find("\n# ", start + 1)
    PAGE.write_text(text[:start] + section + ("" if end < 0 else text[end:]))
