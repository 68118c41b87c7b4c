"""What speaks HTTP, translated from and to the values of the layers below."""
