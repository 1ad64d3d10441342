"""Real images: their sources, decoding, preprocessing and classes. It may import base."""
