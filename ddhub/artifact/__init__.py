"""A set on disk and on the Hub: recipe, manifest, parquet, merge, push.

It may import base, data and training.
"""
