"""What the measurements in benches/ have in common."""

import pathlib

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROGRAM = ROOT / "target/release/ocibuild"
