"""The process of a laptop's platform, `python -m headrace.local`: what `headrace up` becomes, or starts.

Until it listens to signals itself, Ctrl-C ends it at once and without a traceback: what is begun by then is taken up by
the next start, as after a `kill -9`.
"""

from __future__ import annotations

import signal
import sys

if __name__ == "__main__":
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from headrace.local import platform

    sys.exit(platform.main())
