"""Whether a set is fed to networks as it was made: input space and class order, asked of a teacher."""
