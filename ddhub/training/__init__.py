"""Networks and their training: architectures, the loop, teachers, augmentation. It may import base and data."""
