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


def _let_stub_speak_for_c() -> None:
    """Put the methods of the native ``Call`` on the class as its ``.pyi`` has them: C has neither."""
    spec = importlib.util.find_spec("trapline")
    assert spec is not None
    assert spec.origin is not None
    tree = ast.parse((pathlib.Path(spec.origin).parent / "_native.pyi").read_text())
    future = ast.ImportFrom("__future__", [ast.alias("annotations")], 0)
    stub = next(one for one in tree.body if isinstance(one, ast.ClassDef) and one.name == "Call")
    module = ast.fix_missing_locations(ast.Module([future, stub], []))
    found: dict[str, Any] = {}
    exec(compile(module, "_native.pyi", "exec"), found)
    for name, value in vars(found["Call"]).items():
        if not name.startswith("_") and (callable(value) or isinstance(value, property)) and value.__doc__:
            setattr(trapline.Call, name, value)


_let_stub_speak_for_c()
