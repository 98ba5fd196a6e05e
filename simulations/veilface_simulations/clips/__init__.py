"""Short clips with known faces, drawn or cut out of photographs, to train and measure detectors."""
