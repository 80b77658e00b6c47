"""The promoter's process: `python -m functions.promoter`."""

import os

from eventing import settings
from functions.promoter import function

if __name__ == "__main__":
    settings.run(function.main, os.environ)
