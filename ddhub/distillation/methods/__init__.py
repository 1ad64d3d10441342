"""Distillation methods: one file each, found by its name; what a file holds says ddhub/distillation/method.py."""
