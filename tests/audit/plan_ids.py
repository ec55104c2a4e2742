"""The ids of findings that planning and the sources can make, read from the code itself."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from drivers.linux.device_files import EDITED, REMARKED

ROOT = Path(__file__).resolve().parents[2]
_FOLDERS = ("drivers", "p2v", "converters")
_NOT_HERE = ROOT / "p2v" / "audit"

COMPUTED: dict[tuple[str, str], frozenset[str]] = {
    ("drivers/linux/device_files.py", "f'linux.{named.noun}.unresolved'"): frozenset(
        f"linux.{named.noun}.unresolved" for named in EDITED
    ),
    ("drivers/linux/device_files.py", "f'linux.{noun}.names-device'"): frozenset(
        f"linux.{noun}.names-device" for _, noun, _ in REMARKED
    ),
    # _chosen is called for "disk" and for "network card"
    ("drivers/other/planning.py", "f'other.{what.split()[-1]}-name'"): frozenset(
        {"other.disk-name", "other.card-name"}
    ),
    ("drivers/other/planning.py", "f'other.{what.split()[-1]}-names'"): frozenset(
        {"other.disk-names", "other.card-names"}
    ),
    # a draft's warn() and block() are looked at by themselves
    ("p2v/sources/draft.py", "f'source.{finding}'"): frozenset(),
    # signing's objections, which are looked at by themselves
    ("drivers/windows/signing.py", "objection.id"): frozenset(),
}
"""Ids that are put together where they are made: the module, the expression, and what it can be."""


class NotTold(AssertionError):
    """An id that cannot be read from the code, and is not in ``COMPUTED``."""


def produced() -> frozenset[str]:
    """Every id there can be. Raises NotTold."""
    return frozenset(id_ for path in _modules() for id_ in _ids_of(path))


def _modules() -> Iterator[Path]:
    for folder in _FOLDERS:
        yield from (path for path in sorted((ROOT / folder).rglob("*.py")) if _NOT_HERE not in path.parents)


def _ids_of(path: Path) -> Iterator[str]:
    text = path.read_text("utf-8")
    if "Finding(" not in text and ".warn(" not in text and ".block(" not in text:
        return
    name, tree = path.relative_to(ROOT).as_posix(), ast.parse(text)
    if _imports_finding(tree):
        for call in _calls(tree, {"Finding", "_Objection"}):
            yield from _values(name, tree, call, call.args[0])
    if name.startswith("p2v/sources/"):
        for call in _methods(tree, {"warn", "block"}):
            yield from (f"source.{id_}" for id_ in _values(name, tree, call, call.args[0]))


def _imports_finding(tree: ast.Module) -> bool:
    """Whether a module's Finding is the plan's: the converters have one of their own."""
    imports = (node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module == "drivers.plan")
    return any(alias.name == "Finding" and alias.asname is None for node in imports for alias in node.names)


def _calls(tree: ast.AST, names: set[str]) -> Iterator[ast.Call]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in names:
            yield node


def _methods(tree: ast.AST, names: set[str]) -> Iterator[ast.Call]:
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr in names
            and node.args
        ):
            yield node


def _values(name: str, tree: ast.Module, call: ast.Call, argument: ast.expr) -> Iterator[str]:
    match argument:
        case ast.Constant(value=str(text)):
            yield text
        case ast.IfExp():
            yield from _values(name, tree, call, argument.body)
            yield from _values(name, tree, call, argument.orelse)
        case _ if (name, ast.unparse(argument)) in COMPUTED:
            yield from COMPUTED[(name, ast.unparse(argument))]
        case ast.Name():
            found = list(_of_constant(tree, argument.id)) or list(_of_parameter(name, tree, call, argument.id))
            if not found:
                raise NotTold(f"{name} line {call.lineno}: {argument.id}")
            yield from found
        case _:
            raise NotTold(f"{name} line {call.lineno}: {ast.unparse(argument)}")


def _of_constant(tree: ast.Module, wanted: str) -> Iterator[str]:
    """A constant of the module, also one of several that are assigned at once."""
    for node in tree.body:
        if isinstance(node, ast.Assign):
            for target in node.targets:
                if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
                    pairs = list(zip(target.elts, node.value.elts, strict=True))
                else:
                    pairs = [(target, node.value)]
                for left, right in pairs:
                    if isinstance(left, ast.Name) and left.id == wanted and isinstance(right, ast.Constant):
                        yield str(right.value)


def _of_parameter(name: str, tree: ast.Module, call: ast.Call, wanted: str) -> Iterator[str]:
    """What a module hands to the function that makes the finding."""
    for function in (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)):
        parameters = [argument.arg for argument in function.args.args]
        if wanted in parameters and call in list(ast.walk(function)):
            at = parameters.index(wanted)
            for other in _calls(tree, {function.name}):
                yield from _values(name, tree, other, other.args[at])
