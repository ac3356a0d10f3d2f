# What __getattr__ of __init__.py finds, for type checkers and editors.
from segacc.api.evaluate import Scores as Scores
from segacc.api.evaluate import evaluate as evaluate
from segacc.api.predict import load as load
from segacc.api.predict import predict as predict
from segacc.api.train import Run as Run
from segacc.api.train import train as train
from segacc.errors import InputError as InputError
from segacc.errors import Stopped as Stopped

__version__: str
