"""Sets of other tools, in and out: layouts and conventions. It may import base, data, training and artifact."""
