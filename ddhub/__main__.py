"""The command `ddhub`, and `python -m ddhub`.

Before a command begins, and after it ended, Ctrl-C ends the process at once. Python's own handler would show the
traceback of an import, or exit with 1.
"""

import signal


def run() -> None:
    """Run the command line as a process of its own."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not under nohup or in a shell's background
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from ddhub.cli.app import main

    main()


if __name__ == "__main__":
    run()
