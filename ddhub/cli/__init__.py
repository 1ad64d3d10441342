"""The command line, a file per group of commands. It may import api; for printing base, distillation and reports."""
