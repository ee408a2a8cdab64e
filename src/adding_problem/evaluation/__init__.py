"""Trained models scored on new sequences."""
