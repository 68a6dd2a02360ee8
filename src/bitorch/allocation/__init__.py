"""How sensitive a model's layers are to few bits, and which bits to give them for a budget."""
