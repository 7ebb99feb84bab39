"""The benchmarks use the end-to-end tests' lab."""

from __future__ import annotations

from tests.e2e.conftest import lab, lab_once

__all__ = ["lab", "lab_once"]
