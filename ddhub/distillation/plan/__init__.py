"""What a run will take: its steps, their costs on this machine, and what earlier runs took."""
