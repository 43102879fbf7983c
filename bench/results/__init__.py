"""What rows say: loading runs, summaries, statistics, comparison, the gate, references, published numbers."""
