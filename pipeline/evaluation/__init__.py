"""Numbers about models, and tables of them; nothing is drawn here."""
