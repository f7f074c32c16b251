"""`python -m stages STAGE`: run one stage of the pipeline."""

import sys

from stages import STAGES, run

if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in STAGES:
        sys.exit(f"error: write python -m stages STAGE, with one of {', '.join(STAGES)}")
    run(sys.argv[1])
