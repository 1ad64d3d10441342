"""Sphinx directives that write reference tables from the code, and a check that the command page lacks nothing.

{keys} recipe            the keys of a recipe, or of a method by its name, as `ddhub recipes --keys` tells them
{sections} MODULE.Model  a document's model and every model in it, a table each
{choices} MODULE.TABLE   a table of the code by name: what each entry is, in its own words
"""

import importlib
from pathlib import Path
from typing import Any, ClassVar

import click
from docutils import nodes
from docutils.parsers.rst import Directive
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.errors import SphinxError

from ddhub.base.keys import Key, sections
from ddhub.cli.app import main
from ddhub.distillation import recipes


class FromCode(Directive):
    """A directive whose content is Markdown that is made here."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """The parsed content."""
        lines = StringList(self.markdown(self.arguments[0]).splitlines(), source="the code")
        found = nodes.container()
        self.state.nested_parse(lines, self.content_offset, found, match_titles=True)
        return list(found.children)

    def markdown(self, argument: str) -> str:
        """What the directive stands for."""
        raise NotImplementedError


class Keys(FromCode):
    """The keys of a recipe or of a method."""

    def markdown(self, argument: str) -> str:
        """One table."""
        found = recipes.keys()[argument]
        return table(found) if found else "This method has no keys."


class Sections(FromCode):
    """A document's models."""

    option_spec: ClassVar = {"only": str.split}

    def markdown(self, argument: str) -> str:
        """A table for each model, opened by its docstring."""
        found = sections(named(argument))
        told = {name: found[name] for name in self.options.get("only", found)}
        return "\n\n".join(f"**{name}**. {about}\n\n{table(keys)}" for name, (about, keys) in told.items())


class Choices(FromCode):
    """The entries of a table of the code, whose values are texts or have a `title`."""

    def markdown(self, argument: str) -> str:
        """One table."""
        lines = [f"| `{name}` | {getattr(value, 'title', value)} |" for name, value in named(argument).items()]
        return "\n".join(["| name | what it is |", "| --- | --- |", *lines])


def table(keys: list[Key]) -> str:
    """Keys as a Markdown table."""
    lines = [f"| `{key.key}` | {key.values} | {key.otherwise or '-'} | {key.description} |" for key in keys]
    return "\n".join(["| key | values | default | meaning |", "| --- | --- | --- | --- |", *lines])


def named(path: str) -> Any:
    """The object of a dotted path."""
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)


def check_commands(app: Sphinx, fault: Exception | None) -> None:
    """Refuse a page of commands that lacks a command or an option."""
    if fault is not None or app.builder.name != "html":
        return
    page = (Path(app.outdir) / "reference" / "commands.html").read_text()
    options = [option for each in main.commands.values() for one in each.params for option in one.opts]
    wanted = [*main.commands, *(option for option in options if option.startswith("--"))]
    missing = sorted({word for word in wanted if word not in page})
    if missing:
        raise SphinxError(f"reference/commands: lacks {', '.join(missing)}")


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directives and the check."""
    assert isinstance(main, click.Group)
    for name, directive in (("keys", Keys), ("sections", Sections), ("choices", Choices)):
        app.add_directive(name, directive)
    app.connect("build-finished", check_commands)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
