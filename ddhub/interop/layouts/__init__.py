"""Layouts of other tools' sets: one file each, found by its name; what a file holds says ddhub/interop/layout.py."""
