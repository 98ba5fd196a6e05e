"""What bad light, a poor camera or a hand before the face does to a photograph, in five levels."""
