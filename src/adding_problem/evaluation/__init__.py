"""Trained models scored on test sequences."""
