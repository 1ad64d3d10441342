"""The probe: a teacher checks whether a set is fed to networks as it was made. It may import what evaluation may."""
