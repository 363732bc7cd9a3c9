"""How Sphinx builds this documentation: ``make docs``."""

from __future__ import annotations

import ast
import importlib.util
import pathlib
from typing import Any

import trapline

project = "trapline"
author = "The trapline authors"
copyright = author
version = release = trapline.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc"]
exclude_patterns = ["_build"]
myst_enable_extensions = ["colon_fence", "deflist", "fieldlist"]
myst_heading_anchors = 3

html_theme = "furo"
html_title = f"trapline {version}"
html_copy_source = False
html_show_sphinx = False

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
nitpicky = False


def _stub() -> dict[str, tuple[str, str]]:
    """Return signature and text of each method of the native ``Call``, from its ``.pyi``: C has neither."""
    spec = importlib.util.find_spec("trapline")
    assert spec is not None
    assert spec.origin is not None
    tree = ast.parse((pathlib.Path(spec.origin).parent / "_native.pyi").read_text())
    found = {}
    for outer in tree.body:
        if isinstance(outer, ast.ClassDef) and outer.name == "Call":
            for one in outer.body:
                if isinstance(one, ast.FunctionDef):
                    arguments = ast.unparse(one.args).removeprefix("self, ").removeprefix("self")
                    returns = f" -> {ast.unparse(one.returns)}" if one.returns else ""
                    found[one.name] = (f"({arguments}){returns}", ast.get_docstring(one) or "")
    return found


STUB = _stub()


def _native_text(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    method = name.removeprefix("trapline.Call.")
    if method in STUB and method != name and STUB[method][1]:
        lines[:] = STUB[method][1].splitlines()


def _native_signature(
    app: Any, what: str, name: str, obj: Any, options: Any, signature: str | None, annotation: str | None
) -> tuple[str, str | None] | None:
    method = name.removeprefix("trapline.Call.")
    if method in STUB and method != name and what == "method" and not signature:
        text, _, returns = STUB[method][0].partition(" -> ")
        return text, returns or None
    return None


def setup(app: Any) -> None:
    """Let the stub speak for C."""
    app.connect("autodoc-process-docstring", _native_text)
    app.connect("autodoc-process-signature", _native_signature)
