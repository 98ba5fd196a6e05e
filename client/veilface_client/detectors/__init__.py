"""Ways to find the faces in a photograph, a file for each; `faces.open_detector` names them."""
