"""Rewrites Python modules for what moved: imports, uses of what they import, and names in strings and comments."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import libcst as cst
from libcst.codemod import CodemodContext
from libcst.codemod.visitors import AddImportsVisitor
from libcst.helpers import get_full_name_for_node
from libcst.metadata import Assignment, MetadataWrapper, ParentNodeProvider, ScopeProvider
from libcst.metadata.scope_provider import Scope

from parley.moves import module_of
from parley.names import Names


class NotPython(Exception):
    """Means that a file ends with .py but cannot be parsed as Python."""


@dataclass
class Rewritten:
    text: str
    notes: list[str] = field(default_factory=list[str])
    """Lists what could not be rewritten, a sentence each."""


def rewrite(text: str, path: str, names: Names) -> Rewritten:
    """Returns a module as the update needs it. `path` is its path before the update. Raises NotPython."""
    moves = names.of(module_of(path)) != module_of(path)
    if not names.concern(text) and not (moves and "from ." in text):
        return Rewritten(text)
    try:
        wrapper = MetadataWrapper(cst.parse_module(text))
    except cst.ParserSyntaxError as error:
        raise NotPython(f"line {error.raw_line}") from None
    plan = _Plan(wrapper, path, names)
    module = wrapper.module.visit(_Rewriter(plan, names))
    if plan.imports:
        context = CodemodContext()
        for origin, name, alias in plan.imports:
            AddImportsVisitor.add_needed_import(context, origin, name or None, alias or None)
        module = AddImportsVisitor(context).transform_module(module)
    return Rewritten(module.code, plan.notes)


class _Plan:
    """Plans the changes of each import and of each use of an imported name."""

    def __init__(self, wrapper: MetadataWrapper, path: str, names: Names) -> None:
        self._names = names
        self._parents: Mapping[cst.CSTNode, cst.CSTNode] = wrapper.resolve(ParentNodeProvider)
        self._module = module_of(path)
        self._is_package = path.endswith("__init__.py")
        self._bound = {
            node.value for node in _walk(wrapper.module) if isinstance(node, cst.Name) and self._is_local(node)
        }
        self.statements: dict[cst.CSTNode, list[cst.BaseSmallStatement]] = {}
        self.replaced: dict[cst.CSTNode, cst.BaseExpression] = {}
        self.imports: set[tuple[str, str, str]] = set()
        self.notes: list[str] = []
        scopes: Mapping[cst.CSTNode, Scope | None] = wrapper.resolve(ScopeProvider)
        self._scopes = {scope for scope in scopes.values() if scope is not None}
        for node in _walk(wrapper.module):
            if isinstance(node, cst.ImportFrom):
                self._plan_from(node)
            elif isinstance(node, cst.Import):
                self._plan_import(node)
        if top := scopes[wrapper.module]:
            self._rename_definitions(top)

    def _is_at_top(self, node: cst.ImportFrom) -> bool:
        """Returns whether an import can be removed without leaving a block empty."""
        return isinstance(self._parents[self._parents[node]], cst.Module)

    def _is_local(self, node: cst.Name) -> bool:
        parent = self._parents[node]
        if isinstance(parent, cst.Attribute):
            return parent.value is node
        if isinstance(parent, cst.ImportAlias):
            return parent.asname is None
        return not (isinstance(parent, cst.Arg) and parent.keyword is node)

    def _plan_from(self, node: cst.ImportFrom) -> None:
        origin = self._absolute(node)
        if isinstance(node.names, cst.ImportStar):
            if split := self._names.split_from(origin):
                self.notes.append(f"`from {origin} import *` no longer brings {', '.join(sorted(split))}")
            self._replace_from(node, {self._names.of(origin): node.names})
            return
        found: dict[str, list[cst.ImportAlias]] = {}
        for alias in node.names:
            name = alias.evaluated_name
            full = f"{origin}.{name}"
            now = self._names.of(full)
            is_module = self._names.is_module(full)
            is_unused = is_module and self._follow_attributes(node, alias.evaluated_alias or name, full)
            if is_unused and (len(node.names) > 1 or self._is_at_top(node)):
                continue
            module, _, new_name = now.rpartition(".")
            found.setdefault(module, []).append(self._alias(node, alias, new_name))
        self._replace_from(node, found)

    def _replace_from(
        self, node: cst.ImportFrom, found: Mapping[str, Sequence[cst.ImportAlias] | cst.ImportStar]
    ) -> None:
        is_moved = bool(node.relative) and self._names.of(self._module) != self._module
        if found.keys() == {self._absolute(node)} and not is_moved:
            [names] = found.values()
            self.statements[node] = [node.with_changes(names=names)]
        elif len(found) == 1:
            [(module, names)] = found.items()
            kept = node.with_changes(names=names, module=_dotted(module), relative=())
            self.statements[node] = [kept.with_changes(whitespace_after_from=cst.SimpleWhitespace(" "))]
        else:
            self.statements[node] = [_import(module, names) for module, names in sorted(found.items())]

    def _alias(self, node: cst.ImportFrom, alias: cst.ImportAlias, new_name: str) -> cst.ImportAlias:
        name = alias.evaluated_name
        if new_name == name:
            return alias
        renamed = alias.with_changes(name=cst.Name(new_name))
        if alias.asname is not None:
            return renamed
        if self._rename_uses(node, name, new_name):
            return renamed
        return renamed.with_changes(asname=cst.AsName(cst.Name(name)))

    def _plan_import(self, node: cst.Import) -> None:
        aliases = list(node.names)
        for index, alias in enumerate(aliases):
            dotted = alias.evaluated_name
            if not self._names.is_module(dotted):
                continue
            now = self._names.of(dotted)
            if now != dotted:
                aliases[index] = alias.with_changes(name=_dotted(now))
            if alias.asname is not None:
                self._follow_attributes(node, alias.evaluated_alias or "", dotted)
            elif isinstance(alias.name, cst.Attribute):
                self._follow_dotted(node, dotted.split(".")[0])
        if aliases != list(node.names):
            self.statements[node] = [node.with_changes(names=aliases)]

    def _follow_dotted(self, node: cst.Import, root: str) -> None:
        """Rewrites uses such as `app.core.events.Log` after `import app.core.events`."""
        for access in self._accesses(node, root):
            top: cst.CSTNode = access
            while isinstance(parent := self._parents[top], cst.Attribute) and parent.value is top:
                top = parent
                full = get_full_name_for_node(top) or ""
                now = self._names.of(full)
                is_last = not (isinstance(above := self._parents[top], cst.Attribute) and above.value is top)
                if now != full and (is_last or full in self._names.moves.names):
                    self.replaced[top] = _dotted(now)
                    if full in self._names.moves.names:
                        self.imports.add((now.rpartition(".")[0], "", ""))
                        break

    def _follow_attributes(self, node: cst.CSTNode, local: str, module: str) -> bool:
        """Rewrites uses such as `events.MemoryEvents` after `from app.core import events`.

        Returns whether no use of the module is left.
        """
        split = self._names.split_from(module)
        stays = self._names.of(module)
        accesses = self._accesses(node, local) if split else []
        for access in accesses:
            parent = self._parents[access]
            if not (isinstance(parent, cst.Attribute) and parent.value is access and parent.attr.value in split):
                continue
            name = parent.attr.value
            there, _, new_name = split[name].rpartition(".")
            if there == stays:
                self.replaced[parent] = parent.with_changes(attr=cst.Name(new_name))
                continue
            alias = f"{local}_{new_name}" if new_name in self._bound else ""
            self.imports.add((there, new_name, alias))
            self.replaced[parent] = cst.Name(alias or new_name)
        return bool(accesses) and all(isinstance(self.replaced.get(self._parents[use]), cst.Name) for use in accesses)

    def _rename_uses(self, node: cst.CSTNode, name: str, new_name: str) -> bool:
        """Renames an import's uses. Returns False if the new name is taken, or a quoted annotation uses the old one."""
        if new_name in self._bound:
            return False
        accesses = self._accesses(node, name)
        if not all(isinstance(access, cst.Name) for access in accesses):
            return False
        self.replaced.update(dict.fromkeys(accesses, cst.Name(new_name)))
        return True

    def _rename_definitions(self, top: Scope) -> None:
        for assignment in top.assignments:
            now = self._names.moves.names.get(f"{self._module}.{assignment.name}", "").rpartition(".")[2]
            if not now or now == assignment.name or type(assignment) is not Assignment:
                continue
            definition = getattr(assignment.node, "name", assignment.node)
            for used in (definition, *(access.node for access in assignment.references)):
                if isinstance(used, cst.Name):
                    self.replaced[used] = cst.Name(now)

    def _accesses(self, node: cst.CSTNode, name: str) -> list[cst.CSTNode]:
        """Returns the nodes that use a name which this import binds, each reduced to the first name in it."""
        found: list[cst.CSTNode] = []
        for scope in self._scopes:
            for assignment in scope.assignments:
                if assignment.name.split(".")[0] == name and getattr(assignment, "node", None) is node:
                    found += [_first(access.node) for access in assignment.references]
        return list(dict.fromkeys(found))

    def _absolute(self, node: cst.ImportFrom) -> str:
        base = get_full_name_for_node(node.module) if node.module else ""
        if not node.relative:
            return base or ""
        parts = self._module.split(".")
        parts = parts[: len(parts) - len(node.relative) + (1 if self._is_package else 0)]
        return ".".join([*parts, *([base] if base else [])])


class _Rewriter(cst.CSTTransformer):
    def __init__(self, plan: _Plan, names: Names) -> None:
        super().__init__()
        self._plan = plan
        self._names = names

    def leave_SimpleStatementLine(
        self, original_node: cst.SimpleStatementLine, updated_node: cst.SimpleStatementLine
    ) -> cst.SimpleStatementLine | cst.FlattenSentinel[cst.SimpleStatementLine] | cst.RemovalSentinel:
        statements: list[cst.BaseSmallStatement] = []
        for before, now in zip(original_node.body, updated_node.body, strict=True):
            statements += self._plan.statements.get(before, [now])
        if not statements:
            return cst.RemoveFromParent()
        if len(statements) == len(updated_node.body):
            return updated_node.with_changes(body=statements)
        first, *others = statements
        one = updated_node.with_changes(body=[first])
        return cst.FlattenSentinel([one, *(cst.SimpleStatementLine(body=[other]) for other in others)])

    def leave_Name(self, original_node: cst.Name, updated_node: cst.Name) -> cst.BaseExpression:
        return self._plan.replaced.get(original_node, updated_node)

    def leave_Attribute(self, original_node: cst.Attribute, updated_node: cst.Attribute) -> cst.BaseExpression:
        return self._plan.replaced.get(original_node, updated_node)

    def leave_SimpleString(self, original_node: cst.SimpleString, updated_node: cst.SimpleString) -> cst.SimpleString:
        return updated_node.with_changes(value=self._names.in_text(updated_node.value))

    def leave_FormattedStringText(
        self, original_node: cst.FormattedStringText, updated_node: cst.FormattedStringText
    ) -> cst.FormattedStringText:
        return updated_node.with_changes(value=self._names.in_text(updated_node.value))

    def leave_Comment(self, original_node: cst.Comment, updated_node: cst.Comment) -> cst.Comment:
        return updated_node.with_changes(value=self._names.in_text(updated_node.value))


def _walk(node: cst.CSTNode) -> Iterator[cst.CSTNode]:
    yield node
    for child in node.children:
        yield from _walk(child)


def _first(node: cst.CSTNode) -> cst.CSTNode:
    """Returns the first name of a dotted one."""
    while isinstance(node, cst.Attribute):
        node = node.value
    return node


def _dotted(name: str) -> cst.Attribute | cst.Name:
    head, _, last = name.rpartition(".")
    return cst.Attribute(_dotted(head), cst.Name(last)) if head else cst.Name(last)


def _import(module: str, names: Sequence[cst.ImportAlias] | cst.ImportStar) -> cst.ImportFrom:
    if not isinstance(names, cst.ImportStar):
        plain = [alias.with_changes(comma=cst.MaybeSentinel.DEFAULT) for alias in names]
        names = sorted(plain, key=lambda alias: alias.evaluated_name)
    return cst.ImportFrom(module=_dotted(module), names=names)
