"""Put your own Python between any program and the Linux kernel."""

from __future__ import annotations

__version__ = "0.1.0"
