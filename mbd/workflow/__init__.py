"""The roof: where science and evidence meet. Training, deletion, certification, replay, as a person orders them."""
