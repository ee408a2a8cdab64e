"""Run folders: their files, formats and locks."""
