"""Score a trained model on full images: python evaluate.py runs/NAME"""

import sys

from segacc.config import parse_evaluate
from segacc.errors import run_program


def main() -> None:
    config = parse_evaluate(sys.argv[1:])
    from segacc.evaluation.evaluate import evaluate

    evaluate(config)


if __name__ == "__main__":
    sys.exit(run_program(main, debug="--debug" in sys.argv))
