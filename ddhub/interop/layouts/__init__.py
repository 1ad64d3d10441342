"""Layouts of other tools' sets, one file each; ddhub/interop/importing.py and ddhub/interop/exporting.py find them by file name."""
