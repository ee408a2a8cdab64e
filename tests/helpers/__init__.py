"""Code that several test files share: small runs, listeners, references, readers of pages."""
