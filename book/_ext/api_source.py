"""The public names of devlib and companion, and the tests and pages that exercise them, read with
`ast`."""

import ast
from dataclasses import dataclass, field
from pathlib import Path

# ------------------------------------------------------------------------------------- the names


@dataclass(frozen=True)
class Name:
    """A public function, class, method or property."""

    module: str  # devlib.llc
    name: str  # estimate_llc, or LLC.mean
    kind: str  # function, class, method, classmethod, staticmethod, property
    signature: str
    doc: str
    members: tuple["Name", ...] = ()

    @property
    def path(self):
        return f"{self.module}.{self.name}"


@dataclass(frozen=True)
class Module:
    """A module's docstring and public names."""

    name: str
    doc: str
    names: tuple[Name, ...]

    @property
    def all_names(self):
        """The names and their members."""
        return [each for name in self.names for each in (name, *name.members)]


def modules(root) -> dict[str, Module]:
    """Every module of devlib and of the companion but the packages' fronts, by its name; of
    devlib, by that below devlib."""
    found = {}
    for name, path in _sources(root):
        if not path.stem.startswith("_"):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            found[name.removeprefix("devlib.")] = Module(
                name, ast.get_docstring(tree) or "", tuple(_names(tree, name)))
    return found


def _sources(root):
    """(dotted name, file) of each module of both rooms."""
    for room in (Path(root) / "devlib", Path(root) / "book" / "companion"):
        for path in sorted(room.rglob("*.py")):
            parts = path.relative_to(room.parent).with_suffix("").parts
            yield ".".join(parts).removesuffix(".__init__"), path


def _names(tree, module):
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            yield Name(module, node.name, "function", _signature(node),
                       ast.get_docstring(node) or "")
        elif isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield Name(module, node.name, "class", _class_signature(node),
                       ast.get_docstring(node) or "", tuple(_members(node, module)))


def _members(node, module):
    for member in node.body:
        if isinstance(member, ast.FunctionDef) and not member.name.startswith("_"):
            said = {ast.unparse(d).split(".")[-1] for d in member.decorator_list}
            kind = next((k for k in ("property", "classmethod", "staticmethod") if k in said),
                        "method")
            yield Name(module, f"{node.name}.{member.name}", kind,
                       _signature(member, drop_first=kind != "staticmethod"),
                       ast.get_docstring(member) or "")


def _signature(node, drop_first=False):
    """(arguments) -> annotation, as written."""
    arguments = node.args
    if drop_first:
        first = arguments.posonlyargs or arguments.args
        arguments = ast.arguments(**{**vars(arguments), "args": first[1:], "posonlyargs": []})
    returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    return f"({ast.unparse(arguments)}){returns}"


def _class_signature(node):
    """A dataclass's fields, or what `__init__` takes."""
    for member in node.body:
        if isinstance(member, ast.FunctionDef) and member.name == "__init__":
            return _signature(member, drop_first=True).split(" -> ")[0]
    fields = [_field(member) for member in node.body
              if isinstance(member, ast.AnnAssign) and isinstance(member.target, ast.Name)]
    return f"({', '.join(fields)})"


def _field(member):
    """`name: annotation = default`; of a default made by a call of field or number, its value."""
    value, default = member.value, ""
    if isinstance(value, ast.Call) and ast.unparse(value.func) in ("field", "number"):
        value = value.args[0] if value.args else ast.Constant(...)
    if value is not None:
        default = f" = {ast.unparse(value)}"
    return f"{member.target.id}: {ast.unparse(member.annotation)}{default}"


# ------------------------------------------------------------------------------------- the tests


@dataclass
class _Use:
    """What one function of a test file names: paths of devlib or of other test files, and bare
    attributes, which may be methods."""

    paths: set = field(default_factory=set)
    attributes: set = field(default_factory=set)


def tests(root, found: dict[str, Module]) -> dict[str, list[str]]:
    """Path of each public name -> the tests that exercise it by name, as `test_llc.test_x`; also
    through helpers and fixtures of test files. A method counts where its class is named too, or
    another name of its module is, and an attribute of its name is used."""
    uses = {}
    for path in sorted((Path(root) / "tests").rglob("*.py")):
        uses |= _uses(path, ast.parse(path.read_text(encoding="utf-8")))
    reached = {key: _closure(key, uses) for key in uses
               if key.split(".")[-1].startswith("test_")}
    return _by_name(root, found, reached)


def pages(root, found: dict[str, Module]) -> dict[str, list[str]]:
    """Path of each public name -> the notebook pages whose code names it."""
    reached = {}
    for path in sorted((Path(root) / "notebooks").glob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        aliases = {}
        for node in ast.walk(tree):
            aliases |= _imported(node)
        reached[path.stem] = _use(tree, aliases)
    return _by_name(root, found, reached)


def _by_name(root, found, reached):
    """Path of each public name -> the keys of `reached` whose _Use names it."""
    moved, result = _reexports(root), {}
    members = {}  # bare name of a method -> its paths
    for module in found.values():
        for name in module.all_names:
            if "." in name.name:
                members.setdefault(name.name.split(".")[1], []).append(name)
    known = {name.path for module in found.values() for name in module.all_names}
    for key, use in reached.items():
        hit = {prefix for path in use.paths for prefix in _prefixes(moved.get(path, path))}
        for attribute in use.attributes & members.keys():
            hit |= {name.path for name in members[attribute]
                    if name.path.rpartition(".")[0] in hit or name.module in hit}
        for path in hit & known:
            result.setdefault(path, []).append(key)
    return result


def _prefixes(path):
    parts = path.split(".")
    return [".".join(parts[:count]) for count in range(2, len(parts) + 1)]


def _uses(path, tree):
    """`stem.function` -> _Use, for the top-level functions and classes of a test file; what stands
    outside of them (parameters, constants) counts for those that name it."""
    stem, aliases = path.stem, {}
    for node in ast.walk(tree):
        aliases |= _imported(node)
    tops = {name: node for node in tree.body for name in _defined(node)}
    return {f"{stem}.{name}": _use(node, {**aliases, **{top: f"{stem}.{top}" for top in tops}})
            for name, node in tops.items()}


def _use(tree, aliases):
    """What a piece of code names; an argument of a top-level name is a fixture."""
    use = _Use()
    for part in ast.walk(tree):
        if isinstance(part, ast.Attribute):
            use.attributes.add(part.attr)
        if isinstance(part, ast.arg) and part.arg in aliases:
            use.paths.add(aliases[part.arg])
        dotted = _dotted(part)
        if dotted:
            head, _, rest = dotted.partition(".")
            use.paths.add(".".join(filter(None, [aliases.get(head, head), rest])))
    return use


def _defined(node):
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return [node.name]
    if isinstance(node, ast.Assign):
        return [part.id for target in node.targets for part in ast.walk(target)
                if isinstance(part, ast.Name)]
    return []


def _imported(node):
    if isinstance(node, ast.Import):
        return {a.asname or a.name.split(".")[0]: a.name if a.asname else a.name.split(".")[0]
                for a in node.names}
    if isinstance(node, ast.ImportFrom) and node.module:
        tests = node.module.startswith("tests.")  # by their file, wherever it lies
        module = node.module.rpartition(".")[2] if tests else node.module
        return {a.asname or a.name: f"{module}.{a.name}" for a in node.names}
    return {}


def _dotted(node):
    """results.adopt of an attribute chain or a name, else None."""
    parts = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return ".".join([node.id, *reversed(parts)]) if isinstance(node, ast.Name) else None


def _closure(test, uses):
    """All that a test names, also through what it names of test files."""
    total, waiting, seen = _Use(), [test], set()
    while waiting:
        key = waiting.pop()
        if key in seen or key not in uses:
            continue
        seen.add(key)
        total.paths |= uses[key].paths
        total.attributes |= uses[key].attributes
        waiting += [".".join(path.split(".")[:2]) for path in uses[key].paths]
    return total


def _reexports(root):
    """devlib.sampling.SGLD -> devlib.sampling.sgld.SGLD, of every name that a module imports."""
    moved = {}
    for module, path in _sources(root):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(
                    ("devlib", "companion")):
                moved |= {f"{module}.{name}": source for name, source in _imported(node).items()}
    return moved
