"""What the tests here share with others; see tests/calling.py."""

from __future__ import annotations

from calling import _leaves_nothing, calls, sys

__all__ = ["_leaves_nothing", "calls", "sys"]
