"""The receiver's process: `python -m functions.trainings`."""

import os

from eventing import settings
from functions.trainings import function

if __name__ == "__main__":
    settings.run(function.main, os.environ)
