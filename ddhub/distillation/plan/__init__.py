"""What a run will take: steps, costs here, what earlier runs took. It may import what distillation may."""
