"""Where things are in this repository."""

from pathlib import Path

ROOT = Path(__file__).parents[1]
STARTER = ROOT / "models" / "starter.tar.xz"
