"""Moving pictures: read from a stranger's file or a camera, and written."""
