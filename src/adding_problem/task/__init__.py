"""The adding problem: its variants and targets, and how sequences are drawn."""
