"""The benchmarks use the end-to-end tests' lab."""

from __future__ import annotations

from tests.e2e.conftest import _judged_no_more, judged, lab, lab_once

__all__ = ["_judged_no_more", "judged", "lab", "lab_once"]
