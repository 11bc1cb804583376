"""Small changes of Python and C sources that a test should notice, see `mutants.py`.

Left out is what nobody could notice: text, messages, type hints, sizes of caches and of chunks, and in C the size of what is
allocated, which `make sanitize` watches.
"""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

OPERATORS = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult, ast.Mod: ast.FloorDiv,
    ast.Pow: ast.Mult, ast.And: ast.Or, ast.Or: ast.And, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd,
}  # fmt: skip
COMPARISONS = {
    ast.Lt: ast.GtE, ast.LtE: ast.Lt, ast.Gt: ast.LtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.Is: ast.IsNot,
    ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip
NAMES = {
    "min": "max", "max": "min", "any": "all", "all": "any", "minimum": "maximum", "maximum": "minimum", "argmin": "argmax",
    "argmax": "argmin", "sin": "cos", "cos": "sin", "ones": "zeros", "zeros": "ones", "floor": "ceil", "ceil": "floor",
}  # fmt: skip
SIZES = re.compile(r"CHUNK|BLOCK|CACHE|BATCH|_VALUES")
"""In the name of a constant: a size that changes time and memory only."""
QUIET_KEYWORDS = {
    "check_finite", "overwrite_a", "overwrite_b", "overwrite_c", "clean", "copy", "frozen", "strict", "slots",
    "stacklevel", "compression",
}  # fmt: skip
"""Of calls: checks that do not fire, copies that are spared."""
QUIET_CALLS = {"lru_cache", "Field", "warn", "print", "field", "TypeVar", "warning", "info"}
C_CHANGES = {
    " + ": " - ", " - ": " + ", " * ": " / ", " / ": " * ", " += ": " -= ", " -= ": " += ", " < ": " <= ", " <= ": " < ", " > ":
    " <= ", " >= ": " > ", " == ": " != ", " != ": " == ", " && ": " || ", " || ": " && ",
}  # fmt: skip
C_NUMBER = re.compile(r"(?<![\w.])(\d+\.\d*(?:e-?\d+)?|\d+)(?![\w.])")
C_QUIET = re.compile(
    r"alloc|aligned|memset|memcpy|round_up|size_t|sizeof|\bchar\b|^\s*(static|typedef|extern|case|return -1)\b|n_threads|printf|\""
)


@dataclass(frozen=True)
class Mutant:
    """A change of one place: characters `start` to `end` of a file become `text`.

    `code` is the line without its indentation and `column` the place in it: with `what`, they name a mutant also after lines above
    it have moved.
    """

    file: str
    line: int
    column: int
    code: str
    start: int
    end: int
    text: str
    what: str

    def of(self, source: str) -> str:
        return source[: self.start] + self.text + source[self.end :]


def python_mutants(root: Path, file: Path) -> Iterator[Mutant]:
    """All mutants of a module."""
    source = file.read_text()
    starts = [0]
    for line in source.split("\n"):
        starts.append(starts[-1] + len(line) + 1)
    lines = source.split("\n")

    def place(line: int, column: int) -> int:
        return starts[line - 1] + len(lines[line - 1].encode()[:column].decode())

    for node in noticeable(ast.parse(source)):
        start, end = place(node.lineno, node.col_offset), place(node.end_lineno, node.end_col_offset)
        before = source[start:end]
        for text in changes(node):
            code, what = lines[node.lineno - 1], f"`{one_line(before)}` -> `{one_line(text)}`"
            column = node.col_offset - len(code) + len(code.lstrip())
            yield Mutant(str(file.relative_to(root)), node.lineno, column, code.strip(), start, end, text, what)


def one_line(text: str) -> str:
    return re.sub(r"\s+", " ", text)[:90]


def noticeable(node: ast.AST) -> Iterator[ast.AST]:
    """Nodes of a tree without those that have no effect on results."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Raise | ast.JoinedStr | ast.Import | ast.ImportFrom | ast.arg):
            continue
        if isinstance(child, ast.Call) and name_of(child.func) in QUIET_CALLS:
            continue
        if isinstance(child, ast.keyword) and child.arg in QUIET_KEYWORDS:
            continue
        if isinstance(child, ast.Assign) and isinstance(child.targets[0], ast.Name) and SIZES.search(child.targets[0].id):
            continue
        if isinstance(child, ast.AnnAssign) and child.value is not None:
            yield from noticeable(ast.Expression(child.value))
            continue
        if isinstance(child, ast.AnnAssign) or child is getattr(node, "returns", None):
            continue
        if isinstance(child, ast.ClassDef) and "Protocol" in [name_of(base) for base in child.bases]:
            continue
        if isinstance(child, ast.expr | ast.Expr):
            yield child
        yield from noticeable(child)


def name_of(node: ast.AST) -> str:
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


def changes(node: ast.AST) -> list[str]:
    """Other texts for a node."""
    if isinstance(node, ast.BinOp | ast.BoolOp) and type(node.op) in OPERATORS:
        if any(isinstance(part, ast.JoinedStr) or isinstance(getattr(part, "value", None), str) for part in ast.walk(node)):
            return []
        return [f"({ast.unparse(with_field(node, op=OPERATORS[type(node.op)]()))})"]
    if isinstance(node, ast.Compare) and type(node.ops[0]) in COMPARISONS:
        return [f"({ast.unparse(with_field(node, ops=[COMPARISONS[type(node.ops[0])](), *node.ops[1:]]))})"]
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not | ast.USub):
        return [f"({ast.unparse(node.operand)})"]
    if isinstance(node, ast.Constant) and isinstance(node.value, bool):
        return [str(not node.value)]
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        return [other_number(node.value)]
    if isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Load) and name_of(node) in NAMES:
        return [re.sub(rf"{name_of(node)}$", NAMES[name_of(node)], ast.unparse(node))]
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) and name_of(node.value.func) not in QUIET_CALLS:
        return ["pass"]
    return []


def with_field(node: ast.AST, **fields) -> ast.AST:
    """A copy of a node with other fields."""
    return type(node)(**{**{name: getattr(node, name) for name in node._fields}, **fields})


def other_number(value: float) -> str:
    if isinstance(value, int):
        return str(value + 1)
    return repr(value * 1e6 if 0 < abs(value) < 1e-5 else value * 1.1 + 1e-3)


def c_mutants(root: Path, file: Path) -> Iterator[Mutant]:
    """All mutants of a file of C, in statements within functions."""
    source, start, in_comment = file.read_text(), 0, False
    for number, line in enumerate(source.split("\n"), 1):
        code = line.split("/*")[0].split("//")[0] if not in_comment else ""
        in_comment = ("/*" in line or in_comment) and "*/" not in line.rpartition("/*")[2]
        if code.startswith((" ", "\t")) and not C_QUIET.search(code):
            for before, after in C_CHANGES.items():
                for found in re.finditer(re.escape(before), code):
                    yield c_mutant(root, file, number, code, start, found.start(), found.end(), after)
            for found in C_NUMBER.finditer(code):
                whole = found[0].isdigit()
                after = str(int(found[0]) + 1) if whole else repr(float(found[0]) * 1.1 + 1e-3)
                yield c_mutant(root, file, number, code, start, found.start(), found.end(), after)
        start += len(line) + 1


def c_mutant(root, file, number, code, start, begin, end, after) -> Mutant:
    changed = code[:begin] + after + code[end:]
    what = f"`{one_line(code.strip())}` -> `{one_line(changed.strip())}`"
    return Mutant(str(file.relative_to(root)), number, begin, code.strip(), start + begin, start + end, after, what)


def all_mutants(root: Path, parts: list[str]) -> list[Mutant]:
    """Of all files in folders, or of single files, in a fixed order."""
    files = {f for part in parts for f in ((root / part).rglob("*") if (root / part).is_dir() else [root / part])}
    found: list[Mutant] = []
    for file in sorted(files):
        if file.suffix in (".py", ".c", ".h"):
            found += (python_mutants if file.suffix == ".py" else c_mutants)(root, file)
    return found
