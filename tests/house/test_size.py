"""Files of at most 300 lines, functions of at most 50 (docstrings apart) and six parameters, or a reason beside them."""

import ast

import pytest

from tests.house.source import files, name_of
from tests.house.test_docstrings import arguments

PACKAGES = ("neuromod", "tasks", "benchmarks")
FILE, FUNCTION, PARAMETERS = 300, 50, 6
REASON = "# reason:"


def too_large(source: str) -> dict[str, str]:
    """Functions over the limits without a comment ``# reason: ...`` in their signature or in the line above it."""
    lines = source.splitlines()
    found = {}
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        said = node.body[0] if ast.get_docstring(node) else None
        words = 1 + (said.end_lineno or 0) - said.lineno if said else 0
        length, count = 1 + (node.end_lineno or 0) - node.lineno - words, len(arguments(node))  # type: ignore[arg-type]
        first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
        beside = lines[max(first - 2, 0) : node.body[0].lineno]
        if (length > FUNCTION or count > PARAMETERS) and not any(REASON in line for line in beside):
            found[node.name] = f"{length} lines, {count} parameters"
    return found


def test_a_large_function_is_found_and_a_reason_is_read() -> None:
    wide = "def f(a, b, c, d, e, f, g):\n    pass\n"
    assert too_large(wide) == {"f": "2 lines, 7 parameters"}
    assert too_large(f"# reason: a table of its own\n{wide}") == {}
    assert too_large("def f():\n" + "    x = 1\n" * 50) == {"f": "51 lines, 0 parameters"}


@pytest.mark.parametrize("path", files(*PACKAGES), ids=name_of)
def test_files_and_functions_stay_short(path: object) -> None:
    source = path.read_text(encoding="utf-8")  # type: ignore[attr-defined]
    assert len(source.splitlines()) <= FILE
    assert too_large(source) == {}
