"""Distillation methods: a file or package each, found by its name. ddhub/distillation/method.py is their contract."""
