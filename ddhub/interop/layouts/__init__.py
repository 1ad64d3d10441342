"""Layouts of other tools' sets, one file each, found by its name."""
