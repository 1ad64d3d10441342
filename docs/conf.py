"""How the documentation is built: `make docs`, warnings are errors."""

import re
import sys
from pathlib import Path
from typing import Any

import ddhub

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project, author, release = "ddhub", "the ddhub authors", ddhub.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_click", "model_tables"]
exclude_patterns = ["_build"]
suppress_warnings = ["myst.strikethrough"]
highlight_language = "text"
smartquotes = False  # an option keeps its two dashes
default_role = "code"  # docstrings write `code` as Markdown does
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
html_theme = "furo"
html_title = f"ddhub {release}"


def read(app: Any, document: str, source: list[str]) -> None:
    """Let links to Markdown files outside of these pages lead to the files themselves."""
    source[0] = re.sub(r"\]\(((?:\.\./)+(?!docs/)[\w/]*[A-Z]+\.md)\)", r"](<path:\1>)", source[0])


def setup(app: Any) -> None:
    """Register it."""
    app.connect("source-read", read)
