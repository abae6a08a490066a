"""What a Python program calls: recipes made of arguments and objects, run as any other, and what
came out of them."""
