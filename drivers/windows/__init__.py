"""Windows guests: what is read from them, and what is planned for them."""
