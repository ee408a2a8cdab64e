"""Training: one explicit loop, and what it needs."""
