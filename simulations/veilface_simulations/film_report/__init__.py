"""What `veilface watch` and `veilface hide` made of a drawn film, against who really was in it."""
