"""Fine-tune a segmentation model: accelerate launch train.py --model linknet --crop 256"""

import sys

from segacc.config import parse_train
from segacc.errors import run_program


def main() -> None:
    config = parse_train(sys.argv[1:])
    from segacc.training.fit import fit

    fit(config)


if __name__ == "__main__":
    sys.exit(run_program(main, debug="--debug" in sys.argv))
