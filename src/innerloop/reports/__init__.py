"""Finished runs, read: tables, comparisons, charts and pages. Nothing here trains."""
