"""ddhub: distilled image-classification datasets as shareable artifacts.

Heavy libraries are imported by the modules that need them, never here, so that `ddhub --help` answers at once.
"""

__version__ = "0.1.0"
