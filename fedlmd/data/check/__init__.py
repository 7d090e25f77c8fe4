"""Look at a whole source before training: what it holds, what is wrong with it, and a contact sheet."""
