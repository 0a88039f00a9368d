"""``python -m pipeline.deidentify``."""

from pipeline.deidentify import run
from pipeline.stage import main

if __name__ == "__main__":
    main("deidentify", run)
