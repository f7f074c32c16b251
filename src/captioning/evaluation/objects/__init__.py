"""What captions say of objects, compared with the objects that are known to be in an image."""
