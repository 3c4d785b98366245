"""The papers' tables and figures, and the report of a run."""
