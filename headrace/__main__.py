"""`headrace`, or `python -m headrace`: the command line, which Ctrl-C ends quietly from the first moment on.

Its imports take half a second, and nothing is begun in them that would have to be undone.
"""

from __future__ import annotations

import signal


def main() -> None:
    """Entry point `headrace`."""
    heard = signal.getsignal(signal.SIGINT) is signal.default_int_handler  # a shell's background jobs ignore it
    if heard:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from headrace import cli

    if heard:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    cli.main()


if __name__ == "__main__":
    main()
