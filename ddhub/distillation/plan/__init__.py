"""Forecasts of a run: its work, the costs on this machine, and the record of earlier runs.

It may import what distillation may.
"""
