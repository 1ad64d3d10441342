"""Distillation methods: one file each, found by file name. A method gives `Config` and `distill(task, run)`."""
