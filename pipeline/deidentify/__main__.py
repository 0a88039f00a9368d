"""``python -m pipeline.deidentify``."""

import gc

from pipeline.deidentify import run
from pipeline.stage import main

if __name__ == "__main__":
    # A million small objects live until the end: looking for cycles among them takes a fifth of the pass.
    gc.disable()
    main("deidentify", run)
