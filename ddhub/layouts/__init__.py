"""Layouts of other tools' sets, one file each; ddhub/importing.py and ddhub/exporting.py find them by file name."""
