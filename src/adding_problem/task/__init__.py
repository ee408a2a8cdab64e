"""The adding problem: its variants and targets, how sequences are drawn, and the mean baseline."""
