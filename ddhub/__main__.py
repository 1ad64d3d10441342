"""Run the command line with `python -m ddhub`."""

from ddhub.cli.app import main

if __name__ == "__main__":
    main()
