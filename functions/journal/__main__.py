"""The journal's process: `python -m functions.journal`."""

import os

from eventing import settings
from functions.journal import function

if __name__ == "__main__":
    settings.run(function.main, os.environ)
