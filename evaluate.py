"""Score a trained model on full images: python evaluate.py runs/NAME

The same as `segacc evaluate`, which needs no checkout.
"""

import sys

from segacc.commands.training import evaluate
from segacc.errors import run_program


def main() -> int:
    return evaluate(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(run_program(main, debug="--debug" in sys.argv))
