"""`python -m stages STAGE`: run one stage of the pipeline; or `verify IMAGES SEED`, see `stages.verify`."""

import sys

from stages import STAGES, run

if __name__ == "__main__":
    name, *numbers = sys.argv[1:] or [""]
    verifies = name == "verify" and len(numbers) == 2 and all(number.isdecimal() for number in numbers)
    if not verifies and (name not in STAGES or numbers):
        sys.exit(f"error: write python -m stages STAGE, with one of {', '.join(STAGES)}")
    run(name)
