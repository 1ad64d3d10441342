"""Reports on results: summaries, tables, charts, cards, pages; and verification of a set. It may import evaluation."""
