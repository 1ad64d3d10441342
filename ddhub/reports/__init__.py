"""What results say: summaries, tables, charts, cards, pages; and whether a set is sound. It may import evaluation."""
