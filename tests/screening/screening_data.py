"""Where the test data of screening lie; README.md there says what they are."""

from pathlib import Path

DATA = Path(__file__).parent / "data"
EXTRACT = DATA / "csl_extract.json"
