"""Real images: where they come from, how they are read, which classes they have. It may import base."""
