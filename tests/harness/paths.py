"""Where things are."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TESTS = ROOT / "tests"
DRIVERS = TESTS / "drivers"
BUILT = ROOT / "target" / "clients"
APACHE_KAFKA = ROOT / "scripts" / "apache-kafka"
FLUMEN = Path(os.environ.get("FLUMEN_BINARY", ROOT / "target" / "release" / "flumen"))
