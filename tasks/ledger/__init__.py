"""Every result as a row that finished runs wrote."""
