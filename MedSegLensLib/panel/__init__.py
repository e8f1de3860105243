"""Qt widgets of the module: thin, no numbers computed here."""
