"""How templates of tracks do on videos of people, clean and with some frames gone wrong."""
