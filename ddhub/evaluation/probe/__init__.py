"""Whether a set is fed to networks as it was made: a teacher answers. It may import what evaluation may."""
