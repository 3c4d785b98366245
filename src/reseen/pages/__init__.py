"""What every page shares: templates, style, tables, and the writer of a page that is one file."""
