"""What `veilface` can be told to do: each module adds its commands and runs them."""
