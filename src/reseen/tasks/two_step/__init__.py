"""The competitor of person search: a detector, then re-identification of what it finds."""
