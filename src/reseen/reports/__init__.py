"""What is drawn and written of a run: figures, tables, and the page that holds them."""
