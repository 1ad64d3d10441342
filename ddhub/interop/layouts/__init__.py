"""Layouts of other tools' sets: a file each, found by its name. ddhub/interop/layout.py is their contract."""
