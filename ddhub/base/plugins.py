"""Plug-ins by name: ddhub's own, those of installed packages, and files of the user.

Each kind has a contract that is checked on loading: ddhub/distillation/method.py, ddhub/interop/layout.py, and `Build`
of ddhub/training/architectures.py. A file runs only if the user names it. No command loads a file that an artifact
names.
"""

import contextlib
import functools
import hashlib
import importlib
import inspect
import pkgutil
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from ddhub.base.errors import UserError, quoted
from ddhub.base.files import is_path
from ddhub.base.log import say
from ddhub.base.redact import one_line
from ddhub.base.schema import did_you_mean, nearest

Plugin = TypeVar("Plugin")


@dataclass(frozen=True)
class Code:
    """The origin of a plug-in that is not ddhub's own."""

    name: str  # a package with its version, as `ddhub-example 0.1.0`, or a file, as `./mine.py`
    sha256: str | None = None  # of the file

    def __str__(self) -> str:
        return f"{self.name}, sha256 {self.sha256}" if self.sha256 else self.name


@dataclass(frozen=True)
class FoundPlugin:
    """A plug-in and its origin."""

    plugin: Any
    code: Code | None = None  # None: ddhub's own


@dataclass(frozen=True)
class Kind:
    """One kind of plug-in, and the places where its plug-ins are found."""

    noun: str  # the word for it in messages
    group: str  # the entry-point group; an entry point names the plug-in object, as `package.module:METHOD`
    constant: str = ""  # the name of the plug-in object in a file; empty if this kind has no files
    folder: str = ""  # the package of ddhub's own plug-ins

    def names(self) -> list[str]:
        """The sorted names of all plug-ins, without the user's files."""
        return sorted({*self._own(), *self.installed()})

    def installed(self) -> dict[str, list[metadata.EntryPoint]]:
        """The entry points of installed packages, by name."""
        return _installed(self.group, tuple(sys.path))

    def packages(self) -> dict[str, str]:
        """The package and version of each installed plug-in, by the plug-in's name."""
        return {name: " and ".join(sorted(map(_owner, entries))) for name, entries in self.installed().items()}

    def load(self, name: str, faults: Callable[[Any], list[str]], sha256: str | None = None) -> Any:
        """Import one plug-in and check its contract. Its field `code` is filled in.

        Args:
            faults: returns the faults of an object as such a plug-in, one line each.
            sha256: the hash that the file must have.

        Raises:
            UserError: for an unknown name, and for a plug-in that breaks the contract, with its faults.
        """
        found = self.find(name, sha256)
        refuse(self.noun, name, found.code, faults(found.plugin))
        return replace(found.plugin, code=found.code)

    def every(self, load: Callable[[str], Plugin]) -> dict[str, Plugin]:
        """All plug-ins by name. Broken ones are left out with a message."""
        found = {}
        for name in self.names():
            try:
                found[name] = load(name)
            except UserError as fault:
                say(f"left out: {fault}")
        return found

    def find(self, name: str, sha256: str | None = None) -> FoundPlugin:
        """Import one plug-in. The caller checks its contract.

        Args:
            name: a name of ddhub's own files, then of an installed package, or the path of a file.
            sha256: the hash that the file must have.

        Raises:
            UserError: for an unknown name, and for code that cannot be imported.
        """
        if self.constant and is_path(name):
            return self._file(name, sha256)
        if name in self._own():
            return FoundPlugin(self._constant(importlib.import_module(f"{self.folder}.{name}"), f"{self.noun} {name}"))
        entries = self.installed().get(name, [])
        if not entries:
            hint = f"; a file is written ./{name}" if self.constant and name.endswith(".py") else ""
            raise UserError(
                f"no {self.noun} {name!r}{hint or did_you_mean(name, self.names())}",
                next=f"write {(nearest(name, self.names()) or self.names() or ['another'])[0]}"
                + (", or a file as ./mine.py" if self.constant else ""),
            )
        if len(entries) > 1:
            both = self.packages()[name]
            raise UserError(f"{self.noun} {name}: is in two packages, {both}", next="pip uninstall one of them")
        package = _owner(entries[0])
        with _import_faults(f"{self.noun} {name} of {package}", next=f"pip install --upgrade {package.split()[0]}"):
            return FoundPlugin(entries[0].load(), Code(package))

    def _own(self) -> list[str]:
        folder = importlib.import_module(self.folder).__path__ if self.folder else []
        return [module.name for module in pkgutil.iter_modules(folder) if not module.name.startswith("_")]

    def _file(self, name: str, sha256: str | None) -> FoundPlugin:
        path = Path(name).expanduser()
        try:
            content = path.read_bytes()
        except OSError as fault:
            raise UserError(
                f"{name}: no {self.noun} can be read there ({fault.strerror})", next=f"ls -l {quoted(path)}"
            ) from fault
        known = hashlib.sha256(content).hexdigest()
        if sha256 not in (None, known):
            raise UserError(
                f"{name}: is not the file that the recipe was made with: its sha256 is {known}, not {sha256}",
                next="bring the file back as it was; or --set method.sha256=null and another --out, to use it as it is",
            )
        with _import_faults(name):
            module = _executed(path.absolute(), content, known)
        return FoundPlugin(self._constant(module, name), Code(public_name(name), known))

    def _constant(self, module: ModuleType, where: str) -> Any:
        if not hasattr(module, self.constant):
            raise UserError(f"{where}: defines no {self.constant}", next=f"end the file with {self.constant} = ...")
        return getattr(module, self.constant)


METHODS = Kind("method", "ddhub.methods", "METHOD", "ddhub.distillation.methods")
LAYOUTS = Kind("layout", "ddhub.layouts", "LAYOUT", "ddhub.interop.layouts")
ARCHITECTURES = Kind("architecture", "ddhub.architectures")  # ddhub's own stand in ddhub/training/architectures.py


def lazy(module: str, name: str) -> Callable[..., Any]:
    """A function whose module is imported on its first call. Settings can thus be read without torch."""

    def call(*given: Any, **named: Any) -> Any:
        return getattr(importlib.import_module(module), name)(*given, **named)

    return call


def public_name(name: str) -> str:
    """The name of a plug-in in artifacts. A file's folder is private and left out."""
    return f"./{Path(name).name}" if is_path(name) else name


def signature_fault(function: Any, *arguments: str) -> str | None:
    """Check that a function takes these positional arguments. Return the fault, or None."""
    wanted = f"({', '.join(arguments)})"
    if not callable(function):
        return f"is no function of {wanted}, but {type(function).__name__}"
    try:
        signature = inspect.signature(function)
        signature.bind(*arguments)
    except ValueError:  # compiled code has no signature
        return None
    except TypeError:
        return f"takes {signature}, and is called with {wanted}"
    return None


def function_faults(**functions: tuple[Any, ...]) -> list[str]:
    """The faults of a plug-in's functions, one line each.

    Args:
        functions: by its name, each function followed by the names of its positional arguments.
    """
    found = {name: signature_fault(function, *arguments) for name, (function, *arguments) in functions.items()}
    return [f"{name}: {fault}" for name, fault in found.items() if fault]


def refuse(noun: str, name: str, code: Code | None, faults: list[str]) -> None:
    """Refuse a plug-in that breaks its contract, if there are faults.

    Raises:
        UserError: with one line per fault.
    """
    where = f"{noun} {name}" + (f" of {code.name}" if code and not code.sha256 else "")
    if faults:
        raise UserError("\n".join(f"{where}: {fault}" for fault in faults))


@contextlib.contextmanager
def blame_plugin(code: Code | None) -> Iterator[None]:
    """Turn a fault in a plug-in's code into a UserError that names the code, with its traceback.

    Raises:
        UserError: for exceptions of the plug-in's code. Faults of ddhub's own code pass through.
    """
    try:
        yield
    except (UserError, MemoryError):
        raise
    except Exception as fault:
        if code is None or type(fault).__name__ == "OutOfMemoryError":
            raise
        say("".join(traceback.format_exception(fault)).rstrip())
        raise UserError(f"{code.name}: its code failed: {_fault_text(fault)}") from fault


@functools.lru_cache(maxsize=8)
def _installed(group: str, path: tuple[str, ...]) -> dict[str, list[metadata.EntryPoint]]:
    """Entry points by name. They are read again when `path` (sys.path) changes."""
    found: dict[str, list[metadata.EntryPoint]] = {}
    for entry in metadata.entry_points(group=group):
        found.setdefault(entry.name, []).append(entry)
    return found


def _owner(entry: metadata.EntryPoint) -> str:
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist else entry.value


_FILES: dict[tuple[Path, str], ModuleType] = {}
_turn = threading.RLock()  # of `_FILES`: a class has one identity in all threads


def _executed(path: Path, content: bytes, sha256: str) -> ModuleType:
    """Run the content of a file as a module. The content was hashed before, so the hash is that of the running code."""
    with _turn:
        return _FILES.get((path, sha256)) or _run(path, content, sha256)


def _run(path: Path, content: bytes, sha256: str) -> ModuleType:
    module = ModuleType(f"ddhub_plugin_{sha256[:16]}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module  # models and dataclasses look up their annotations there
    exec(compile(content, str(path), "exec"), module.__dict__)
    _FILES[path, sha256] = module
    return module


@contextlib.contextmanager
def _import_faults(where: str, next: str | None = None) -> Iterator[None]:
    try:
        yield
    except UserError:
        raise
    except (Exception, SystemExit) as fault:
        raise UserError(f"{where}: cannot be loaded: {_fault_text(fault)}", next=next) from fault


def _fault_text(fault: BaseException) -> str:
    """An exception in one line, with the line of code that raised it."""
    frames = traceback.extract_tb(fault.__traceback__)
    # A SyntaxError names its own line.
    where = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
    return f"{type(fault).__name__}: {one_line(fault)}{'' if isinstance(fault, SyntaxError) else where}"
