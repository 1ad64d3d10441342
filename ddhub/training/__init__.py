"""Networks and how they learn: architectures, the loop, teachers, augmentation. It may import base and data."""
